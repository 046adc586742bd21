"""What `debounce` makes of a burst, record by record."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec
import pytest

from muster.broker.state import bursts
from muster.broker.state.changes import Changes
from muster.mesh import records
from muster.mesh.caller import Caller
from muster.mesh.firing import Firing, FiringState
from tests.broker.test_firing_state import START, Book

FIRED, SKIPPED, REJECTED = FiringState.FIRED, FiringState.SKIPPED, FiringState.REJECTED
PENDING, SUPERSEDED = FiringState.PENDING, FiringState.SUPERSEDED


def wait(book: Book, ident: str, group: str | None = None, quiet: float = 10, at_most: float = 100) -> Changes:
    record = records.Fired(
        id=ident,
        trigger="t",
        version=1,
        by=Caller(name="test"),
        group=group,
        quiet=quiet,
        at_most=at_most,
        event=msgspec.Raw(b'{"id": "%s"}' % ident.encode()),
    )
    return book.write(record)


def settle(book: Book, ident: str, group: str | None = None) -> Changes:
    return book.fire(ident, group=group, settles=True)


def states(changes: Changes) -> dict[str, FiringState]:
    return {firing.id: firing.state for firing in changes.firings.values()}


def pending(book: Book) -> dict[str, datetime]:
    return dict(book.state.trigger_statuses.pending)


def at(seconds: int) -> datetime:
    return START + timedelta(seconds=seconds)


def test_the_last_of_a_burst_makes_the_orders_and_the_others_say_which_that_is() -> None:
    book = Book()
    book.trigger(debounce="10s")  # the second record; each is a second later
    assert states(wait(book, "one")) == {"one": PENDING}
    assert pending(book) == {"t": at(13)}
    changes = wait(book, "two")
    assert states(changes) == {"one": SUPERSEDED, "two": PENDING}
    assert (changes.firings["one"].superseded_by, changes.firings["one"].seq) == ("two", 3)
    assert [event.kind for event in changes.events] == ["firing.superseded", "firing.pending"]
    assert pending(book) == {"t": at(14)}
    assert settle(book, "one").refused is not None
    changes = settle(book, "two")
    firing = changes.firings["two"]
    assert (firing.state, firing.orders, firing.time, firing.until) == (FIRED, ("twoa",), at(4), None)
    assert (bytes(firing.event), firing.seq) == (b'{"id": "two"}', 4)
    assert book.states() == {"twoa": "offered"}
    assert pending(book) == {}
    assert settle(book, "two").refused is not None


def test_a_burst_without_end_makes_orders_at_the_latest_after_at_most() -> None:
    book = Book()
    book.trigger(debounce="10s")
    for number in range(20):
        wait(book, str(number), at_most=12)
        if number >= 12:
            assert pending(book) == {"t": at(15)}  # the first one came in the third second
    idents = [each.id for each in book.state.trigger_statuses.of("t").pending]
    assert idents == ["11", "19"]  # one that comes after its burst's end is of the next burst
    assert states(settle(book, "11")) == {"11": FIRED}
    assert pending(book) == {"t": at(27)}
    assert states(settle(book, "19")) == {"19": FIRED}


def test_each_key_has_a_burst_of_its_own() -> None:
    book = Book()
    book.trigger(debounce="10s", key="event.x")
    for ident, key in (("1", "main"), ("2", "dev"), ("3", "main")):
        wait(book, ident, key)
    assert pending(book) == {"t/dev": at(14), "t/main": at(15)}
    assert states(settle(book, "3", "main")) == {"3": FIRED}
    assert settle(book, "2", "main").refused is not None
    assert [it.name for it in book.state.trigger_statuses] == ["t/dev", "t"]


def test_cooldown_and_max_open_count_when_the_burst_is_over() -> None:
    book = Book()
    book.trigger(debounce="10s", max_open=1, on_overlap="skip")
    wait(book, "one")
    settle(book, "one")
    wait(book, "two")
    assert states(settle(book, "two")) == {"two": SKIPPED}


def test_what_cannot_become_orders_in_the_end_is_rejected_with_the_reason() -> None:
    book = Book()
    book.trigger(debounce="10s")
    wait(book, "one")
    changes = book.write(
        records.Fired(id="one", trigger="t", version=1, by=Caller(name="test"), settles=True, rejected="no")
    )
    assert (states(changes), changes.firings["one"].reason) == ({"one": REJECTED}, "no")
    wait(book, "two")
    book.trigger(debounce="10s", enabled=False)
    assert states(settle(book, "two")) == {"two": REJECTED}


def test_what_is_pending_is_rejected_when_its_trigger_is_deleted() -> None:
    book = Book()
    book.trigger(debounce="10s", key="event.x")
    wait(book, "one", "main")
    changes = book.write(records.Deleted(id="x", object_kind="trigger", name="t", by=Caller(name="test")))
    assert states(changes) == {"one": REJECTED}
    assert "deleted while it was pending" in changes.firings["one"].reason
    assert (list(book.state.trigger_statuses), pending(book)) == ([], {})
    assert book.state.trigger_statuses.pending_bytes == 0
    assert settle(book, "one", "main").refused is not None


def test_a_rejected_event_ends_no_burst() -> None:
    book = Book()
    book.trigger(debounce="10s")
    wait(book, "one")
    assert states(book.fire("two", rejected="no")) == {"two": REJECTED}
    assert pending(book) == {"t": at(13)}


def test_no_more_may_be_pending_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bursts, "MOST_PENDING", 3000)
    book = Book()
    book.trigger(debounce="10s", key="event.x")
    outcomes = [states(wait(book, ident, ident))[ident] for ident in "abc"]
    assert outcomes == [PENDING, PENDING, REJECTED]
    settle(book, "a", "a")
    assert states(wait(book, "d", "d")) == {"d": PENDING}


def test_a_firing_that_is_pending_says_until_when() -> None:
    book = Book()
    book.trigger(debounce="10s")
    firing: Firing = wait(book, "one").firings["one"]
    assert firing.until == at(13)
    assert "at 2026-01-01T00:00:13Z, unless another event" in firing.reason
