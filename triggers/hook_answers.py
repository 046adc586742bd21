"""The answers to deliveries."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Final, NamedTuple

import msgspec

from muster.mesh.asgi import Send
from muster.mesh.errors import RefusedError, UsageError
from muster.mesh.firing import FireReply, FiringState
from muster.triggers.packing import ENCODINGS

JSON: Final = b"application/json"
PROBLEM: Final = b"application/problem+json"
NO_SNIFF: Final = (b"x-content-type-options", b"nosniff")
"""The answer to a challenge contains the sender's text."""

encode = msgspec.json.Encoder().encode


class Answer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The answer to an authenticated delivery."""

    firing: str | msgspec.UnsetType = msgspec.UNSET
    orders: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    state: str = ""
    reason: str = ""
    duplicate: bool = False
    ignored: str = ""


class RejectedError(RefusedError):
    """The trigger could not create orders; the same delivery can be sent again."""

    status = 422
    code = "rejected"


class MethodNotAllowedError(UsageError):
    """The hook does not support this method."""

    status = 405
    code = "method-not-allowed"

    def __init__(self, method: str, taken: tuple[str, ...]) -> None:
        super().__init__(f"deliveries are sent with {' or '.join(taken)}, not {method}")
        self.taken = taken


class Content(NamedTuple):
    """The status and body of an answer."""

    status: int
    body: bytes
    kind: bytes = JSON


def answer_of(reply: FireReply) -> Content:
    """Returns the answer for the reply of a broker."""
    if reply.ignored:
        return Content(200, encode(Answer(ignored=reply.ignored)))
    answer = Answer(
        firing=reply.firing,
        orders=reply.orders,
        state=reply.state or "" if not reply.orders else "",
        reason=reply.reason,
        duplicate=reply.duplicate,
    )
    if reply.state is FiringState.REJECTED:
        rejected = RejectedError(reply.reason).as_problem()
        return Content(RejectedError.status, encode(rejected | msgspec.to_builtins(answer)), PROBLEM)
    return Content(200 if reply.duplicate else 202, encode(answer))


async def respond(
    send: Send, status: int, content: bytes, headers: list[tuple[bytes, bytes]], rest: Awaitable[None] | None = None
) -> None:
    """Sends an answer; `rest` runs before its last part is sent."""
    headers.append((b"content-length", b"%d" % len(content)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    if rest is not None:
        await send({"type": "http.response.body", "body": content, "more_body": True})
        await rest
        content = b""
    await send({"type": "http.response.body", "body": content})


HEADERS: Final[Mapping[int, tuple[tuple[bytes, bytes], ...]]] = {
    401: ((b"www-authenticate", b'Bearer realm="muster"'),),
    415: ((b"accept-encoding", ", ".join(ENCODINGS).encode()),),
    503: ((b"retry-after", b"1"),),
}
"""Additional headers by status."""
