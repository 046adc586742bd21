"""What the benchmarks make of their figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import report
from bench.audit import Audit, marks
from bench.measure import Finding, Goal, percentile


def finding(gate: str = "G1", what: str = "orders", **more: object) -> Finding:
    given = {"gate": gate, "what": what, "unit": "orders/s", "ours": [60.0, 50.0, 80.0], **more}
    return Finding(**given)  # type: ignore[arg-type]


def test_a_figure_is_compared_with_the_floor_that_ran_beside_it() -> None:
    found = finding(floor=[100.0, 50.0, 100.0])
    assert found.ratios == [0.6, 1.0, 0.8]
    assert found.judged == 0.8


@pytest.mark.parametrize(
    ("goal", "is_met"),
    [(Goal(least=60), True), (Goal(least=61), False), (Goal(most=60), True), (Goal(most=59), False), (Goal(), True)],
)
def test_without_a_floor_the_median_is_judged(goal: Goal, is_met: bool) -> None:
    assert finding(goal=goal).is_met is is_met


@pytest.mark.parametrize(("share", "value"), [(0.5, 50), (0.99, 99), (1.0, 100), (0.0, 1)])
def test_a_percentile_is_one_of_the_values(share: float, value: float) -> None:
    assert percentile([float(number) for number in range(100, 0, -1)], share) == value


def test_a_later_run_replaces_its_own_gates_and_keeps_the_others() -> None:
    before = [finding("G1", "old"), finding("G3", "kept"), finding("G9", "G1 old"), finding("G9", "G3 kept")]
    now = [finding("G1", "new"), finding("G9", "G1 new")]
    found = report.merged(before, now, frozenset({"G1"}))
    assert [one.what for one in found] == ["new", "kept", "G3 kept", "G1 new"]


def test_results_can_be_read_again(tmp_path: Path) -> None:
    results = report.Results(machine={"processor": "some"}, findings=[finding(goal=Goal(least=1))])
    report.write(results, tmp_path / "RESULTS.md")
    assert report.load(tmp_path / "results.json") == results
    assert "| orders | 60 orders/s (50 to 80) |" in (tmp_path / "RESULTS.md").read_text()


def test_an_order_that_was_started_twice_is_reported() -> None:
    found = Audit(sent=2, recorded=2, finished=2, first_attempts=1, starts=3, most_starts=2, ends=2, created=2)
    assert (found.beyond_one(), found.lost(), found.differences()) == (1, 0, 2)


def test_a_lost_order_and_its_double_do_not_make_up_for_each_other() -> None:
    found = Audit(sent=2, recorded=1, finished=1, first_attempts=1, starts=2, most_starts=2, ends=1, created=1)
    assert (found.beyond_one(), found.lost()) == (1, 1)


def test_traces_report_a_task_that_ran_again(tmp_path: Path) -> None:
    (tmp_path / "marks").write_text("a\nb\na\n")
    assert (marks(tmp_path / "marks", 3).tasks, marks(tmp_path / "marks", 3).orders) == (3, 2)
