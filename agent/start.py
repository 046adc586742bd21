"""How an order reaches its agent: by an offer on the work stream, or with its first record (a direct start).

Everything that tells the two apart is here.
"""

from __future__ import annotations

from typing import Annotated, Final, NamedTuple

import msgspec
from nats.aio.msg import Msg

from muster.mesh import names, records
from muster.mesh.jetstream import MSG_ID
from muster.mesh.model import Packet

SEQUENCE: Final = "Nats-Sequence"
"""The header in which the server says at which place of the log it has stored a record that it passes on."""

DIRECT: Final = 0
"""The `rev` of a direct start: older than any offer of the same order."""

_Sequence = Annotated[int, msgspec.Meta(ge=1)]
_packet = msgspec.json.Decoder(Packet)
_first = msgspec.json.Decoder(records.Created | records.Fired)


class Direct(NamedTuple):
    """What the first record of an order says that its agent runs at once."""

    packet: Packet
    agent: str
    """The daemon that the broker chose."""
    beat: float
    """That daemon's clock at the heartbeat by which the broker knew it: its lease runs from there."""


def is_direct(packet: Packet) -> bool:
    """Whether an order started with its first record: nobody claims it."""
    return packet.rev == DIRECT


def offered(message: Msg) -> Packet:
    """The packet of a message of the work stream.

    Raises:
        msgspec.MsgspecError: it is not a packet.
    """
    return _packet.decode(message.data)


def direct(message: Msg) -> Direct:
    """The first record of an order, as the server passed it on.

    Raises:
        msgspec.MsgspecError: it is not a record that starts an order, or no server has stored it.
    """
    record: records.Created | records.Fired = _first.decode(message.data)
    msgspec.convert((message.headers or {}).get(SEQUENCE, ""), _Sequence, strict=False)
    packet = Packet(
        order=record.about,
        attempt=1,
        rev=DIRECT,
        blueprint=record.blueprint,
        digest=record.digest,
        inputs=record.inputs,
        sources=record.sources,
        element=record.begins_on,
        labels=record.labels,
        depth=record.depth if isinstance(record, records.Created) else 0,
    )
    return Direct(packet, record.agent or "", record.beat)


def lease_message(packet: Packet, element: str) -> tuple[str, bytes, dict[str, str]]:
    """The message of the work stream that carries the lease of a direct start.

    A broker publishes the same one, with the same id: only the first of them is stored.
    """
    return names.work_element(element), msgspec.json.encode(packet), {MSG_ID: names.lease_message_id(packet.order)}
