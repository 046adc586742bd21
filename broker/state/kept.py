"""What a projection gives back to a state machine that starts."""

from __future__ import annotations

from datetime import datetime

import msgspec

from muster.broker.state.element import Element, StoredObject
from muster.broker.state.standing import Standing
from muster.mesh.model import Order


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What a projection knows of the state at its sequence: enough to go on without replaying the log."""

    seq: int
    time: datetime | None
    """When the record at that sequence was stored."""
    objects: list[StoredObject]
    elements: list[Element]
    orders: list[Order]
    standings: list[Standing]
