"""Fields that requests of several operations share, and what they may say."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final

import msgspec

from muster.blueprints.definition import duration
from muster.mesh.errors import InvalidError, Problem, UsageError
from muster.mesh.structs import Wire

MAX_ITEMS: Final = 1000
"""The longest page of a list."""

MAX_TIMES: Final = 1000
"""The most times that a schedule is worked out ahead."""

MAX_KEY: Final = 255
"""Characters of an idempotency key."""

Limit = Annotated[int, msgspec.Meta(ge=1, le=MAX_ITEMS, description="The most items on a page.")]
Cursor = Annotated[str | None, msgspec.Meta(description="`next` of the previous page.")]
ObjectName = Annotated[str, msgspec.Meta(description="The object's name.")]

_MOMENT: Any = Annotated[datetime, msgspec.Meta(tz=True)]


class DryRun(Wire):
    """Whether to do it at all."""

    dry_run: Annotated[bool, msgspec.Meta(description="Only report what would happen.")] = False


def idempotency_key(given: str | None, header: str = "Idempotency-Key") -> str | None:
    """Returns the key that makes a request safe to repeat, if there is one.

    Raises:
        UsageError: it is empty, too long, or not printable.
    """
    if given is None:
        return None
    if not given.strip() or len(given) > MAX_KEY or not given.isprintable() or not given.isascii():
        raise UsageError(f"{header} must be 1 to {MAX_KEY} printable ASCII characters")
    return given


def moment(text: str | None, path: str, *, now: datetime) -> datetime | None:
    """Returns a point in time written as RFC 3339, or as how long ago: `1h`.

    Raises:
        InvalidError: it is neither.
    """
    if text is None:
        return None
    try:
        return now - duration(text)
    except (ValueError, OverflowError):  # the latter: before the year 1
        pass
    try:
        found: datetime = msgspec.convert(text.replace(" ", "+"), _MOMENT)
    except msgspec.ValidationError:
        problem = Problem(message=f"{text!r} is neither a time (2026-01-31T09:00:00Z) nor a duration (1h)", path=path)
        raise InvalidError("the request's parameters are not valid", problem) from None
    return found
