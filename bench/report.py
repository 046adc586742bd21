"""Makes `RESULTS.md` and its plot from what was found; findings are kept in `results.json` beside it.

A later run of some gates replaces what an earlier one found of these, and keeps the rest.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import msgspec

from bench.measure import Finding

PLOT: Final = "results.svg"
GOOD: Final = "#2a7f62"
BAD: Final = "#b3423a"
LEAST: Final = 1 / 8
MOST: Final = 16.0
TICKS: Final = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)

INTRODUCTION: Final = """\
# How fast Muster is

Made by `python -m bench`; [README.md](README.md) says what is measured and how.  Each figure is the median of its
runs, with the lowest and the highest in brackets.  A ratio is the median of the ratios pair by pair: floor and
subject ran in turns, each on a fresh nats-server with the same settings.

"""


class Results(msgspec.Struct, kw_only=True):
    """Everything that the report is made from."""

    machine: dict[str, str] = {}
    findings: list[Finding] = []


def load(path: Path) -> Results:
    """What earlier runs found."""
    return msgspec.json.decode(path.read_bytes(), type=Results) if path.exists() else Results()


def merged(before: Sequence[Finding], now: Sequence[Finding], gates: frozenset[str]) -> list[Finding]:
    """The new findings, and the earlier ones of other gates; G9 goes with the gate that it is about."""

    def about(finding: Finding) -> str:
        return finding.what.split()[0] if finding.gate == "G9" else finding.gate

    kept = [finding for finding in before if about(finding) not in gates]
    return sorted([*kept, *now], key=lambda finding: int(finding.gate[1:]))


def write(results: Results, out: Path) -> None:
    """The JSON, the plot and the page."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_name("results.json").write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")
    is_plotted = plot(results.findings, out.with_name(PLOT))
    out.write_text(page(results, is_plotted=is_plotted))


def page(results: Results, *, is_plotted: bool) -> str:
    """The whole page."""
    machine = "".join(f"| {name} | {text} |\n" for name, text in results.machine.items())
    parts = [INTRODUCTION, f"| machine | |\n| --- | --- |\n{machine}\n"]
    if is_plotted:
        parts.append(f"![Each figure against what was asked]({PLOT})\n\n")
    for gate, findings in groupby(results.findings, key=lambda finding: finding.gate):
        parts.append(f"## {gate}\n\n| | ours | floor | ratio | asked | |\n| --- | --- | --- | --- | --- | --- |\n")
        listed = list(findings)
        parts += [row(finding) for finding in listed]
        parts.append("\n" + "".join(f"{finding.what}: {finding.note}.\n\n" for finding in listed if finding.note))
    return "".join(parts).rstrip() + "\n"


def row(finding: Finding) -> str:
    """One line of a table."""
    floor = f"{spread(finding.floor, finding.unit)}: {finding.against}" if finding.floor else ""
    ratio = f"{statistics.median(finding.ratios):.2f}" if finding.floor else ""
    verdict = "" if str(finding.goal) == "shown" else "met" if finding.is_met else "**missed**"
    ours = spread(finding.ours, finding.unit)
    return f"| {finding.what} | {ours} | {floor} | {ratio} | {finding.goal} | {verdict} |\n"


def spread(values: Sequence[float], unit: str) -> str:
    """`5,700 orders/s (5,512 to 5,803)`."""
    low, middle, high = (number(value) for value in (min(values), statistics.median(values), max(values)))
    return f"{middle} {unit}" + (f" ({low} to {high})" if low != high else "")


def number(value: float) -> str:
    """With as many digits as say something."""
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def plot(findings: Sequence[Finding], path: Path) -> bool:
    """A bar a judged figure: how far it is beyond what was asked; False without matplotlib."""
    try:
        import matplotlib as mpl
    except ImportError:
        return False
    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "muster", "svg.fonttype": "none"})  # the same figures, the same file
    from matplotlib import pyplot as plt

    judged = [finding for finding in findings if str(finding.goal) != "shown" and finding.gate != "G9"]
    if not judged:
        return False
    figure, axes = plt.subplots(figsize=(10, 0.36 * len(judged) + 1.1))
    shares = [share(finding) for finding in judged]
    titles = [f"{finding.gate} {finding.what}" for finding in judged]
    bars: Any = axes.barh(titles, shares, color=[GOOD if finding.is_met else BAD for finding in judged])
    axes.bar_label(bars, [label(finding) for finding in judged], padding=4, fontsize=8)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_ylim(len(judged) - 0.4, -0.6)
    axes.set_xscale("log", base=2)
    axes.set_xlim(LEAST, MOST * 4)
    axes.set_xticks(TICKS, [f"{tick:g}" for tick in TICKS])
    axes.set_xlabel("how far beyond what was asked: 1 is just as asked, further right is better", fontsize=8)
    axes.tick_params(labelsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    return True


def label(finding: Finding) -> str:
    """`0.62x (asked: >= 0.5)`."""
    return f"{number(finding.judged)}{'x' if finding.floor else ' ' + finding.unit} (asked: {finding.goal})"


def share(finding: Finding) -> float:
    """How many times better than asked, as far as it can be drawn."""
    goal, value = finding.goal, max(finding.judged, 1e-9)
    found = value / goal.least if goal.least is not None else (goal.most or 0.0) / value
    return min(max(found, LEAST * 1.1), MOST)
