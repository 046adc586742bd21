"""Times that went by without anybody there: which of them are made good.  Pure."""

from __future__ import annotations

from datetime import datetime

from muster.blueprints.provider import Schedule


def made_good(schedule: Schedule, start: datetime, after: datetime, until: datetime) -> list[datetime]:
    """What is still fired of the times after `after` up to `until`, by the schedule's own policy, oldest first."""
    if schedule.missed == "skip":
        return []
    return latest(schedule, start, after, until, schedule.missed_limit if schedule.missed == "all" else 1)


def latest(schedule: Schedule, start: datetime, after: datetime, until: datetime, count: int) -> list[datetime]:
    """The last `count` times after `after` up to `until`.

    Schedules only look forward, and a year has many seconds.  So a begin is sought from which there are at
    least so many times, but not many more: backwards in doubled steps until there are, then by halves.
    """
    first = schedule.following(after, start)
    if first is None or first > until:
        return []
    second = schedule.following(first, start)
    if second is None or second > until:
        return [first]
    crowded: datetime | None = None
    """From here on there are far too many; from `sparse` on too few."""
    sparse = until
    begin = until - min(until - after, (second - first) * (count + 1))
    while True:
        found = _up_to(schedule, start, begin, until, most=2 * count + 16)
        if found is None:
            crowded = begin
        elif len(found) >= count or begin == after:
            return found[-count:]
        else:
            sparse = begin
        begin = max(after, until - 2 * (until - sparse)) if crowded is None else crowded + (sparse - crowded) / 2


def _up_to(schedule: Schedule, start: datetime, after: datetime, until: datetime, most: int) -> list[datetime] | None:
    """The times after `after` up to `until`; None if they are more than `most`."""
    found: list[datetime] = []
    while (due := schedule.following(found[-1] if found else after, start)) is not None and due <= until:
        if len(found) == most:
            return None
        found.append(due)
    return found
