"""Floor: asyncio starts `bash -c :` and waits for it, so many at a time; nothing is read, nothing recorded."""

from __future__ import annotations

import asyncio
import random
import time

from bench.parts.part import Settings, emit, run, started


class Spawner(Settings, frozen=True, kw_only=True):
    """How many."""

    count: int
    width: int = 1
    """At a time."""
    pause: tuple[float, float] = (0.0, 0.0)
    """Seconds between two of them: from, to."""


async def work(settings: Spawner) -> None:
    """Start all of them, and report how long each took."""
    left = iter(range(settings.count))
    times: list[int] = []

    async def one_after_the_other() -> None:
        for _ in left:
            begin = time.monotonic_ns()
            child = await asyncio.create_subprocess_exec("bash", "-c", ":", stdin=asyncio.subprocess.DEVNULL)
            await child.wait()
            times.append(time.monotonic_ns() - begin)
            if settings.pause[1]:
                await asyncio.sleep(random.uniform(*settings.pause))

    await started()
    begin = time.monotonic_ns()
    async with asyncio.TaskGroup() as group:
        for _ in range(settings.width):
            group.create_task(one_after_the_other())
    emit(begin=begin, end=time.monotonic_ns(), times=times)


if __name__ == "__main__":
    run(Spawner, work)
