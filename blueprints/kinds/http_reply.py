"""The answer to an HTTP task's request, within limits and without secrets."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    import httpx

MAX_BODY = 240 * 1024
"""Bytes of the answer that are kept: with status and headers, outputs may be 256 KB."""

ACCEPTED_CODING = "gzip"
"""How a server may pack its answer, once."""

_EXCERPT = 200
_SHORTEST_SECRET = 4
"""Shorter ones are not looked for in answers: they would be found anywhere."""


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of an answer."""

    status: int
    reason: str
    headers: dict[str, str]
    text: str
    is_json: bool
    size: int
    truncated: bool

    def outputs(self) -> dict[str, Any]:
        """The task's outputs: `status`, `headers`, and `json` or `text`."""
        found: dict[str, Any] = {"status": self.status, "headers": self.headers}
        if self.truncated:
            found["truncated"] = True
        elif self.is_json:
            try:
                return {**found, "json": msgspec.json.decode(self.text)}
            except (msgspec.DecodeError, RecursionError):
                pass
        return {**found, "text": self.text}

    def excerpt(self) -> str:
        """The body's start, for an error."""
        start = " ".join(self.text.split())[: _EXCERPT + 1]
        if not start:
            return ""
        return f": {start[:_EXCERPT]}…" if len(start) > _EXCERPT else f": {start}"


async def read_reply(response: httpx.Response, secrets: Sequence[str]) -> Reply:
    """The answer, its body as far as it is kept.

    Raises:
        httpx.HTTPError: the connection broke, or the body is in a coding that was not asked for.
    """
    data = await _body(response)
    truncated = len(data) > MAX_BODY
    del data[MAX_BODY:]
    kind = response.headers.get("content-type", "")
    return Reply(
        status=response.status_code,
        reason=response.reason_phrase,
        headers={name: _redacted(value, secrets) for name, value in response.headers.items()},
        text=_redacted(_decoded(bytes(data), response.charset_encoding), secrets),
        is_json="json" in kind.partition(";")[0],
        size=len(data),
        truncated=truncated,
    )


async def _body(response: httpx.Response) -> bytearray:
    """The body as far as it is kept, and something more if there is more.

    httpx would unpack each piece whole, and through any number of codings: 1.8 KB became 3 GB.
    """
    import httpx

    coding = response.headers.get("content-encoding", "identity").strip().lower()
    packed = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16) if coding in {"gzip", "x-gzip"} else None
    data = bytearray()
    async for piece in response.aiter_raw():
        if packed is None and coding not in {"", "identity"}:
            raise httpx.DecodingError(f"the answer's coding is {coding!r}; only gzip was asked for")
        try:
            data += piece if packed is None else packed.decompress(piece, MAX_BODY + 1 - len(data))
        except zlib.error:
            raise httpx.DecodingError("the answer is not gzip, as it says it is") from None
        if len(data) > MAX_BODY or (packed is not None and packed.eof):
            break
    return data


def _decoded(data: bytes, charset: str | None) -> str:
    try:
        return data.decode(charset or "utf-8", errors="replace")
    except LookupError:
        return data.decode(errors="replace")


def _redacted(text: str, secrets: Sequence[str]) -> str:
    """Servers repeat what they were sent, in errors above all."""
    for secret in secrets:
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, "***")
    return text
