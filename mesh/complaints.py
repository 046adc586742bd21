"""Warnings about what callers do: they choose how often, so each is logged at most once in a while."""

from __future__ import annotations

import time
from typing import Any, Final

import structlog

log = structlog.get_logger()

EVERY: Final = 10.0
"""Seconds between two lines of one kind."""


class Complaints:
    """Logs a warning, or only counts it."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}
        self._left_out: dict[str, int] = {}

    def log(self, event: str, **fields: Any) -> None:
        """Log an event, unless one of its kind was logged just now; the next line says how many were left out."""
        now = time.monotonic()
        if now - self._last.get(event, -EVERY) < EVERY:
            self._left_out[event] = self._left_out.get(event, 0) + 1
            return
        self._last[event] = now
        log.warning(event, **fields, more=self._left_out.pop(event, 0))
