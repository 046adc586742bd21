"""What must be true of every record type, state and event: a new one without its share fails here."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import get_args

import pytest

from muster.blueprints.objects.base import Manifest, ObjectKind
from muster.broker import state
from muster.broker.state import aggregate, topics
from muster.broker.state.aggregate import Aggregate, aggregates, rules
from muster.broker.state.table import TABLE
from muster.broker.state.waiting import REASONS
from muster.mesh import records
from muster.mesh.events import KINDS
from muster.mesh.model import FINAL_STATES, OrderState
from muster.mesh.waiting import Waiting

ROOM = Path(str(state.__file__)).parent


@pytest.mark.parametrize("kind", get_args(records.AnyRecord), ids=lambda kind: kind.__name__)
def test_every_record_has_one_handler_and_a_story(kind: type[records.Record]) -> None:
    assert len([it for it in aggregates() if kind in it.handlers]) == 1
    assert kind.__doc__
    assert kind.__doc__ != records.Record.__doc__


@pytest.mark.parametrize("order_state", OrderState)
def test_every_state_has_a_story_and_an_event(order_state: OrderState) -> None:
    row = TABLE[order_state]
    assert row.meaning
    assert row.entered_by
    assert row.crash
    assert f"order.{order_state}" in KINDS


def test_what_ended_only_goes_on_by_a_retry() -> None:
    for order_state in FINAL_STATES:
        assert TABLE[order_state].leads_to <= {OrderState.QUEUED}


def test_every_state_can_be_reached_and_left() -> None:
    reached = {OrderState.QUEUED}.union(*(row.leads_to for row in TABLE.values()))
    assert reached == set(OrderState)
    for order_state in set(OrderState) - FINAL_STATES:
        assert TABLE[order_state].leads_to


TOPICS = {value for name, value in vars(topics).items() if name.isupper()}
RECORDS = {kind.__name__ for kind in get_args(records.AnyRecord)}


@pytest.mark.parametrize("variant", get_args(Waiting), ids=lambda variant: variant.__name__)
def test_every_reason_to_wait_has_words_an_end_and_a_releaser(variant: type[Waiting]) -> None:
    reason = REASONS[variant]
    assert reason.code
    assert reason.meaning
    assert reason.ends
    assert reason.released_by, "nothing would ever release an order that waits so"
    assert set(reason.released_by) <= TOPICS | RECORDS


def test_no_reason_to_wait_is_left_over() -> None:
    assert set(REASONS) == set(get_args(Waiting))
    assert len({reason.code for reason in REASONS.values()}) == len(REASONS)


def test_every_rule_looks_at_a_topic_that_there_is() -> None:
    assert set(rules()) <= TOPICS


@pytest.mark.parametrize("path", sorted(ROOM.glob("*.py")), ids=lambda path: path.name)
def test_the_state_machine_has_no_clock_no_chance_and_no_io(path: Path) -> None:
    forbidden = {"asyncio", "nats", "time", "random", "secrets", "os", "socket", "sqlite3", "pathlib", "structlog"}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            assert not {alias.name.split(".")[0] for alias in node.names} & forbidden
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            assert module.split(".")[0] not in forbidden
            if module.startswith("muster."):
                assert module.split(".")[1] in {"mesh", "blueprints"} or module.startswith("muster.broker.state")
        elif isinstance(node, ast.Attribute):
            assert node.attr not in {"now", "utcnow", "today"}, f"{path.name}:{node.lineno} reads a clock"


def test_no_package_replaces_what_a_record_does(monkeypatch: pytest.MonkeyPatch) -> None:
    rival = Aggregate(name="rival", handlers={records.Joined: lambda _step, _record: None})
    monkeypatch.setattr(aggregate, "aggregates", lambda: (*aggregates(), rival))
    with pytest.raises(TypeError, match="rival registers Joined once more"):
        aggregate.handlers.__wrapped__()


def test_a_kind_is_named_in_the_singular() -> None:
    with pytest.raises(ValueError, match="without a final s"):
        ObjectKind(kind="bus", manifest=Manifest, check=lambda _manifest, _catalog: ())
