"""Times of day: every combination of the hours, minutes and seconds that a schedule names."""

from __future__ import annotations

from bisect import bisect_right
from datetime import timedelta
from typing import NamedTuple

Numbers = tuple[int, ...]


class DayTimes(NamedTuple):
    """All combinations in order.  There can be 86,400 of them; therefore no operation visits them all."""

    hours: Numbers
    minutes: Numbers
    seconds: Numbers

    @property
    def total(self) -> int:
        """Returns the number of times."""
        return len(self.hours) * len(self.minutes) * len(self.seconds)

    def at(self, place: int) -> timedelta:
        """Returns the time at an index, counted from 0."""
        rest, second = divmod(place, len(self.seconds))
        hour, minute = divmod(rest, len(self.minutes))
        return timedelta(hours=self.hours[hour], minutes=self.minutes[minute], seconds=self.seconds[second])

    def first(self) -> timedelta:
        """Returns the earliest time."""
        return timedelta(hours=self.hours[0], minutes=self.minutes[0], seconds=self.seconds[0])

    def later(self, hour: int, minute: int, second: int) -> timedelta | None:
        """Returns the first later time of the day; None if there is none."""
        if hour in self.hours:
            if minute in self.minutes and (found := _after(second, self.seconds)) is not None:
                return timedelta(hours=hour, minutes=minute, seconds=found)
            if (found := _after(minute, self.minutes)) is not None:
                return timedelta(hours=hour, minutes=found, seconds=self.seconds[0])
        if (found := _after(hour, self.hours)) is not None:
            return timedelta(hours=found, minutes=self.minutes[0], seconds=self.seconds[0])
        return None


def _after(number: int, numbers: Numbers) -> int | None:
    place = bisect_right(numbers, number)
    return numbers[place] if place < len(numbers) else None
