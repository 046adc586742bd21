"""Many triggers: what each costs, and that the clock finds those that are due among them."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest

from muster.mesh.errors import Problem
from muster.triggers import crontab
from muster.triggers.definitions import Trigger
from muster.triggers.providers.cron import times
from tests.kit.waiting import eventually
from tests.triggers.clock_stand_in import Broker, Hands, running, trigger

MANY = 100_000
MOST_BYTES = 2000


def spread(number: int) -> Trigger:
    """One of a fleet's: some minute of the week."""
    line = f"{number % 60} {number // 60 % 24} * * {number // 1440 % 7}"
    return trigger(f"trigger-{number:06}", cron=line)


async def test_a_hundred_thousand_triggers_are_kept_and_those_that_are_due_are_fired() -> None:
    hands, broker = Hands(), Broker()
    async with running(hands, broker) as clock:
        due: set[str] = set()
        for number in range(MANY):
            found = spread(number)
            clock.hear(found.name, found)
            if line_of(found) == "1 12 * * 4":  # a minute after NOON, a Thursday
                due.add(found.name)
        assert len(clock) == MANY
        await hands.looked()
        await hands.move(minutes=1)
        await eventually(lambda: len(broker.taken) == len(due))
        assert {name for name, _ in broker.taken} == due


def line_of(found: Trigger) -> str:
    settings: Any = found.settings
    return str(settings.cron)


async def test_a_trigger_takes_little_room() -> None:
    hands, broker = Hands(), Broker()
    async with running(hands, broker) as clock:
        known = []
        tracemalloc.start()
        try:
            for number in range(MANY // 10):
                known.append(spread(number))
                clock.hear(known[-1].name, known[-1])
            size, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert size / len(known) < MOST_BYTES


async def test_a_line_is_read_once_however_many_triggers_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    original = crontab.read

    def noted(text: str) -> crontab.Crontab | list[Problem]:
        read.append(text)
        return original(text)

    monkeypatch.setattr(crontab, "read", noted)
    times.cache_clear()
    hands, broker = Hands(), Broker()
    async with running(hands, broker) as clock:
        for number in range(100):
            found = trigger(f"t{number}", cron="17 4 * * *")
            clock.hear(found.name, found)
    assert read == ["17 4 * * *"]
