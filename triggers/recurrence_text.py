"""Parses the text of a recurrence rule, and reports every mistake with its place."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, Final

import msgspec
from dateutil import rrule

from muster.blueprints.suggest import did_you_mean
from muster.mesh.errors import Problem
from muster.triggers.recurrence import Frequency, Rule

FREQUENCIES: Final = ("YEARLY", "MONTHLY", "WEEKLY", "DAILY", "HOURLY", "MINUTELY", "SECONDLY")
"""In dateutil's numbering."""

DAYS: Final = {"MO": rrule.MO, "TU": rrule.TU, "WE": rrule.WE, "TH": rrule.TH, "FR": rrule.FR, "SA": rrule.SA}
DAYS["SU"] = rrule.SU

MOST_COUNT: Final = 10_000


class Read(msgspec.Struct, frozen=True, kw_only=True):
    """A parsed rule."""

    rule: Rule
    count: int | None = None
    until: str | None = None


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """`NAME=VALUE`, and the place of the value."""

    name: str
    value: str
    place: int


def read(text: str) -> Read | list[Problem]:
    """Parses a rule; returns it, or all of its problems."""
    problems = list(_others(text))
    if problems:
        return problems
    values: dict[str, Any] = {}
    parts: dict[str, Part] = {}
    for part in _parts(text):
        if part.name in parts:
            problems.append(_wrong(part, f"{part.name} is a duplicate"))
        elif part.name not in READERS:
            problems.append(_unknown(part))
        else:
            parts[part.name] = part
            try:
                values[part.name] = READERS[part.name](part.value)
            except ValueError as error:
                problems.append(_wrong(part, f"{part.value[:40]!r} is not a valid {part.name}", str(error)))
    if "FREQ" not in text.upper():
        hint = "for example, write FREQ=WEEKLY;BYDAY=MO"
        problems.append(Problem(path="rrule", message="FREQ is missing", line=1, column=1, hint=hint))
    if not problems:
        problems += _misfits(parts, values)
    if problems:
        return problems
    rule = Rule(
        freq=values["FREQ"],
        interval=values.get("INTERVAL", 1),
        week_start=values.get("WKST", 0),
        parts={_name(name): value for name, value in values.items() if name.startswith("BY")},
    )
    return Read(rule=rule, count=values.get("COUNT"), until=values.get("UNTIL"))


def _parts(text: str) -> Iterator[Part]:
    skipped = re.match(r"\s*(?:RRULE:)?", text, re.IGNORECASE)
    place = skipped.end() if skipped else 0
    for item in text[place:].split(";"):
        name, equals, value = item.partition("=")
        if item.strip():
            value_place = place + len(name) + len(equals)
            yield Part(name=name.strip().upper(), value=value.strip().upper(), place=value_place if equals else place)
        place += len(item) + 1


def _wrong(part: Part, message: str, hint: str = "") -> Problem:
    return Problem(path="rrule", message=message, line=1, column=part.place + 1, hint=hint)


def _others(text: str) -> Iterator[Problem]:
    """Yields lines of an iCalendar file that are not part of the rule."""
    rules = 0
    for number, line in enumerate(text.splitlines(), start=1):
        found = _PROPERTY.match(line)
        name = found["name"].upper() if found else "RRULE" if line.strip() else ""
        rules += name == "RRULE"
        if not name or (name == "RRULE" and rules == 1):
            continue
        message, hint = PROPERTIES.get(name, (f"{name[:40]} is not part of a rule", "write only the rule"))
        column = found.start("name") + 1 if found else 1
        yield Problem(path="rrule", message=message, line=number, column=column, hint=hint)


_PROPERTY: Final = re.compile(r"\s*(?P<name>[A-Za-z-]+)(?:;[^:]*)?:")

PROPERTIES: Final = {
    "RRULE": ("there is more than one rule here", "write `rrule` as a list of rules"),
    "EXRULE": (
        "EXRULE is not supported: RFC 5545 dropped it",
        "name the wanted days in the rule (BYDAY=MO,TU,WE,TH,FR,SU), or list the others in `except`",
    ),
    "RDATE": ("RDATE is not part of a rule", "list the times in `dates`"),
    "EXDATE": ("EXDATE is not part of a rule", "list the dates and times in `except`"),
    "DTSTART": ("DTSTART is not part of a rule", "write it as `since`, and its TZID as `timezone`"),
}
"""Other properties of an iCalendar file, and the fields that replace them."""


def _unknown(part: Part) -> Problem:
    if part.name in {"SKIP", "RSCALE"}:
        hint = (
            "the last day of a month is BYMONTHDAY=-1; the 31st or the last day is BYMONTHDAY=28,29,30,31;BYSETPOS=-1"
        )
        return _wrong(
            part, f"{part.name} (RFC 7529) is not supported: a day that a month does not have is left out", hint
        )
    return _wrong(part, f"there is no {part.name[:40] or 'part without a name'}", did_you_mean(part.name, READERS))


def _name(name: str) -> str:
    """Returns dateutil's name of a part."""
    return "byweekday" if name == "BYDAY" else name.lower()


def _misfits(parts: dict[str, Part], values: dict[str, Any]) -> Iterator[Problem]:
    """Yields parts that cannot be combined (RFC 5545 §3.3.10)."""
    freq = FREQUENCIES[values["FREQ"]]
    for name, allowed in ALLOWED.items():
        if name in parts and freq not in allowed:
            yield _wrong(
                parts[name], f"{name} cannot be combined with FREQ={freq}", f"use it with {', '.join(allowed)}"
            )
    if "BYDAY" in parts and freq not in {"YEARLY", "MONTHLY"} and re.search(r"\d", parts["BYDAY"].value):
        hint = "write FREQ=MONTHLY or YEARLY, or days without numbers"
        yield _wrong(parts["BYDAY"], f"numbered days cannot be combined with FREQ={freq}", hint)
    if "BYDAY" in parts and "BYWEEKNO" in parts and re.search(r"\d", parts["BYDAY"].value):
        yield _wrong(parts["BYDAY"], "numbered days cannot be combined with BYWEEKNO", "write days without numbers")
    if "BYSETPOS" in parts and not any(name.startswith("BY") and name != "BYSETPOS" for name in parts):
        yield _wrong(parts["BYSETPOS"], "BYSETPOS needs another BY part to select from")
    if "COUNT" in parts and "UNTIL" in parts:
        yield _wrong(parts["UNTIL"], "set COUNT or UNTIL, not both")


ALLOWED: Final = {
    "BYWEEKNO": ("YEARLY",),
    "BYYEARDAY": ("YEARLY", "HOURLY", "MINUTELY", "SECONDLY"),
    "BYMONTHDAY": tuple(each for each in FREQUENCIES if each != "WEEKLY"),
}


def _number(low: int, high: int) -> Callable[[str], int]:
    def reader(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,6}", text) or not low <= int(text) <= high:
            raise ValueError(f"write a number from {low} to {high}")
        return int(text)

    return reader


def _numbers(low: int, high: int, *, signed: bool = False) -> Callable[[str], tuple[int, ...]]:
    def reader(text: str) -> tuple[int, ...]:
        found = text.split(",")
        for each in found:
            sign = r"[+-]?" if signed else ""
            if not re.fullmatch(rf"{sign}[0-9]{{1,3}}", each) or not low <= abs(int(each)) <= high:
                also = " (or from the end, with -)" if signed else ""
                raise ValueError(f"write numbers from {low} to {high}{also}, with commas")
        return tuple(int(each) for each in found)

    return reader


def _frequency(text: str) -> Frequency:
    if text not in FREQUENCIES:
        raise ValueError(did_you_mean(text, FREQUENCIES))
    found: Frequency = FREQUENCIES.index(text)  # type: ignore[assignment]  # there are seven
    return found


def _days(text: str) -> tuple[Any, ...]:
    found = []
    for each in text.split(","):
        day = re.fullmatch(r"([+-]?[0-9]{1,2})?([A-Z]{2})", each)
        if day is None or day[2] not in DAYS or (day[1] and not 1 <= abs(int(day[1])) <= 53):  # noqa: PLR2004 - weeks
            raise ValueError("write MO, TU, WE, TH, FR, SA, SU; or 2FR, -1MO")
        found.append(DAYS[day[2]](int(day[1])) if day[1] else DAYS[day[2]])
    return tuple(found)


def _week_start(text: str) -> int:
    if text not in DAYS:
        raise ValueError(did_you_mean(text, DAYS))
    return int(DAYS[text].weekday)


def _until(text: str) -> str:
    if not re.fullmatch(r"[0-9]{8}(?:T[0-9]{6}Z?)?", text):
        raise ValueError("write 20301231 or 20301231T120000Z")
    datetime.fromisoformat(text)
    return text


READERS: Final[dict[str, Callable[[str], Any]]] = {
    "FREQ": _frequency,
    "INTERVAL": _number(1, 100_000),
    "COUNT": _number(1, MOST_COUNT),
    "UNTIL": _until,
    "WKST": _week_start,
    "BYSECOND": _numbers(0, 59),
    "BYMINUTE": _numbers(0, 59),
    "BYHOUR": _numbers(0, 23),
    "BYDAY": _days,
    "BYMONTHDAY": _numbers(1, 31, signed=True),
    "BYYEARDAY": _numbers(1, 366, signed=True),
    "BYWEEKNO": _numbers(1, 53, signed=True),
    "BYMONTH": _numbers(1, 12),
    "BYSETPOS": _numbers(1, 366, signed=True),
}
