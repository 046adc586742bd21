"""What every service promises: started when entered, stopped when left, in every case."""

from __future__ import annotations

import asyncio

import pytest

from muster.mesh.service import Service, Stop, stop_signals, until_stopped
from tests.kit.waiting import deadline


class Loop(Service):
    """Runs until asked to fail."""

    def __init__(self, *, never_ready: bool = False, fails_at_once: bool = False) -> None:
        super().__init__()
        self.never_ready, self.fails_at_once = never_ready, fails_at_once
        self.fail = asyncio.Event()
        self.is_running = False
        self.starts = 0

    async def run(self) -> None:
        if self.fails_at_once:
            raise RuntimeError("could not start")
        self.is_running = True
        self.starts += 1
        try:
            if not self.never_ready:
                self.ready.set()
            await self.fail.wait()
            raise RuntimeError("failed on the way")
        finally:
            self.is_running = False


async def test_it_runs_while_it_is_entered() -> None:
    loop = Loop()
    async with loop:
        assert loop.is_running
    assert not loop.is_running


async def test_entering_twice_starts_once() -> None:
    loop = Loop()
    async with loop, loop:
        assert loop.starts == 1
    assert not loop.is_running


async def test_a_failed_start_is_reported_at_once() -> None:
    async with deadline():
        with pytest.raises(RuntimeError, match="could not start"):
            async with Loop(fails_at_once=True):
                pytest.fail("it did not start")


async def test_a_start_that_is_cancelled_leaves_nothing_running() -> None:
    loop = Loop(never_ready=True)
    starting = asyncio.create_task(loop.__aenter__())
    async with deadline():
        while not loop.is_running:
            await asyncio.sleep(0)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
    assert not loop.is_running


async def test_what_ends_a_service_ends_its_owner() -> None:
    loop, stop = Loop(), asyncio.Event()
    async with deadline(), loop:
        loop.fail.set()
        with pytest.raises(RuntimeError, match="failed on the way"):
            await until_stopped(stop, loop)


async def test_a_stop_signal_ends_the_wait_without_an_error() -> None:
    loop, stop = Loop(), asyncio.Event()
    async with deadline(), loop:
        stop.set()
        await until_stopped(stop, loop)
        assert loop.is_running
    assert not loop.is_running


async def test_leaving_while_being_cancelled_still_stops_it() -> None:
    loop = Loop()
    entered = asyncio.Event()

    async def owner() -> None:
        async with loop:
            entered.set()
            await asyncio.get_running_loop().create_future()

    owning = asyncio.create_task(owner())
    async with deadline():
        await entered.wait()
        owning.cancel()
        with pytest.raises(asyncio.CancelledError):
            await owning
    assert not loop.is_running


@pytest.mark.parametrize("turns", range(6))
async def test_it_stops_however_early_it_is_cancelled(turns: int) -> None:
    loop = Loop()

    async def owner() -> None:
        async with loop:
            await asyncio.get_running_loop().create_future()

    owning = asyncio.create_task(owner())
    for _ in range(turns):
        await asyncio.sleep(0)
    owning.cancel()
    async with deadline():
        with pytest.raises(asyncio.CancelledError):
            await owning
    assert not loop.is_running


class Outer(Service):
    """Enters another one, and does not wait for it."""

    def __init__(self, inner: Service) -> None:
        super().__init__()
        self.inner = inner

    async def run(self) -> None:
        async with self.inner:
            self.ready.set()
            await asyncio.get_running_loop().create_future()


@pytest.mark.parametrize("is_nested", [False, True])
async def test_a_service_that_fails_unobserved_ends_the_process(*, is_nested: bool) -> None:
    loop = Loop()

    async def process() -> None:
        async with stop_signals() as stop, Outer(loop) if is_nested else loop:
            loop.fail.set()
            await until_stopped(stop)

    async with deadline():
        with pytest.raises(RuntimeError, match="failed on the way"):
            await process()


async def test_a_failure_that_somebody_waits_for_is_theirs() -> None:
    loop, stop = Loop(), Stop()
    async with deadline():
        with stop.watching():
            await loop.__aenter__()
        waiting = asyncio.create_task(loop.ended())
        await asyncio.sleep(0)
        loop.fail.set()
        with pytest.raises(RuntimeError, match="failed on the way"):
            await waiting
        await loop.__aexit__(None, None, None)
    assert not stop.is_set()


async def test_a_service_that_is_stopped_has_not_failed() -> None:
    stop = Stop()
    with stop.watching():
        async with deadline(), Loop():
            pass
    assert not stop.is_set()
