"""Unpacks compressed bodies, within `max_body`."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Final

import msgspec

from muster.blueprints.provider import HookRequest
from muster.mesh.errors import InvalidError, TooLargeError, UsageError

ENCODINGS: Final = ("gzip", "deflate")
"""Supported values of `Content-Encoding` (RFC 9110 §8.4.1), except `identity`."""

MOST_MEMBERS: Final = 100
"""Concatenated gzip files in one body (RFC 1952 §2.2); empty ones would cost time without reaching a size limit."""

_WINDOW: Final = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
_RAW: Final = -zlib.MAX_WBITS
"""Deflate without the zlib header, which some senders omit."""


class UnsupportedEncodingError(UsageError):
    """The content encoding is not supported."""

    status = 415
    code = "unsupported-encoding"


def encoding_of(headers: Mapping[str, str]) -> str:
    """Returns the encoding of the body; empty if it is not packed.

    Raises:
        UnsupportedEncodingError: the encoding is not supported.
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
    """Returns the delivery with an unpacked body; signatures cover the body as it was sent.

    Raises:
        TooLargeError: the unpacked body exceeds `limit` bytes; no more of it was unpacked.
        InvalidError: the body is damaged, or does not match its encoding.
        UnsupportedEncodingError: the encoding is not supported.
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
            raise TooLargeError(f"the unpacked body exceeds the limit of this trigger: {limit} bytes")
        if members > MOST_MEMBERS:
            raise InvalidError(f"the body has more than {MOST_MEMBERS} gzip members")
        if encoding != "gzip" or not data.strip(b"\0"):  # gzip files can be padded with zeros
            break
    return b"".join(parts)


def _member(data: bytes, window: int, most: int, encoding: str) -> tuple[bytes, bytes]:
    """Unpacks one stream, up to a byte more than `most`; returns the result and the remaining data."""
    stream = zlib.decompressobj(window)
    try:
        found = stream.decompress(data, most + 1)
    except zlib.error as error:
        raise InvalidError(f"the body is not valid {encoding}: {error}") from None
    if len(found) <= most and not stream.eof:
        raise InvalidError(f"the body is not valid {encoding}: its end is missing")
    return found, stream.unused_data


def _has_zlib_header(data: bytes) -> bool:
    """Returns whether data starts with a zlib header (RFC 1950 §2.2): method 8, and divisible by 31."""
    return len(data) > 1 and data[0] & 0x0F == zlib.DEFLATED and int.from_bytes(data[:2], "big") % 31 == 0
