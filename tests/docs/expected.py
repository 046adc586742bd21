"""What a page says that a command prints, held against what it printed.

The page need not show every line, but those that it shows come in this order.  `…` replaces
anything; ids, numbers with a unit of time, times of day and the width of columns may differ.
"""

from __future__ import annotations

import re

_LOOSE = re.compile(
    r"(?P<any>…)"
    r"|(?P<id>\b(?=[a-z2-7]*[2-7])(?:[a-z2-7]{16}|[a-z2-7]{10}|[a-z2-7]{6})\b)"
    r"|(?P<day>\b\d{4}-\d\d-\d\dT[\d:.]+Z\b)"
    r"|(?P<clock>\b\d\d:\d\d:\d\d\b)"
    r"|(?P<span>\b\d+(?:\.\d+)?(?:ms|s|m|h|d)\b)"
    r"|(?P<space>\s+)"
)
_PATTERNS = {
    "any": r".*",
    "id": r"[a-z2-7]+",
    "day": r"\d{4}-\d\d-\d\dT[\d:.]+Z",
    "clock": r"[\d:]+",
    "span": r"[\d.]+(?:ms|s|m|h|d)",
    "space": r"\s+",
}


def pattern(line: str) -> re.Pattern[str]:
    """What a shown line may look like."""
    parts, end = [], 0
    shown = line.strip()
    for found in _LOOSE.finditer(shown):
        parts += [re.escape(shown[end : found.start()]), _PATTERNS[str(found.lastgroup)]]
        end = found.end()
    return re.compile("".join([*parts, re.escape(shown[end:])]))


def missing(shown: str, printed: str) -> str | None:
    """The first shown line that was not printed in its place; None if all were."""
    lines = iter(printed.splitlines())
    for line in shown.splitlines():
        if not line.strip():
            continue
        wanted = pattern(line)
        if not any(wanted.fullmatch(one.strip()) for one in lines):
            return line
    return None
