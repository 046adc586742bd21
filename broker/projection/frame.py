"""What goes from the broker to the process that writes the tables: the rows of a batch, as MessagePack.

Only what both ends need, and nothing that takes long to import.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

import msgspec

Doc = bytes
"""A thing as JSON, as it is kept."""

EventRow = tuple[int, int, str, str, Doc]
"""Sequence, place, kind, subject, and the event as CloudEvents JSON."""

FiringRow = tuple[int, str, str, str, Doc]
"""Sequence, id, trigger, state, and the firing."""


class Frame(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """What one transaction writes: things as they stand now, None for those that are gone."""

    seq: int
    """The log sequence that it reaches."""
    time: datetime
    """When the record there was stored."""
    orders: list[Doc]
    """Their columns are taken from them by whoever writes them."""
    things: list[tuple[str, str, int, Doc | None]]
    """Kind, id, the sequence of the record that changed it, and the thing."""
    firings: list[FiringRow]
    events: list[EventRow]


LENGTH: Final = 8
"""Bytes before each frame that say how many follow."""

encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(Frame).decode
