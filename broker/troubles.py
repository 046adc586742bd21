"""Which triggers cannot work where: what trigger services report, for as long as they do."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Final

import msgspec

from muster.mesh.firing import MOST_TROUBLES, TROUBLES_EVERY, Troubles

KEPT: Final = 4 * TROUBLES_EVERY
"""Seconds after which a service that says nothing is taken for gone, and its report with it."""

MOST_SERVICES: Final = 256
LONGEST: Final = 1000
"""Characters that are shown of a trigger."""

_decode = msgspec.json.Decoder(Troubles).decode


class Reported:
    """The last report of each trigger service.  Each broker keeps its own, from the same messages."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._reports: dict[str, tuple[float, Troubles]] = {}

    def heard(self, service: str, data: bytes) -> None:
        """A report came in; one that cannot be read is none."""
        self._reports.pop(service, None)
        try:
            report = _decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return
        if not report.reasons or len(report.reasons) > MOST_TROUBLES:
            return
        if len(self._reports) >= MOST_SERVICES:
            self._reports.pop(next(iter(self._reports)))
        self._reports[service] = self._clock(), report

    def of(self, trigger: str) -> str | None:
        """Why a trigger does not work, and where."""
        since = self._clock() - KEPT
        hosts: dict[str, list[str]] = {}
        for at, report in self._reports.values():
            if at >= since and (why := report.reasons.get(trigger)):
                hosts.setdefault(why, []).append(report.host)
        text = "; ".join(f"{why} (on {', '.join(sorted(set(names)))})" for why, names in hosts.items())
        return text[:LONGEST] or None
