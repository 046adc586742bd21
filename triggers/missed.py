"""Selects the missed times that fire later.  Pure."""

from __future__ import annotations

from datetime import datetime

from muster.blueprints.provider import Schedule


def to_fire(schedule: Schedule, start: datetime, after: datetime, until: datetime) -> list[datetime]:
    """Returns the times after `after` up to `until` that the schedule's policy fires, oldest first."""
    if schedule.missed == "skip":
        return []
    return latest(schedule, start, after, until, schedule.missed_limit if schedule.missed == "all" else 1)


def latest(schedule: Schedule, start: datetime, after: datetime, until: datetime, count: int) -> list[datetime]:
    """Returns the last `count` times after `after` up to `until`.

    Schedules only iterate forward, and a year has many seconds.  Therefore this searches a start with at least `count`
    later times but not many more: backwards in doubled steps, then by bisection.
    """
    first = schedule.following(after, start)
    if first is None or first > until:
        return []
    second = schedule.following(first, start)
    if second is None or second > until:
        return [first]
    crowded: datetime | None = None
    """There are too many times after this, and too few after `sparse`."""
    sparse = until
    low = until - min(until - after, (second - first) * (count + 1))
    while True:
        found = _up_to(schedule, start, low, until, most=2 * count + 16)
        if found is None:
            crowded = low
        elif len(found) >= count or low == after:
            return found[-count:]
        else:
            sparse = low
        low = max(after, until - 2 * (until - sparse)) if crowded is None else crowded + (sparse - crowded) / 2


def _up_to(schedule: Schedule, start: datetime, after: datetime, until: datetime, most: int) -> list[datetime] | None:
    """Returns the times after `after` up to `until`; None if there are more than `most`."""
    found: list[datetime] = []
    while (due := schedule.following(found[-1] if found else after, start)) is not None and due <= until:
        if len(found) == most:
            return None
        found.append(due)
    return found
