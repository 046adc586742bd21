"""What a projection gives back to a state machine that starts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TypeVar

import msgspec

from muster.mesh.model import Order

T = TypeVar("T", bound=msgspec.Struct)


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What a projection knows of the state at its sequence: enough to continue without replaying the log."""

    seq: int
    time: datetime | None
    """When the record at that sequence was stored."""
    orders: Sequence[Order] = ()
    """Those that are open."""
    things: Sequence[tuple[str, str, bytes]] = ()
    """Kind, id and JSON of everything else."""

    def of(self, kind: str, struct: type[T]) -> list[tuple[str, T]]:
        """Returns all things of a kind, with their ids.

        Raises:
            MsgspecError: one of them is not such a struct.
        """
        decoder = msgspec.json.Decoder(struct)
        return [(ident, decoder.decode(doc)) for its_kind, ident, doc in self.things if its_kind == kind]
