"""A bucket that repeats a part of the state, for agents and trigger services."""

from __future__ import annotations

from typing import Final

from nats.aio.client import Client
from nats.js.errors import NotFoundError

from muster.mesh import names
from muster.mesh.bucket import OPERATION, REMOVED
from muster.mesh.jetstream import Publisher, compare_and_set

AS_OF: Final = "Muster-As-Of"
"""The header with the log sequence of the state that a value is from."""


class Mirror:
    """Writes values to a bucket, each by compare-and-set.

    For a moment there can be two leaders, and one of them has not read the end of the log yet.  The one that knows more
    of the log wins, in whichever order they write.
    """

    def __init__(self, client: Client, publisher: Publisher, bucket: str) -> None:
        self._js = client.jetstream()
        self._publisher = publisher
        self._bucket = bucket

    async def write(self, name: str, value: bytes | None, as_of: int) -> None:
        """Writes a value of the state as of a log sequence; None removes the name.

        Raises:
            LostRaceError: another broker has written meanwhile; write again what the state says then.
            UnavailableError: it may be written or not.
            nats.errors.Error: there is no connection; so do `TimeoutError` and `OSError`.
        """
        subject = names.entry(self._bucket, name)
        revision, found, known = await self._last(subject)
        if found == value or known > as_of:
            return
        headers = {AS_OF: str(as_of), **compare_and_set(subject, revision), **(REMOVED if value is None else {})}
        await self._publisher.publish(subject, value or b"", headers)

    async def _last(self, subject: str) -> tuple[int, bytes | None, int]:
        """The revision, the value, and the log sequence that it is from."""
        try:
            found = await self._js.get_last_msg(names.bucket_stream(self._bucket), subject)
        except NotFoundError:
            return 0, None, 0
        headers = found.headers or {}
        is_removed = headers.get(OPERATION) in {"DEL", "PURGE"}
        as_of = headers.get(AS_OF, "0")
        return int(found.seq or 0), None if is_removed else found.data or b"", int(as_of) if as_of.isdigit() else 0
