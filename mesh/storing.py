"""Why JetStream stores nothing: asked of the server, which leaves a message that it cannot write without an answer.

A stream whose file could not be written (a full disk) refuses everything until its server is started again,
even if there is space by then.  Only a deletion says why; one of a missing message changes nothing.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec
from nats.js.errors import APIError

from muster.mesh.disk import NO_SPACE
from muster.mesh.errors import StorageError, UnavailableError

QUESTION: Final = b'{"seq":%d,"no_erase":true}' % 2**62
"""Delete a message that no stream has."""

DELETE_FAILED: Final = 10057
"""JetStream's err_code for a deletion that failed: there is no such message, or the stream cannot be written."""

NO_RESOURCES: Final = frozenset({10023, 10047})
"""JetStream's err_codes for what it has no storage left for: a message, a reservation."""

_NO_PEER_WITH_SPACE: Final = "insufficient storage"
"""What a cluster says when it places a stream; the err_code is that of too few servers."""

_FULL: Final = frozenset({"no space left on device", "disk quota exceeded"})
_FAILED_WRITE: Final = re.compile(r"[a-z]+ \S.*: (?P<cause>.+)")
"""How the server's language writes of a file that could not be written: `write /a/1.blk: no space left on device`."""

_NO_STORE: Final = "error creating store for"
"""How its message starts when the files of a stream or a consumer cannot be created; on a full disk it says no more."""

FULL: Final = f"{NO_SPACE}; nothing accepted is lost, and everything continues by itself after some is freed"
"""What is said with it, and the next step."""


class ApiError(msgspec.Struct, frozen=True):
    """What JetStream says when it refuses."""

    code: int = 0
    err_code: int = 0
    description: str = ""


class _Refusal(msgspec.Struct, frozen=True):
    error: ApiError = ApiError()


_refusal = msgspec.json.Decoder(_Refusal)


def where(stream: str) -> str:
    """The subject on which the question is asked of a stream."""
    return f"$JS.API.STREAM.MSG.DELETE.{stream}"


def why(error: ApiError) -> UnavailableError:
    """What a refusal means."""
    found = _FAILED_WRITE.fullmatch(error.description)
    cause = found["cause"] if found else ""
    if error.err_code in NO_RESOURCES or _NO_PEER_WITH_SPACE in error.description or cause in _FULL:
        return StorageError(FULL)
    if error.description.startswith(_NO_STORE):
        return StorageError(f"the NATS server cannot write on its disk ({error.description}); is there any space left?")
    if error.err_code == DELETE_FAILED and cause:
        return StorageError(f"the NATS server cannot write its streams: {cause}; nothing accepted is lost")
    return UnavailableError(f"JetStream refuses: {error.description}")


def is_short(error: APIError) -> bool:
    """Whether the server, or a cluster of them, has no storage left for what was asked."""
    return error.err_code in NO_RESOURCES or _NO_PEER_WITH_SPACE in (error.description or "")


def refused(error: APIError) -> UnavailableError:
    """The same, of what a call of nats-py raised."""
    return why(
        ApiError(code=error.code or 0, err_code=error.err_code or 0, description=error.description or repr(error))
    )


def trouble(answer: bytes) -> str | None:
    """Why a stream takes nothing, as its answer to the question says; None if it takes what comes."""
    found = why(_refusal.decode(answer).error)
    return found.detail if isinstance(found, StorageError) else None
