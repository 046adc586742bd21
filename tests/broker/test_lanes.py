"""What `key` makes of `cooldown` and `max_open`: each counts in a lane of its own."""

from __future__ import annotations

from datetime import timedelta

import pytest

from muster.broker.state import trigger_status
from muster.broker.state.changes import Changes
from muster.broker.state.trigger_status import TriggerStatus
from muster.mesh import records
from muster.mesh.caller import Caller
from muster.mesh.firing import FiringState
from tests.broker.test_firing_state import Book

FIRED, SKIPPED = FiringState.FIRED, FiringState.SKIPPED


def outcome(changes: Changes) -> FiringState:
    (firing,) = changes.firings.values()
    return firing.state


def trigger_statuses(changes: Changes) -> dict[str, object]:
    return {ident: changes.things["trigger", ident] for ident in changes.ids("trigger")}


def lanes(book: Book) -> list[str]:
    return sorted(it.name for it in book.state.trigger_statuses if "/" in it.name)


def test_a_cooldown_counts_for_each_key_apart() -> None:
    book = Book()
    book.trigger(cooldown="30s", key="event.x")
    outcomes = [outcome(book.fire(ident, group=key)) for ident, key in (("1", "main"), ("2", "dev"), ("3", "main"))]
    assert outcomes == [FIRED, FIRED, SKIPPED]
    book.now += timedelta(seconds=28)  # and one for each record
    assert [outcome(book.fire(ident, group="dev")) for ident in ("4", "5")] == [FIRED, SKIPPED]


def test_max_open_counts_for_each_key_apart() -> None:
    book = Book()
    book.trigger(max_open=1, key="event.x")
    for ident, key in (("1", "main"), ("2", "dev"), ("3", "main")):
        book.fire(ident, group=key)
    assert book.states() == {"1a": "offered", "2a": "offered", "3a": "overlap"}
    assert book.state.orders["3a"].group == "main"
    assert book.state.lanes.count("trigger/t") == 3
    book.cancel("2a")
    assert book.states() == {"1a": "offered", "3a": "overlap"}
    book.cancel("1a")
    assert book.states() == {"3a": "offered"}
    book.cancel("3a")
    assert book.state.lanes.count("trigger/t") == 0


def test_skip_and_replace_concern_orders_of_the_same_key_only() -> None:
    book = Book()
    book.trigger(max_open=1, on_overlap="skip", key="event.x")
    outcomes = [outcome(book.fire(ident, group=key)) for ident, key in (("1", "main"), ("2", "dev"), ("3", "dev"))]
    assert outcomes == [FIRED, FIRED, SKIPPED]
    book.trigger(max_open=1, on_overlap="replace", key="event.x")
    assert outcome(book.fire("4", group="dev")) is FIRED
    assert book.states() == {"1a": "offered", "4a": "offered"}


def test_a_limit_that_changes_holds_in_every_lane() -> None:
    book = Book()
    book.trigger(max_open=1, key="event.x")
    for ident, key in (("1", "main"), ("2", "main"), ("3", "dev"), ("4", "dev")):
        book.fire(ident, group=key)
    book.trigger(max_open=2, key="event.x")
    assert set(book.states().values()) == {"offered"}


def test_items_whose_key_must_wait_are_left_out_and_the_others_are_made() -> None:
    book = Book()
    book.trigger(cooldown="30s", key="item", each="event.x")
    book.fire("1", "a:x", "b:y")
    firing = book.fire("2", "a:y", "b:z", "c:x").firings["2"]
    assert (firing.state, firing.orders) == (FIRED, ("2b",))
    assert firing.reason.startswith("2 of 3 orders were skipped: cooldown")
    assert outcome(book.fire("3", "a:y", "b:z")) is SKIPPED


def test_lanes_are_forgotten_once_their_cooldown_is_over() -> None:
    book = Book()
    book.trigger(cooldown="3s", key="event.x")
    for number in range(10):
        book.fire(str(number), group=str(number))
    assert lanes(book) == ["t/7", "t/8", "t/9"]
    gone = book.fire("x", group="x").things
    assert (gone["trigger", "t/7"], gone["trigger", "t/x"]) == (None, TriggerStatus(name="t/x", last_fired=book.now))


def test_no_more_lanes_are_remembered_than_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trigger_status, "MOST_LANES", 2)
    book = Book()
    book.trigger(cooldown="1h", key="event.x")
    for key in "abcd":
        book.fire(key, group=key)
    assert lanes(book) == ["t/c", "t/d"]
    assert [outcome(book.fire(f"again-{key}", group=key)) for key in "da"] == [SKIPPED, FIRED]


def test_lanes_go_with_their_trigger_and_with_its_cooldown() -> None:
    book = Book()
    book.trigger(cooldown="1h", key="event.x")
    book.fire("1", group="main")
    assert trigger_statuses(book.trigger(key="event.x", max_open=1)) == {"t/main": None}
    book.trigger(cooldown="1h", key="event.x")
    book.fire("2", group="main")
    changes = book.write(records.Deleted(id="x", object_kind="trigger", name="t", by=Caller(name="test")))
    assert trigger_statuses(changes) == {"t": None, "t/main": None}
    assert lanes(book) == []
