"""`/api/v1/orders/{id}/output`: what an order's tasks print, as plain bytes or live."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated

import msgspec
from litestar import get
from litestar.params import Parameter
from litestar.response import Stream
from msgspec.structs import replace

from muster.broker.api import sse
from muster.broker.api.context import PREFIX, Api, ApiDependency, OrderId
from muster.broker.api.output import Chunk
from muster.mesh import names
from muster.mesh.errors import InvalidError, Problem
from muster.mesh.model import Order


class OutputLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One message of the live form."""

    job: str
    claim: int
    """Which attempt at the order printed it; a retried or lost order is claimed again."""
    attempt: int
    """Which try of the task."""
    offset: int
    """Where in this attempt's output the piece starts, in bytes."""
    data: str
    """The piece: text, or base64 if `encoding` says so."""
    encoding: str = ""
    """`base64` if the bytes are binary."""


_encode = msgspec.json.Encoder().encode


@get(
    f"{PREFIX}/orders/{{order:str}}/output",
    summary="Get or stream the output of an order",
    description="All that was printed so far, as plain bytes. With `follow=true`, server-sent events: each message is "
    '`{"job", "claim", "attempt", "offset", "data"}` (with `"encoding": "base64"` where the bytes are not text), and '
    "after the last one, when the order is final, comes the event `end` with the order's state.",
    media_type="application/octet-stream",
    tags=["orders"],
    opt={"problems": (404, 409, 503)},
)
async def get_output(
    order: OrderId,
    api: ApiDependency,
    follow: Annotated[bool, Parameter(description="Send what comes, until the order is final.")] = False,
    job: Annotated[str | None, Parameter(description="Only this job's output.")] = None,
) -> Stream:
    """What the order's tasks print."""
    if job is not None and not names.is_name(job):
        problem = Problem(message=f"{job!r} is not a job's name; one has {names.NAME_RULE}", path="job")
        raise InvalidError("the request's parameters are not valid", problem)
    found = await api.services.query.order(order)
    if follow:
        return sse.stream(_live(api, found, job), api.services.finals.closing)
    return Stream(_plain(api, found, job), media_type="application/octet-stream")


async def _plain(api: Api, order: Order, job: str | None) -> AsyncGenerator[bytes, None]:
    async with aclosing(api.output.read(order.id, job=job)) as chunks:
        async for chunk in chunks:
            yield chunk.data


async def _live(api: Api, order: Order, job: str | None) -> AsyncGenerator[bytes, None]:
    held: Chunk | None = None
    async with aclosing(api.output.read(order.id, job=job, follow=True)) as chunks:
        async for chunk in chunks:
            pieces, held = _whole(held, chunk)
            for piece in pieces:
                yield sse.message(_encode(output_line(piece)))
    ended = await api.services.query.order(order.id)
    if ended.is_final:  # otherwise the broker goes down, and the follower asks another one
        if held is not None:
            yield sse.message(_encode(output_line(held)))
        yield sse.message(_encode({"order": ended.id, "state": ended.state, "reason": ended.reason}), event="end")


def _whole(held: Chunk | None, chunk: Chunk) -> tuple[list[Chunk], Chunk | None]:
    """Chunks without a character that is cut in two, and the bytes of one that the next chunk may complete.

    Args:
        held: what was held back of the chunk before.
        chunk: the next one, of the same job or another.
    """
    pieces = []
    if held is not None:
        if held.follows(chunk):
            chunk = replace(chunk, offset=held.offset, data=held.data + chunk.data)
        else:
            pieces.append(held)
    end = len(chunk.data) - unfinished(chunk.data)
    if end:
        pieces.append(replace(chunk, data=chunk.data[:end]))
    rest = chunk.data[end:]
    return pieces, replace(chunk, offset=chunk.offset + end, data=rest) if rest else None


def unfinished(data: bytes) -> int:
    """Returns how many bytes at the end start a character of UTF-8 (RFC 3629 §3) and do not complete it."""
    for back, byte in enumerate(reversed(data[-3:]), 1):
        if byte & 0xC0 == 0x80:  # noqa: PLR2004 - 10xxxxxx: the character starts earlier
            continue
        length = 2 if 0xC2 <= byte <= 0xDF else 3 if 0xE0 <= byte <= 0xEF else 4 if 0xF0 <= byte <= 0xF4 else 1  # noqa: PLR2004
        return back if back < length else 0
    return 0


def output_line(chunk: Chunk) -> OutputLine:
    """The chunk as JSON can carry it: as text, or in base64 what is none."""
    try:
        data, encoding = chunk.data.decode(), ""
    except UnicodeDecodeError:
        data, encoding = b64encode(chunk.data).decode(), "base64"
    if "\0" in data:
        data, encoding = b64encode(chunk.data).decode(), "base64"
    return OutputLine(
        job=chunk.job,
        claim=chunk.claim,
        attempt=chunk.attempt,
        offset=chunk.offset,
        data=data,
        encoding=encoding,
    )
