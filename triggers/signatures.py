"""Who sent it: signatures and tokens of deliveries, all compared in constant time."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from datetime import timedelta
from functools import lru_cache
from typing import Final, Literal, NamedTuple

from muster.blueprints.definition import duration
from muster.blueprints.provider import HookRequest
from muster.mesh.errors import Problem, UnauthorizedError, UnavailableError

Algorithm = Literal["sha1", "sha256", "sha512"]
Encoding = Literal["hex", "base64"]

KEY_PREFIX: Final = b"whsec_"
"""Stands before a Standard Webhooks key (standard-webhooks.md, "Signature scheme")."""

STANDARD_ID: Final = "webhook-id"
STANDARD_TIMESTAMP: Final = "webhook-timestamp"
STANDARD_SIGNATURE: Final = "webhook-signature"

LONGEST_TOLERANCE: Final = timedelta(days=1)


def is_equal(given: str, right: bytes) -> bool:
    """Whether they are the same; how long it takes tells nothing."""
    return hmac.compare_digest(as_sent(given), right)


def as_sent(header: str) -> bytes:
    """A header's bytes: it was read as if each were a letter (latin-1), whatever its sender wrote it in."""
    return header.encode("latin-1")


def check_token(secret: bytes, given: str | None, header: str) -> None:
    """The secret itself stands in a header, if need be behind `Bearer`.

    Raises:
        UnauthorizedError: it is missing, or another one.
    """
    if given is None:
        raise UnauthorizedError(f"the header {header} with the token is missing")
    scheme, space, rest = given.partition(" ")
    token = rest.strip(" \t") if space and scheme.lower() == "bearer" else given
    if not is_equal(token, secret):
        raise UnauthorizedError(f"the token in {header} is not this trigger's")


class Scheme(NamedTuple):
    """How an HMAC is written."""

    algorithm: Algorithm = "sha256"
    encoding: Encoding = "hex"
    prefix: str = "sha256="
    """May stand before it."""


@lru_cache(maxsize=256)
def _started(secret: bytes, algorithm: str) -> hmac.HMAC:
    """Half of an HMAC is about its key alone: it is kept, and copied."""
    return hmac.new(secret, digestmod=algorithm)


def signature(secret: bytes, content: bytes, scheme: Scheme) -> bytes:
    """The HMAC (RFC 2104) of `content`, as text and without the prefix."""
    started = _started(secret, scheme.algorithm).copy()
    started.update(content)
    digest = started.digest()
    return base64.b64encode(digest) if scheme.encoding == "base64" else binascii.hexlify(digest)


def check_signature(given: str | None, right: bytes, scheme: Scheme, header: str) -> None:
    """The right signature stands in a header.

    Raises:
        UnauthorizedError: it is missing or wrong.
    """
    if given is None:
        raise UnauthorizedError(f"the header {header} with the signature is missing")
    bare = given.removeprefix(scheme.prefix)
    if not is_equal(bare.lower() if scheme.encoding == "hex" else bare, right):
        raise UnauthorizedError(f"the signature in {header} does not fit body and secret")


_STANDARD: Final = Scheme(encoding="base64", prefix="v1,")


def check_standard(secret: bytes, request: HookRequest, tolerance: timedelta) -> str:
    """A delivery signed as Standard Webhooks has it; its id, which the signature covers.

    Raises:
        UnauthorizedError: a header is missing, the timestamp is too old or in the future, or no signature fits.
        UnavailableError: the secret is no key.
    """
    headers = request.headers
    ident, stamp, given = (headers.get(name) for name in (STANDARD_ID, STANDARD_TIMESTAMP, STANDARD_SIGNATURE))
    if not ident or not stamp or not given:
        missing = [name for name in (STANDARD_ID, STANDARD_TIMESTAMP, STANDARD_SIGNATURE) if not headers.get(name)]
        raise UnauthorizedError(f"the delivery is not signed: {' and '.join(missing)} missing")
    check_time(stamp, request, tolerance, STANDARD_TIMESTAMP)
    content = b"%b.%b.%b" % (as_sent(ident), as_sent(stamp), request.body)
    right = signature(standard_key(secret), content, _STANDARD)
    fits = [is_equal(one[3:], right) for one in given.split(" ") if one.startswith("v1,")]
    if not any(fits):
        raise UnauthorizedError(f"no signature in {STANDARD_SIGNATURE} fits id, timestamp, body and secret")
    return ident


def standard_key(secret: bytes) -> bytes:
    """The key in a secret: base64 behind `whsec_`, or the text itself if it is not so written.

    Raises:
        UnavailableError: what stands behind `whsec_` is no base64.
    """
    is_marked = secret.startswith(KEY_PREFIX)
    try:
        return base64.b64decode(secret.removeprefix(KEY_PREFIX), validate=True)
    except binascii.Error:
        if is_marked:
            raise UnavailableError("the secret begins with whsec_ but is no base64 after that") from None
        return secret


def check_time(stamp: str, request: HookRequest, tolerance: timedelta, header: str) -> None:
    """A signed timestamp, in seconds since 1970, is of now: an old delivery is a replay.

    Raises:
        UnauthorizedError: it is too old, in the future, or no time.
    """
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) < 13):  # noqa: PLR2004 - milliseconds have 13 digits
        raise UnauthorizedError(f"{header} is not a time in seconds since 1970")
    off = request.received_at.timestamp() - int(stamp)
    if abs(off) > tolerance.total_seconds():
        where = "too old" if off > 0 else "in the future"
        raise UnauthorizedError(f"{header} is {where}: {abs(off):.0f} s away from this host's clock")


def tolerance_problem(text: str) -> Problem | None:
    """What is wrong with a `tolerance`."""
    try:
        span = duration(text)
    except ValueError as error:
        return Problem(path="tolerance", message=str(error))
    if not timedelta(0) < span <= LONGEST_TOLERANCE:
        return Problem(path="tolerance", message="it must be longer than nothing, and a day at most")
    return None


def fingerprint(data: bytes) -> str:
    """What tells the same bytes again."""
    return hashlib.sha256(data).hexdigest()[:32]
