"""What the inbox puts on the log beside orders: events by name, and messages that could not be used."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final

from muster.broker.means import Means
from muster.mesh import names, records
from muster.mesh.jetstream import LostRaceError

MAX_KEPT: Final = 65_536
"""Characters of a rejected message that are kept."""


class Announcements:
    """The write path of events that users publish."""

    def __init__(self, means: Means) -> None:
        _, self._log, _, self._ids = means

    async def reject(self, subject: str, reason: str, body: str) -> None:
        """Keeps a message that could not be used, with the reason."""
        record = records.Rejected(id=names.new_id(), subject=subject, reason=reason, body=body[:MAX_KEPT])
        await self._log.append(record)

    async def announce(self, name: str, body: Any, *, key: str) -> None:
        """Puts an event on the log, once for each key of its name."""
        record = records.Announced(id=self._ids.announced(name, key), name=name, body=body)
        with suppress(LostRaceError):  # it is there already
            await self._log.append(record, expect=0)
