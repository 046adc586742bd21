"""What the state machine decides about firings, record by record."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from muster.broker.state.apply import apply
from muster.broker.state.changes import Changes
from muster.broker.state.world import World
from muster.mesh import names, records
from muster.mesh.caller import Caller
from muster.mesh.firing import FiringState
from muster.mesh.model import OrderState
from tests.kit.manifests import applied

START = datetime(2026, 1, 1, tzinfo=UTC)


class Book:
    """A log, and the state machine that reads it."""

    def __init__(self) -> None:
        self.state = World()
        self.seq = 0
        self.now = START
        machines = [{"kind": "machine", "name": name} for name in "abc"]
        self.write(applied((*machines,)))

    def write(self, record: records.Record, actor: str = names.BROKER) -> Changes:
        self.seq += 1
        self.now += timedelta(seconds=1)
        return apply(self.state, self.seq, self.now, records.subject(record, actor), records.encode(record))

    def trigger(self, **fields: Any) -> Changes:
        manifest = {"kind": "trigger", "name": "t", "provider": "x", "blueprint": "b", "target": {"on": "a"}, **fields}
        return self.write(applied((manifest,)))

    def fire(self, ident: str, *elements: str, **fields: Any) -> Changes:
        """Fires it for elements, each perhaps with the key of its item: `a:main`."""
        parted = [name.partition(":") for name in elements or "a"]
        planned = tuple(
            records.Planned(id=f"{ident}{name}", element=name, group=group or None) for name, _, group in parted
        )
        return self.write(
            records.Fired(id=ident, trigger="t", version=1, by=Caller(name="test"), orders=planned, **fields)
        )

    def cancel(self, order: str) -> Changes:
        return self.write(records.CancelRequested(order=order, by=Caller(name="test")))

    def states(self) -> dict[str, str]:
        """Open orders: offered, or why they wait."""
        return {ident: order.reason or str(order.state) for ident, order in self.state.orders.items()}


def test_orders_beyond_max_open_go_one_by_one_the_oldest_first() -> None:
    book = Book()
    book.trigger(max_open=1)
    for ident in ("one", "two", "three"):
        book.fire(ident)
    assert book.states() == {"onea": "offered", "twoa": "overlap", "threea": "overlap"}
    changes = book.cancel("onea")
    assert [event.kind for event in changes.events] == ["order.cancelled", "order.offered"]
    assert book.states() == {"twoa": "offered", "threea": "overlap"}


def test_an_order_that_waits_for_its_element_does_not_hold_up_others() -> None:
    book = Book()
    book.trigger(max_open=1)
    book.write(records.DrainChanged(element="a", drained=True, by=Caller(name="test")))
    book.fire("one", "a", "b", "c")
    assert book.states() == {"onea": "drained", "oneb": "offered", "onec": "overlap"}
    book.write(records.DrainChanged(element="a", drained=False, by=Caller(name="test")))
    assert book.states() == {"onea": "overlap", "oneb": "offered", "onec": "overlap"}


def test_an_order_cancelled_before_it_began_takes_no_room_while_it_waits_for_its_children() -> None:
    book = Book()
    book.trigger(max_open=1)
    book.fire("one")
    book.fire("two")
    child = records.Created(
        order="child", parent="twoa", element="b", blueprint="b", version=1, digest="d", by=Caller(name="test")
    )
    book.write(child)
    book.cancel("twoa")
    assert book.state.orders["twoa"].state is OrderState.CANCELLING
    book.cancel("onea")
    book.fire("three")
    assert book.states()["threea"] == "offered"


def test_an_order_that_was_lost_or_waited_keeps_its_room() -> None:
    book = Book()
    book.trigger(max_open=1)
    book.fire("one")
    book.fire("two")
    book.write(records.Claimed(order="onea", attempt=1, element="a", agent="x"), "a")
    book.write(records.Suspended(order="onea", attempt=1, jobs=(), until=START), "a")
    assert book.states()["twoa"] == "overlap"
    book.write(records.Due(order="onea"))
    assert book.states() == {"onea": "offered", "twoa": "overlap"}


def test_a_higher_limit_lets_more_in_at_once() -> None:
    book = Book()
    book.trigger(max_open=1)
    book.fire("one", "a", "b", "c")
    book.trigger(max_open=2)
    assert sorted(book.states().values()) == ["offered", "offered", "overlap"]
    book.trigger()
    assert set(book.states().values()) == {"offered"}


def test_the_limit_of_a_deleted_trigger_holds_until_its_orders_are_through() -> None:
    book = Book()
    book.trigger(max_open=1)
    book.fire("one", "a", "b")
    book.write(records.Deleted(id="x", object_kind="trigger", name="t", by=Caller(name="test")))
    assert sorted(book.states().values()) == ["offered", "overlap"]
    book.cancel("onea")
    assert book.states() == {"oneb": "offered"}
    changes = book.cancel("oneb")
    assert changes.things == {("trigger", "t"): None}
    assert not book.state.lanes.rules


def test_only_as_many_orders_are_replaced_as_have_to_go() -> None:
    book = Book()
    book.trigger(max_open=2, on_overlap="replace")
    book.fire("one")
    book.fire("two")
    book.fire("three")
    assert book.states() == {"twoa": "offered", "threea": "offered"}
    book.write(records.Claimed(order="twoa", attempt=1, element="a", agent="x"), "a")
    book.fire("four", "a", "b")
    assert book.state.orders["twoa"].state is OrderState.CANCELLING
    assert sorted([book.states()["foura"], book.states()["fourb"]]) == ["offered", "overlap"]


def test_a_cooldown_counts_from_the_last_firing_that_made_orders() -> None:
    book = Book()
    book.trigger(cooldown="3s")
    outcomes = [book.fire("one", rejected="no").firings["one"].state]
    outcomes += [book.fire(ident).firings[ident].state for ident in ("two", "three", "four")]
    fired, skipped, rejected = FiringState.FIRED, FiringState.SKIPPED, FiringState.REJECTED
    assert outcomes == [rejected, fired, skipped, skipped]
    assert book.fire("five").firings["five"].state is fired


def test_a_cooldown_does_not_last_longer_because_the_server_s_clock_was_set_back() -> None:
    book = Book()
    book.trigger(cooldown="30s")
    book.fire("one")
    book.now -= timedelta(hours=1)
    assert [book.fire(ident).firings[ident].state for ident in ("two", "three")] == [
        FiringState.FIRED,
        FiringState.SKIPPED,
    ]


def test_a_firing_of_a_trigger_that_was_deleted_meanwhile_is_rejected() -> None:
    book = Book()
    firing = book.fire("one").firings["one"]
    assert (firing.state, firing.orders) == (FiringState.REJECTED, ())
    assert "deleted" in firing.reason
    assert not list(book.state.trigger_statuses)


def test_late_ticks_do_not_turn_the_clock_back() -> None:
    book = Book()
    book.trigger()
    for hour in (1, 3, 2):
        book.fire(f"at{hour}", due=START + timedelta(hours=hour))
    assert book.state.trigger_statuses.of("t").last_due == START + timedelta(hours=3)


def counts(book: Book) -> tuple[datetime | None, datetime | None]:
    """From when the trigger's schedule and its settings count."""
    stored = book.state.objects.stored["trigger", "t"]
    return stored.begun_at, stored.active_at


def test_a_schedule_counts_from_its_own_last_change_only() -> None:
    book = Book()
    book.trigger(**{"with": {"every": "1h"}})
    first = book.now
    book.trigger(**{"with": {"every": "1h"}}, summary="another", max_open=2, labels={"a": "b"})
    book.trigger(**{"with": {"every": "1h"}}, blueprint="b2")
    assert counts(book) == (first, first)
    book.trigger(**{"with": {"every": "1h", "missed": "all", "jitter": "5s"}})
    assert counts(book) == (first, book.now)
    book.trigger(**{"with": {"every": "2h"}})
    assert counts(book) == (book.now, book.now)
    book.trigger(**{"with": {"every": "2h"}}, provider="y")
    assert counts(book) == (book.now, book.now)


def test_what_goes_by_while_a_trigger_is_disabled_does_not_count_but_its_schedule_goes_on() -> None:
    book = Book()
    book.trigger(**{"with": {"every": "1h"}})
    first = book.now
    book.trigger(**{"with": {"every": "1h"}}, enabled=False)
    book.trigger(**{"with": {"every": "1h"}})
    assert counts(book) == (first, book.now)
    book.write(records.Deleted(id="x", object_kind="trigger", name="t", by=Caller(name="test")))
    book.trigger(**{"with": {"every": "1h"}})
    assert counts(book) == (book.now, book.now)
