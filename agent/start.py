"""How an order reaches its agent: by an offer on the work stream, or with its first record (a direct start).

Everything that distinguishes the two is here.
"""

from __future__ import annotations

from typing import Annotated, Final, NamedTuple

import msgspec
from nats.aio.msg import Msg

from muster.mesh import names, records
from muster.mesh.jetstream import MSG_ID
from muster.mesh.messages import Packet
from muster.mesh.model import Direct

SEQUENCE: Final = "Nats-Sequence"
"""The header in which the server says at which place of the log it has stored a record that it passes on."""

_Sequence = Annotated[int, msgspec.Meta(ge=1)]
_packet = msgspec.json.Decoder(Packet)
_first = msgspec.json.Decoder(records.Created | records.Fired)


class Started(NamedTuple):
    """What the first record of an order says that its agent runs at once."""

    packet: Packet
    start: Direct
    """The daemon that the broker chose, and its clock at the heartbeat by which the broker knew it."""


def is_direct(packet: Packet) -> bool:
    """Whether an order started with its first record: nobody claims it."""
    return isinstance(packet.start, Direct)


def rev(packet: Packet) -> int:
    """The place on the log of the last record that a packet knows of; a direct start is older than any offer."""
    return packet.rev


def offered(message: Msg) -> Packet:
    """The packet of a message of the work stream.

    Raises:
        msgspec.MsgspecError: it is not a packet.
    """
    return _packet.decode(message.data)


def direct(message: Msg) -> Started:
    """The first record of an order, as the server passed it on.

    Raises:
        msgspec.MsgspecError: it is not a record that starts an order, or no server has stored it.
    """
    record: records.Created | records.Fired = _first.decode(message.data)
    msgspec.convert((message.headers or {}).get(SEQUENCE, ""), _Sequence, strict=False)
    start = record.start
    if start is None:
        raise msgspec.ValidationError("the record names no agent")
    packet = Packet(
        order=record.about,
        attempt=1,
        start=start,
        blueprint=record.blueprint,
        digest=record.digest,
        inputs=record.inputs,
        sources=record.sources,
        element=record.starts_on,
        labels=record.labels,
        depth=record.depth if isinstance(record, records.Created) else 0,
    )
    return Started(packet, start)


def lease_message(packet: Packet, element: str) -> tuple[str, bytes, dict[str, str]]:
    """The message of the work stream that carries the lease of a direct start.

    A broker publishes the same one, with the same id: only the first of them is stored.
    """
    return names.work_element(element), msgspec.json.encode(packet), {MSG_ID: names.lease_message_id(packet.order)}
