"""Triggers that come, change and go while the clock runs."""

from __future__ import annotations

from typing import Any

import pytest

from muster.mesh.errors import UnavailableError
from muster.mesh.firing import FireReply, FireRequest
from muster.triggers.clock import YIELD_EVERY
from tests.kit.waiting import eventually
from tests.triggers.clock_stand_in import EACH_MINUTE, NOON, Broker, Hands, at, fired, running, trigger


async def test_a_trigger_that_comes_or_goes_counts_at_once() -> None:
    hands, broker = Hands(), Broker()
    async with running(hands, broker) as clock:
        clock.hear("tick", trigger(**EACH_MINUTE))
        await hands.looked()
        await hands.move(minutes=1)
        await fired(broker, "12:01:00")
        clock.hear("tick", None)
        await hands.move(minutes=5)
        await fired(broker, "12:01:00")
        assert len(clock) == 0


async def test_a_changed_schedule_replaces_the_old_one() -> None:
    hands, broker = Hands(), Broker()
    async with running(hands, broker, trigger(**EACH_MINUTE)) as clock:
        clock.hear("tick", trigger(version=2, cron="30 12 * * *"))
        await hands.move(seconds=59)
        await hands.move(seconds=1)
        assert broker.times() == []
        await hands.move(minutes=29)
        await fired(broker, "12:30:00")
        assert broker.asked[0].version == 2


async def test_a_new_version_of_the_same_schedule_keeps_what_is_due() -> None:
    hands, broker = Hands(), Broker()
    broker.versions = {"tick": 2}
    async with running(hands, broker, trigger(**EACH_MINUTE)) as clock:
        await hands.move(minutes=1)
        await eventually(lambda: broker.asked)
        clock.hear("tick", trigger(version=2, applied=at("12:01:00"), **EACH_MINUTE))
        await fired(broker, "12:01:00")


@pytest.mark.parametrize(
    ("provider", "settings", "expected"),
    [
        ("interval", {"every": "1h"}, ["13:45:00"]),
        ("interval", {"every": "1h", "since": "2030-01-31T00:00:00Z"}, ["13:00:00", "14:00:00"]),
        ("calendar", {"rrule": "FREQ=HOURLY"}, ["13:45:00"]),
        ("calendar", {"rrule": "FREQ=HOURLY;BYMINUTE=0;BYSECOND=0"}, ["13:00:00", "14:00:00"]),
        ("calendar", {"rrule": "FREQ=MINUTELY;COUNT=3"}, ["12:46:00", "12:47:00", "12:48:00"]),
        ("cron", {"cron": "0 * * * *"}, ["13:00:00", "14:00:00"]),
    ],
)
async def test_what_counts_from_the_time_of_applying_counts_anew(
    provider: str, settings: dict[str, Any], expected: list[str]
) -> None:
    hands, broker = Hands(at("12:45:00")), Broker()
    settings |= {"missed": "skip"}
    async with running(hands, broker, trigger(provider=provider, **settings)) as clock:
        clock.hear("tick", trigger(provider=provider, version=2, applied=at("12:45:00"), **settings))
        await hands.looked()
        for _ in range(75):
            await hands.move(minutes=1)
        await fired(broker, *expected)
    assert {request.version for request in broker.asked} == {2}


async def test_a_change_of_something_else_keeps_the_schedule_and_what_was_missed() -> None:
    hands, broker = Hands(at("12:45:00")), Broker()
    settings: dict[str, Any] = {"provider": "interval", "every": "1h"}
    async with running(hands, broker, trigger(**settings)) as clock:
        for version in range(2, 7):
            clock.hear("tick", trigger(version=version, applied=hands.now(), begun=NOON, **settings))
            await hands.move(minutes=20)
        await fired(broker, "13:00:00", "14:00:00")
    broker.log = {"tick": at("14:00:00")}
    late, missed = Hands(at("15:30:00")), trigger(version=7, applied=at("15:29:00"), begun=NOON, **settings)
    async with running(late, broker, missed):
        await fired(broker, "13:00:00", "14:00:00", "15:00:00")


async def test_a_time_within_its_jitter_when_the_trigger_is_applied_anew_still_goes_off() -> None:
    hands, broker = Hands(at("12:00:59")), Broker()
    settings: dict[str, Any] = {"jitter": "30s", **EACH_MINUTE}
    async with running(hands, broker, trigger(**settings)) as clock:
        await hands.move(seconds=1.001)
        clock.hear("tick", trigger(version=2, applied=hands.now(), **settings))
        await hands.move(seconds=30)
        await fired(broker, "12:01:00")


async def test_a_removed_trigger_takes_its_waiting_ticks_along() -> None:
    hands, broker = Hands(), Broker()
    broker.away = UnavailableError("no broker")
    async with running(hands, broker, trigger(**EACH_MINUTE), trigger("other", **EACH_MINUTE)) as clock:
        await hands.move(minutes=1)
        await eventually(lambda: len(broker.asked) >= 2)
        clock.hear("tick", None)
        broker.away = None
        await fired(broker, "12:01:00", name="other")
        await fired(broker)


async def test_what_goes_or_changes_while_others_go_off_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    hands, broker = Hands(), Broker()
    fire = broker.fire

    async def fire_and_change(request: FireRequest) -> FireReply:
        if request.trigger == "t0":
            clock.hear("gone", None)
            clock.hear("changed", trigger("changed", version=2, cron="30 * * * *"))
        return await fire(request)

    monkeypatch.setattr(broker, "fire", fire_and_change)
    others = (trigger(f"t{number}", **EACH_MINUTE) for number in range(YIELD_EVERY))
    doomed = (trigger("gone", **EACH_MINUTE), trigger("changed", **EACH_MINUTE))
    async with running(hands, broker, *others, *doomed) as clock:
        for _ in range(3):
            await hands.move(minutes=1)
        await fired(broker, "12:01:00", "12:02:00", "12:03:00", name="t1")
        assert (len(broker.times("gone")), len(broker.times("changed"))) == (0, 0)
        await hands.move(minutes=27)
        await fired(broker, "12:30:00", name="changed")
