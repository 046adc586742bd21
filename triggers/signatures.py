"""Authenticates senders: signatures and tokens of deliveries, compared in constant time."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final, NamedTuple

from muster.blueprints.definition import duration
from muster.blueprints.provider import HookRequest
from muster.blueprints.secret import Secret
from muster.mesh.errors import Problem, UnauthorizedError, UnavailableError
from muster.triggers.schemes import Scheme

KEY_PREFIX: Final = b"whsec_"
"""The prefix of a Standard Webhooks key (standard-webhooks.md, "Signature scheme")."""

STANDARD_ID: Final = "webhook-id"
STANDARD_TIMESTAMP: Final = "webhook-timestamp"
STANDARD_SIGNATURE: Final = "webhook-signature"
STANDARD_HEADERS: Final = (STANDARD_ID, STANDARD_TIMESTAMP, STANDARD_SIGNATURE)
SVIX_ID: Final = "svix-id"
SVIX_HEADERS: Final = (SVIX_ID, "svix-timestamp", "svix-signature")

LONGEST_TOLERANCE: Final = timedelta(days=1)


def is_equal(given: str, right: bytes) -> bool:
    """Returns whether two texts are equal, in constant time."""
    return hmac.compare_digest(as_sent(given), right)


def as_sent(header: str) -> bytes:
    """Returns the bytes of a header, which was decoded as latin-1."""
    return header.encode("latin-1")


def check_token(secrets: Sequence[bytes], given: str | None, where: str) -> bytes:
    """Verifies a token; in `Authorization` after `Bearer`, or as the password of `Basic`.

    Returns:
        The matching secret.

    Raises:
        UnauthorizedError: the token is missing or wrong.
    """
    if given is None:
        raise UnauthorizedError(f"the {where} with the token is missing")
    scheme, space, rest = given.partition(" ")
    shown = [given]
    if space and scheme.lower() == "bearer":
        shown = [rest.strip(" \t")]
    elif space and scheme.lower() == "basic":
        shown += _basic(rest.strip(" \t"))
    fits = [secret for one in shown for secret in secrets if is_equal(one, secret)]
    if not fits:
        raise UnauthorizedError(f"the token in the {where} is not this trigger's")
    return fits[0]


def _basic(credentials: str) -> list[str]:
    """Returns `user:password` and the password (RFC 7617)."""
    try:
        pair = base64.b64decode(credentials, validate=True).decode("latin-1")
    except binascii.Error:
        return []
    return [pair, pair.partition(":")[2]]


@lru_cache(maxsize=256)
def _started(secret: bytes, algorithm: str) -> hmac.HMAC:
    """Returns an HMAC with its key, from a cache; the caller copies it."""
    return hmac.new(secret, digestmod=algorithm)


def signature(secret: bytes, content: bytes, scheme: Scheme) -> bytes:
    """Returns the HMAC (RFC 2104) of `content`, encoded, without the prefix."""
    started = _started(secret, scheme.algorithm).copy()
    started.update(content)
    digest = started.digest()
    return base64.b64encode(digest) if scheme.encoding == "base64" else binascii.hexlify(digest)


class Proof(NamedTuple):
    """The proof that a delivery comes from its sender."""

    secret: bytes = b""
    """The matching secret."""
    ident: str = ""
    """The signed id."""
    timed: str = ""
    """A value that is unique to the delivery, if its time is signed."""


def check_signature(secrets: Sequence[bytes], request: HookRequest, scheme: Scheme, tolerance: timedelta) -> Proof:
    """Verifies a delivery that is signed according to `scheme` with one of the secrets.

    Raises:
        UnauthorizedError: a header is missing, no signature matches, or the signed time is outside the tolerance.
    """
    given = request.headers.get(scheme.header.lower())
    if given is None:
        raise UnauthorizedError(f"the header {scheme.header} with the signature is missing")
    parts = _PARTS.split(given.strip())
    if len(parts) > MOST_SIGNATURES:
        raise UnauthorizedError(f"{scheme.header} has more than {MOST_SIGNATURES} signatures")
    stamp = _stamp(parts, request, scheme) if scheme.is_timed else ""
    content = _content(scheme.signed, stamp, request.body)
    shown = [part.removeprefix(scheme.prefix) for part in parts]
    if scheme.encoding == "hex":
        shown = [one.lower() for one in shown]
    rights = [signature(secret, content, scheme) for secret in secrets]
    fits = [secret for secret, right in zip(secrets, rights, strict=True) for one in shown if is_equal(one, right)]
    if not fits:
        signed = "time, body" if scheme.is_timed else "body"
        raise UnauthorizedError(f"the signature in {scheme.header} does not match {signed} and secret")
    if not scheme.is_timed:
        return Proof(secret=fits[0])
    check_time(stamp, request, tolerance, scheme.timestamp_header or scheme.header)
    return Proof(secret=fits[0], timed="signed:" + fingerprint(rights[0]))


MOST_SIGNATURES: Final = 20
"""Signatures in one header."""

_PARTS: Final = re.compile(r"[,;\s]+")
_BRACES: Final = re.compile(r"\{(time|body)\}")


def _stamp(parts: Sequence[str], request: HookRequest, scheme: Scheme) -> str:
    """Returns the signed time as it was sent."""
    if scheme.timestamp_prefix:
        stamps = [
            part.removeprefix(scheme.timestamp_prefix) for part in parts if part.startswith(scheme.timestamp_prefix)
        ]
        if len(stamps) != 1:
            raise UnauthorizedError(f"{scheme.header} does not have one time after {scheme.timestamp_prefix!r}")
        return stamps[0]
    stamp = request.headers.get(scheme.timestamp_header.lower())
    if stamp is None:
        raise UnauthorizedError(f"the header {scheme.timestamp_header} with the signed time is missing")
    return stamp


def _content(signed: str, stamp: str, body: bytes) -> bytes:
    """Returns the signed text."""
    if signed == "{body}":
        return body
    values = {"time": as_sent(stamp), "body": body}
    texts = _BRACES.split(signed)  # texts and names alternate
    return b"".join(values[part] if place % 2 else part.encode() for place, part in enumerate(texts))


def content_fault(signed: str) -> str:
    """Returns the problem of a `signed`; empty if it is valid."""
    names = _BRACES.findall(signed)
    if names.count("body") != 1 or names.count("time") > 1 or set("{}") & set(_BRACES.sub("", signed)):
        return "it must have {body} once, {time} at most once, and nothing else in braces"
    return ""


_STANDARD: Final = Scheme(encoding="base64", prefix="v1,")


def check_standard(secrets: Sequence[bytes], request: HookRequest, tolerance: timedelta) -> Proof:
    """Verifies a delivery that is signed according to Standard Webhooks; the signature covers its id.

    Svix, the origin of the specification, calls the headers `svix-…`.

    Raises:
        UnauthorizedError: a header is missing, the timestamp is outside the tolerance, or no signature matches.
        UnavailableError: the secret is not a key.
    """
    headers = request.headers
    names = STANDARD_HEADERS
    if STANDARD_SIGNATURE not in headers and SVIX_HEADERS[2] in headers:
        names = SVIX_HEADERS
    ident, stamp, given = (headers.get(name) for name in names)
    if not ident or not stamp or not given:
        missing = [name for name in names if not headers.get(name)]
        raise UnauthorizedError(f"the delivery is not signed: {' and '.join(missing)} missing")
    check_time(stamp, request, tolerance, names[1])
    content = b"%b.%b.%b" % (as_sent(ident), as_sent(stamp), request.body)
    shown = [one[3:] for one in given.split(" ")[:MOST_SIGNATURES] if one.startswith("v1,")]
    rights = [(secret, signature(standard_key(secret), content, _STANDARD)) for secret in secrets]
    fits = [secret for secret, right in rights for one in shown if is_equal(one, right)]
    if not fits:
        raise UnauthorizedError(f"no signature in {names[2]} matches id, timestamp, body and secret")
    return Proof(secret=fits[0], ident=ident)


def standard_key(secret: bytes) -> bytes:
    """Returns the key in a secret: base64 after `whsec_`, or else the text itself.

    Raises:
        UnavailableError: the text after `whsec_` is not base64.
    """
    is_marked = secret.startswith(KEY_PREFIX)
    try:
        return base64.b64decode(secret.removeprefix(KEY_PREFIX), validate=True)
    except binascii.Error:
        if is_marked:
            raise UnavailableError("the secret starts with whsec_, but the rest is not base64") from None
        return secret


def check_time(stamp: str, request: HookRequest, tolerance: timedelta, header: str) -> None:
    """Verifies that a signed time is within the tolerance, because an old delivery is a replay.

    Raises:
        UnauthorizedError: the time is too old, in the future, or invalid.
    """
    at = moment_of(stamp)
    if at is None:
        raise UnauthorizedError(f"the time in {header} is neither seconds or milliseconds since 1970 nor RFC 3339")
    off = request.received_at.timestamp() - at
    if abs(off) > tolerance.total_seconds():
        where = "too old" if off > 0 else "in the future"
        raise UnauthorizedError(f"the time in {header} is {where}: {abs(off):.0f} s from this host's clock")


_SECONDS: Final = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?")
_FINER: Final = {13: 10**3, 16: 10**6, 19: 10**9}
"""Digits of a time in milliseconds, microseconds and nanoseconds, from 2001 to 2286."""


def moment_of(stamp: str) -> float | None:
    """Parses a sender's time to seconds since 1970; returns None if it is invalid."""
    if _SECONDS.fullmatch(stamp):
        return float(stamp)
    if stamp.isascii() and stamp.isdigit():
        finer = _FINER.get(len(stamp))
        return int(stamp) / finer if finer is not None else None
    try:
        at = datetime.fromisoformat(stamp)
        return at.timestamp() if at.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


def tolerance_problem(text: str) -> Problem | None:
    """Returns the problem of a `tolerance`."""
    try:
        span = duration(text)
    except ValueError as error:
        return Problem(path="tolerance", message=str(error))
    if not timedelta(0) < span <= LONGEST_TOLERANCE:
        return Problem(path="tolerance", message="it must be longer than 0, and at most a day")
    return None


def fingerprint(data: bytes) -> str:
    """Returns a digest of bytes."""
    return hashlib.sha256(data).hexdigest()[:32]


def with_secrets(found: Sequence[Secret], check: Callable[[Sequence[bytes]], Proof]) -> Proof:
    """Calls `check` with the readable secrets.

    Raises:
        UnauthorizedError: no secret matches.
        UnavailableError: no readable secret matches, and some are not readable, of which one could match.
    """
    secrets: list[bytes] = []
    missing: UnavailableError | None = None
    for one in found:
        try:
            secrets.append(one.read())
        except UnavailableError as error:
            missing = error
    if missing is not None and not secrets:
        raise missing
    try:
        return check(secrets)
    except UnauthorizedError:
        if missing is not None:
            raise missing from None
        raise
