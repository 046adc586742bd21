"""Floor: adds cron jobs to an APScheduler that runs, and reports how fast and how big."""

from __future__ import annotations

import gc
import time

import psutil
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.cron import CronTrigger

from bench.parts.clock_adder import Adder, lines
from bench.parts.part import emit, run, started


def job() -> None:
    """Nothing is due here."""


async def work(settings: Adder) -> None:
    """Add all of them."""
    each = list(lines(settings))
    scheduler = AsyncIOScheduler(timezone="UTC")
    scheduler.start()
    await started()
    gc.collect()
    before = psutil.Process().memory_info().rss
    begin = time.monotonic_ns()
    for number, line in enumerate(each):
        scheduler.add_job(job, CronTrigger.from_crontab(line, timezone="UTC"), id=f"trigger-{number:06}")
    end = time.monotonic_ns()
    gc.collect()
    size = (psutil.Process().memory_info().rss - before) / settings.count
    emit(rate=settings.count / ((end - begin) / 1e9), size=size)
    scheduler.shutdown()


if __name__ == "__main__":
    run(Adder, work)
