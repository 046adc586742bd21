"""Bodies that were sent compressed: unpacked within `max_body`, whatever they claim to become."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Final

import msgspec

from muster.blueprints.provider import HookRequest
from muster.mesh.errors import InvalidError, TooLargeError, UsageError

ENCODINGS: Final = ("gzip", "deflate")
"""What `Content-Encoding` may say (RFC 9110 §8.4.1); `identity` is no encoding."""

MOST_MEMBERS: Final = 100
"""Gzip files behind each other in one body (RFC 1952 §2.2); empty ones would cost time and fill no limit."""

_WINDOW: Final = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
_RAW: Final = -zlib.MAX_WBITS
"""Deflate without zlib's wrapper, which some senders leave out."""


class UnsupportedEncodingError(UsageError):
    """The body's encoding is not understood."""

    status = 415
    code = "unsupported-encoding"


def encoding_of(headers: Mapping[str, str]) -> str:
    """How the body is packed; empty if it is not.

    Raises:
        UnsupportedEncodingError: in a way that nobody here undoes.
    """
    given = headers.get("content-encoding", "").strip().lower().removeprefix("x-")
    if given in {"", "identity"}:
        return ""
    if given not in ENCODINGS:
        raise UnsupportedEncodingError(
            f"the content encoding {given[:80]!r} is not supported; send the body plain, or packed with gzip or deflate"
        )
    return given


def unpacked(request: HookRequest, limit: int) -> HookRequest:
    """The delivery with its body unpacked; signatures are over the body as it was sent.

    Raises:
        TooLargeError: it becomes longer than `limit` bytes; no more of it was unpacked.
        InvalidError: it is damaged, or packed otherwise than its header says.
        UnsupportedEncodingError: its encoding is not understood.
    """
    encoding = encoding_of(request.headers)
    if not encoding or not request.body:
        return request
    return msgspec.structs.replace(request, body=_unpacked(request.body, encoding, limit))


def _unpacked(data: bytes, encoding: str, limit: int) -> bytes:
    window = _WINDOW[encoding]
    if encoding == "deflate" and not _has_zlib_header(data):
        window = _RAW
    parts: list[bytes] = []
    left, members = limit, 0
    while data:
        member, data = _member(data, window, left, encoding)
        parts.append(member)
        left -= len(member)
        members += 1
        if left < 0:
            raise TooLargeError(f"the body is larger than this trigger takes once it is unpacked: {limit} bytes")
        if members > MOST_MEMBERS:
            raise InvalidError(f"the body has more than {MOST_MEMBERS} gzip members")
        if encoding != "gzip" or not data.strip(b"\0"):  # gzip files may be padded with zeros
            break
    return b"".join(parts)


def _member(data: bytes, window: int, most: int, encoding: str) -> tuple[bytes, bytes]:
    """What one stream becomes, no more than a byte over `most`; and what stands behind it."""
    stream = zlib.decompressobj(window)
    try:
        found = stream.decompress(data, most + 1)
    except zlib.error as error:
        raise InvalidError(f"the body is not valid {encoding}: {error}") from None
    if len(found) <= most and not stream.eof:
        raise InvalidError(f"the body is not valid {encoding}: its end is missing")
    return found, stream.unused_data


def _has_zlib_header(data: bytes) -> bool:
    """RFC 1950 §2.2: method 8, and a header that divides by 31."""
    return len(data) > 1 and data[0] & 0x0F == zlib.DEFLATED and int.from_bytes(data[:2], "big") % 31 == 0
