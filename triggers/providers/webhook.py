"""`provider: webhook`: anything that can send an HTTP request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple

from muster.blueprints.definition import duration
from muster.blueprints.provider import Happening, Hook, HookRequest
from muster.mesh.errors import Problem, UnauthorizedError, UnavailableError
from muster.triggers.bodies import BodyKind, parsed
from muster.triggers.deliveries import event, key, key_of_body, shown
from muster.triggers.packing import unpacked
from muster.triggers.signatures import (
    STANDARD_ID,
    Algorithm,
    Encoding,
    Scheme,
    as_sent,
    check_signature,
    check_standard,
    check_time,
    check_token,
    fingerprint,
    signature,
    tolerance_problem,
)

SIGNATURE_HEADERS: Final = ("x-hub-signature-256", "x-signature-256", "x-signature", "x-webhook-signature")
"""Where senders put an HMAC, if `header` does not say; the first that is there counts."""

ID_HEADERS: Final = (STANDARD_ID, "idempotency-key")
"""Where senders put a delivery's id, if `id_header` does not say."""


class Webhook(Hook):
    """Takes any JSON, form or text, from whoever shows what `auth` asks for."""

    auth: Literal["none", "hmac", "token", "standard-webhooks"] = "none"
    """`hmac`: a signature of the body; `token`: the secret itself; `standard-webhooks`: as its specification says."""
    header: str | None = None
    """Where the signature or token stands; a token: `Authorization`, behind `Bearer`."""
    algorithm: Algorithm = "sha256"
    """Of `hmac`."""
    encoding: Encoding = "hex"
    """Of `hmac`'s signature."""
    prefix: str | None = None
    """What stands before `hmac`'s signature; unless said, the algorithm's name and `=`, or nothing."""
    timestamp_header: str | None = None
    """For `hmac`: a header with the time in seconds; `TIME.BODY` is signed then, and an old time is a replay."""
    tolerance: str = "5m"
    """How far a signed time may be from ours."""
    id_header: str | None = None
    """What tells a redelivery; unless said, `webhook-id` or `Idempotency-Key`, and with a signed time its signature."""
    body: BodyKind = "auto"
    """What bodies are; `auto`: what their type says, and JSON where it says little and the body is some."""
    dedupe: Literal["id", "body"] = "id"
    """`body`: equal bodies are one delivery, whatever id they say: the id of an `hmac` delivery is not signed."""

    def problems(self) -> Iterator[Problem]:
        """A secret too few or too many, and fields that say nothing."""
        if self.auth != "none" and self.secret is None:
            mend = "say secret: {env: NAME} or {file: PATH}"
            yield Problem(path="secret", message=f"auth {self.auth!r} needs a secret", mend=mend)
        if self.auth == "none" and self.secret is not None:
            message = "nothing checks the secret: auth is 'none'"
            yield Problem(path="auth", message=message, mend="say auth: hmac, token or standard-webhooks")
        if self.auth in {"none", "standard-webhooks"} and self.header is not None:
            yield Problem(path="header", message=f"auth {self.auth!r} looks at no header of your choice")
        if self.auth != "hmac":
            for name, value in (("prefix", self.prefix), ("timestamp_header", self.timestamp_header)):
                if value is not None:
                    yield Problem(path=name, message=f"it says nothing with auth {self.auth!r}", mend="say auth: hmac")
        if (fault := tolerance_problem(self.tolerance)) is not None:
            yield fault

    def by_hand(self, body: Any, now: datetime) -> dict[str, Any]:  # noqa: ARG002
        """Nobody asked with a query."""
        return {"query": {}}

    def receive(self, request: HookRequest) -> Happening:
        """Check it, and take its body for what its type says."""
        proof = self._check(request)
        headers = request.headers
        body = parsed(unpacked(request, self.max_body).body, headers.get("content-type", ""), self.body)
        known = key_of_body(request) if self.dedupe == "body" else key(*self._idents(proof, headers))
        hidden = self.header.lower() if self.header is not None else None
        told = event(request, "webhook", "webhook", body, known, hidden)
        told["query"] = shown(request.query) if request.query else {}
        return Happening(event=told, key=known)

    def _idents(self, proof: _Proof, headers: Mapping[str, str]) -> tuple[str | None, ...]:
        """What may tell the delivery when it comes again.

        No header outranks what is signed, unless the trigger names it: whoever has seen a delivery could write
        another id on it, and send it again for as long as its time is taken for now.
        """
        if self.id_header is not None:
            return proof.ident, headers.get(self.id_header.lower()), proof.signature
        return proof.ident, proof.signature, *map(headers.get, ID_HEADERS)

    def _check(self, request: HookRequest) -> _Proof:
        if self.auth == "none":
            return _Proof()
        if self.secret is None:
            raise UnavailableError("the trigger has no secret to check with")
        secret = self.secret.read()
        if self.auth == "standard-webhooks":
            return _Proof(ident=check_standard(secret, request, duration(self.tolerance)))
        if self.auth == "hmac":
            return self._check_hmac(secret, request)
        header = self.header or "Authorization"
        check_token(secret, request.headers.get(header.lower()), header)
        return _Proof()

    def _check_hmac(self, secret: bytes, request: HookRequest) -> _Proof:
        headers = request.headers
        header = self.header or next(filter(headers.__contains__, SIGNATURE_HEADERS), SIGNATURE_HEADERS[0])
        scheme = Scheme(self.algorithm, self.encoding, f"{self.algorithm}=" if self.prefix is None else self.prefix)
        given = headers.get(header.lower())
        if self.timestamp_header is None:
            check_signature(given, signature(secret, request.body, scheme), scheme, header)
            return _Proof()
        stamp = headers.get(self.timestamp_header.lower())
        if stamp is None:
            raise UnauthorizedError(f"the header {self.timestamp_header} with the signed time is missing")
        right = signature(secret, b"%b.%b" % (as_sent(stamp), request.body), scheme)
        check_signature(given, right, scheme, header)
        check_time(stamp, request, duration(self.tolerance), self.timestamp_header)
        return _Proof(signature="signed:" + fingerprint(right))


class _Proof(NamedTuple):
    """What a delivery showed that nobody else can make."""

    ident: str = ""
    """An id that is signed."""
    signature: str = ""
    """A signature that is another one for another time."""
