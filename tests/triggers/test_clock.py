"""The clock: each due time once, none lost, for any behaviour of the wall clock and the broker."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest

from muster.mesh.errors import InvalidError, NotFoundError, UnavailableError
from muster.mesh.firing import FireReply, FireRequest
from muster.triggers.clock import YIELD_EVERY, Clock, delay
from muster.triggers.providers.cron import Cron
from muster.triggers.ticks import MAX_CONCURRENT, Entry, Ticks
from tests.kit.waiting import eventually
from tests.triggers.clock_stand_in import (
    EACH_MINUTE,
    NOON,
    Broker,
    Hands,
    at,
    fired,
    no_pause,
    running,
    trigger,
)

EACH_SECOND: dict[str, Any] = {"cron": "* * * * * *"}


async def test_a_due_time_is_fired_once() -> None:
    hands, broker = Hands(), Broker()
    async with running(hands, broker, trigger(**EACH_MINUTE)):
        await hands.move(seconds=59)
        assert broker.times() == []
        await hands.move(seconds=1)
        await fired(broker, "12:01:00")
        await hands.move(seconds=30)
        await hands.move(seconds=30)
        await fired(broker, "12:01:00", "12:02:00")


async def test_what_is_fired_says_when_it_was_due() -> None:
    hands, broker = Hands(), Broker()
    settings: dict[str, Any] = {"cron": "0 14 * * *", "timezone": "Europe/Berlin"}
    async with running(hands, broker, trigger("night", version=3, **settings)):
        await hands.move(hours=1)
        await eventually(lambda: broker.asked)
    (request,) = broker.asked
    assert (request.trigger, request.version, request.key) == ("night", 3, "2030-01-31T14:00:00[Europe/Berlin]")
    assert request.due == at("13:00:00")
    assert request.event == {
        "provider": "cron",
        "kind": "tick",
        "id": "2030-01-31T14:00:00[Europe/Berlin]",
        "time": "2030-01-31T13:00:00Z",
        "body": {},
        "headers": {},
        "local": "2030-01-31T14:00:00+01:00",
        "timezone": "Europe/Berlin",
    }


async def test_triggers_of_other_kinds_do_not_concern_it() -> None:
    hands, broker = Hands(), Broker()
    async with running(hands, broker, trigger(provider="webhook", auth="none")) as clock:
        assert len(clock) == 0


@pytest.mark.parametrize(
    ("missed", "expected"),
    [
        ({"missed": "skip"}, []),
        ({"missed": "once"}, ["11:59:00"]),
        ({"missed": "all"}, ["11:57:00", "11:58:00", "11:59:00"]),
        ({"missed": "all", "missed_limit": 2}, ["11:58:00", "11:59:00"]),
    ],
)
async def test_missed_times_fire_by_policy(missed: dict[str, Any], expected: list[str]) -> None:
    hands, broker = Hands(at("11:59:30")), Broker()
    broker.log = {"tick": at("11:56:00")}
    async with running(hands, broker, trigger(applied=at("08:00:00"), **EACH_MINUTE, **missed)):
        await fired(broker, *expected)
        await hands.move(seconds=30)
        await fired(broker, *expected, "12:00:00")


async def test_a_schedule_that_cannot_compute_missed_times_fires_the_next_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    hands, broker = Hands(), Broker()

    def bug(*_: object) -> list[datetime]:
        raise OverflowError

    monkeypatch.setattr("muster.triggers.clock.to_fire", bug)
    async with running(hands, broker, trigger(applied=at("08:00:00"), **EACH_MINUTE)):
        await hands.move(minutes=1)
        await fired(broker, "12:01:00")
        await hands.move(minutes=10)
        await fired(broker, "12:01:00", "12:11:00")


async def test_nothing_before_a_trigger_was_applied_was_missed() -> None:
    hands, broker = Hands(), Broker()
    async with running(hands, broker, trigger(applied=NOON - timedelta(seconds=10), missed="all", **EACH_MINUTE)):
        await fired(broker, "12:00:00")


async def test_the_log_is_asked_page_by_page_and_until_it_answers() -> None:
    hands, broker = Hands(at("11:59:30")), Broker()
    names = [f"t{number}" for number in range(5)]
    broker.log, broker.pages = dict.fromkeys(names, at("11:59:00")), 2
    async with running(hands, broker, *(trigger(name, applied=at("08:00:00"), **EACH_MINUTE) for name in names)):
        await hands.move(seconds=30)
        await eventually(lambda: len(broker.taken) == 5)
    assert {due for _, due in broker.taken} == {NOON}


async def test_a_clock_that_is_set_back_fires_no_time_twice_and_goes_on() -> None:
    hands, broker = Hands(), Broker()
    async with running(hands, broker, trigger(**EACH_MINUTE)):
        await hands.move(minutes=1)
        await hands.move(minutes=1)
        await fired(broker, "12:01:00", "12:02:00")
        await hands.move(minutes=-2)
        await hands.move(minutes=2)
        await fired(broker, "12:01:00", "12:02:00")
        await hands.move(minutes=1)
        await fired(broker, "12:01:00", "12:02:00", "12:03:00")


async def test_a_clock_that_was_far_ahead_does_not_stop() -> None:
    hands, broker = Hands(), Broker()
    async with running(hands, broker, trigger(**EACH_MINUTE)):
        await hands.move(days=400)
        await hands.move(days=-400)
        broker.taken.clear()
        await hands.move(minutes=1)
        await fired(broker, "12:01:00")


async def test_a_last_time_that_lies_far_ahead_is_not_believed() -> None:
    hands, broker = Hands(), Broker()
    broker.log = {"tick": NOON + timedelta(days=400)}
    async with running(hands, broker, trigger(**EACH_MINUTE)):
        await hands.move(minutes=1)
        await fired(broker, "12:01:00")


@pytest.mark.parametrize(
    ("missed", "before"),
    [("skip", []), ("once", ["14:59:00"]), ("all", ["14:58:00", "14:58:30", "14:59:00"])],
)
async def test_a_clock_that_is_set_forward_makes_good_by_policy(missed: str, before: list[str]) -> None:
    """What is late by less than a minute is late; what is later is missed."""
    hands, broker = Hands(), Broker()
    settings: dict[str, Any] = {"cron": "*/30 * * * * *", "missed": missed, "missed_limit": 3}
    async with running(hands, broker, trigger(**settings)):
        await hands.move(hours=3)
        await fired(broker, *before, "14:59:30", "15:00:00")


async def test_a_moment_of_deafness_loses_nothing() -> None:
    hands, broker = Hands(), Broker()
    async with running(hands, broker, trigger(**EACH_SECOND, missed="skip")):
        await hands.move(seconds=5)
        await fired(broker, *(f"12:00:0{second}" for second in range(1, 6)))


async def test_a_tick_waits_for_the_broker_in_order() -> None:
    hands, broker = Hands(), Broker()
    async with running(hands, broker, trigger(**EACH_SECOND), trigger("other", **EACH_SECOND)):
        broker.away = UnavailableError("no broker")
        for _ in range(9):
            await hands.move(seconds=1)
        assert broker.taken == []
        broker.away = None
        expected = [f"12:00:0{second}" for second in range(1, 10)]
        await fired(broker, *expected)
        await fired(broker, *expected, name="other")


@pytest.mark.parametrize(("missed", "most"), [("skip", 62), ("once", 62), ("all", 161)])
async def test_what_waits_for_the_broker_is_bounded(missed: str, most: int) -> None:
    hands, broker = Hands(), Broker()
    async with running(hands, broker, trigger(**EACH_SECOND, missed=missed, missed_limit=100)):
        broker.away = UnavailableError("no broker")
        for _ in range(300):
            await hands.move(seconds=1)
        broker.away = None
        await eventually(lambda: "12:05:00" in broker.times())
        assert len(broker.times()) <= most
        assert broker.times() == sorted(broker.times())


async def test_while_the_broker_is_away_one_asks_and_the_others_wait() -> None:
    hands, broker = Hands(), Broker()
    pauses: list[float] = []
    gate = asyncio.Event()

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        await gate.wait()

    ticks = Ticks(broker.fire, pause=pause)
    broker.away = UnavailableError("no broker")
    clock = Clock(broker.fire, broker.dues, wall=hands, ticks=ticks)
    for number in range(50):
        clock.hear(f"t{number}", trigger(f"t{number}", **EACH_MINUTE))
    async with clock:
        await hands.rests.wait()
        await hands.move(minutes=1)
        await eventually(lambda: pauses)
        assert (len(broker.asked), len(pauses)) == (1, 1)
        broker.away = None
        gate.set()
        await eventually(lambda: len(broker.taken) == 50)


async def test_a_broker_that_is_behind_is_asked_again() -> None:
    hands, broker = Hands(), Broker()
    broker.versions = {"tick": 1}
    async with running(hands, broker, trigger(version=2, **EACH_MINUTE)):
        await hands.move(minutes=1)
        await eventually(lambda: broker.asked)
        broker.versions = {"tick": 2}
        await fired(broker, "12:01:00")


@pytest.mark.parametrize("error", [NotFoundError("gone"), InvalidError("no")])
async def test_what_the_broker_does_not_want_is_dropped_and_the_next_goes_on(error: Exception) -> None:
    hands, broker = Hands(), Broker()
    async with running(hands, broker, trigger(**EACH_MINUTE)):
        broker.away = error  # type: ignore[assignment]
        await hands.move(minutes=1)
        await eventually(lambda: broker.asked)
        await eventually(lambda: len(broker.asked) in {1, 21})
        broker.away = None
        await hands.move(minutes=1)
        await eventually(lambda: "12:02:00" in broker.times())


async def test_a_bug_in_firing_is_a_failure_to_try_again() -> None:
    hands, broker = Hands(), Broker()
    broker.errors = [ZeroDivisionError("a bug")]  # type: ignore[list-item]
    async with running(hands, broker, trigger(**EACH_MINUTE)):
        await hands.move(minutes=1)
        await fired(broker, "12:01:00")


async def test_so_many_are_fired_at_once_and_no_more() -> None:
    hands, broker = Hands(), Broker()
    broker.gate.clear()
    names = [f"t{number:04}" for number in range(2000)]
    async with running(hands, broker, *(trigger(name, **EACH_MINUTE) for name in names)):
        await hands.move(minutes=1)
        await eventually(lambda: len(broker.asked) == MAX_CONCURRENT)
        broker.gate.set()
        await eventually(lambda: len(broker.taken) == 2000)
        assert sorted(name for name, _ in broker.taken) == names


async def test_what_is_due_goes_off_before_the_next_times_are_worked_out(monkeypatch: pytest.MonkeyPatch) -> None:
    hands, broker = Hands(), Broker()
    order: list[str] = []
    fire, following = broker.fire, Cron.following

    async def noted_fire(request: FireRequest) -> FireReply:
        order.append("fired")
        return await fire(request)

    def noted_following(self: Cron, after: datetime, since: datetime) -> datetime | None:
        order.append("worked out")
        return following(self, after, since)

    monkeypatch.setattr(broker, "fire", noted_fire)
    async with running(hands, broker, *(trigger(f"t{number}", **EACH_MINUTE) for number in range(2 * YIELD_EVERY))):
        monkeypatch.setattr(Cron, "following", noted_following)
        await hands.move(minutes=1)
        await eventually(lambda: len(order) == 4 * YIELD_EVERY)
    assert order == ["fired"] * 2 * YIELD_EVERY + ["worked out"] * 2 * YIELD_EVERY


async def test_nothing_is_left_working_when_all_is_fired() -> None:
    hands, broker = Hands(), Broker()
    async with running(hands, broker, *(trigger(f"t{number}", **EACH_MINUTE) for number in range(300))):
        idle = len(asyncio.all_tasks())
        await hands.move(minutes=1)
        await eventually(lambda: len(broker.taken) == 300)
        await eventually(lambda: len(asyncio.all_tasks()) == idle)
        await hands.move(minutes=1)
        await eventually(lambda: len(broker.taken) == 600)


async def test_jitter_is_the_same_in_every_service_and_within_its_bound() -> None:
    due = [NOON + timedelta(minutes=number) for number in range(500)]
    one, other, third = (
        Entry(found, found.settings)  # type: ignore[arg-type]
        for found in (trigger(name, jitter="30s", **EACH_MINUTE) for name in ("a", "a", "b"))
    )
    late = [delay(one, each) for each in due]
    assert late == [delay(other, each) for each in due]
    assert late != [delay(third, each) for each in due]
    assert all(timedelta(0) <= each < timedelta(seconds=30) for each in late)
    assert timedelta(seconds=12) < sum(late, timedelta(0)) / len(late) < timedelta(seconds=18)


async def test_jitter_makes_a_time_late_and_does_not_change_it() -> None:
    hands, broker = Hands(), Broker()
    found = trigger(jitter="30s", **EACH_MINUTE)
    late = delay(Entry(found, found.settings), at("12:01:00"))  # type: ignore[arg-type]
    async with running(hands, broker, found):
        await hands.move(seconds=59 + late.total_seconds())
        assert broker.times() == []
        await hands.move(seconds=2)
        await fired(broker, "12:01:00")


async def test_a_service_that_starts_within_the_jitter_still_waits_for_it() -> None:
    hands, broker = Hands(at("12:01:00")), Broker()
    found = trigger(jitter="30s", missed="skip", **EACH_MINUTE)
    late = delay(Entry(found, found.settings), at("12:01:00"))  # type: ignore[arg-type]
    async with running(hands, broker, found):
        assert broker.times() == []
        await hands.move(seconds=late.total_seconds() + 0.001)
        await fired(broker, "12:01:00")


async def test_two_services_ask_for_the_same_firings() -> None:
    hands, broker = (Hands(), Hands()), Broker()
    found = trigger(jitter="10s", **EACH_MINUTE)
    async with running(hands[0], broker, found), running(hands[1], broker, found):
        for each in hands:
            await each.move(seconds=70)
            await each.move(seconds=60)
        await eventually(lambda: len(broker.asked) == 4)
    keys = [request.key for request in broker.asked]
    assert sorted(keys) == sorted([*set(keys), *set(keys)])


async def test_schedules_that_have_no_next_time_cost_nothing() -> None:
    hands, broker = Hands(), Broker()
    async with running(hands, broker, trigger(provider="once", at="2001-01-01T00:00:00Z")) as clock:
        await hands.move(days=1)
        assert (len(clock), broker.asked) == (1, [])


async def test_a_clock_can_be_left_while_ticks_wait() -> None:
    hands, broker = Hands(), Broker()
    broker.gate.clear()
    async with running(hands, broker, trigger(**EACH_MINUTE)):
        await hands.move(minutes=1)
        await eventually(lambda: broker.asked)
    assert broker.taken == []


async def test_the_systems_clock_is_waited_for() -> None:
    """The only test with the real one: a second's tick comes by itself."""
    broker = Broker()
    clock = Clock(broker.fire, broker.dues, ticks=Ticks(broker.fire, pause=no_pause))
    async with clock:
        clock.hear("tick", trigger(applied=clock._wall.now(), **EACH_SECOND))
        await eventually(lambda: broker.taken, within=5)
        found, due = broker.taken[0]
        assert found == "tick"
        assert timedelta(0) <= clock._wall.now() - due < timedelta(seconds=1)
