"""`provider: webhook`: anything that can send an HTTP request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, Literal

import msgspec

from muster.blueprints.definition import duration
from muster.blueprints.provider import Answered, Happening, Hook, HookRequest
from muster.blueprints.secret import Secret
from muster.blueprints.suggest import did_you_mean
from muster.mesh.errors import InvalidError, Problem, UnauthorizedError, UnavailableError
from muster.triggers import challenges
from muster.triggers.bodies import BodyKind, parsed
from muster.triggers.challenges import ChallengeKind, Signed
from muster.triggers.deliveries import event, key, key_of_body, without_secrets
from muster.triggers.packing import unpacked
from muster.triggers.schemes import SCHEMES, Algorithm, Encoding, Scheme, detected, is_ambiguous, plain_header
from muster.triggers.signatures import (
    STANDARD_ID,
    SVIX_ID,
    Proof,
    check_signature,
    check_standard,
    check_token,
    content_fault,
    tolerance_problem,
    with_secrets,
)

ID_HEADERS: Final = (STANDARD_ID, SVIX_ID, "idempotency-key")
"""Where senders put a delivery's id, if `id_header` does not say."""

OF_HMAC: Final = ("signature", "algorithm", "encoding", "prefix", "timestamp_header", "timestamp_prefix", "signed")
"""Fields that say how an HMAC is written."""


class Webhook(Hook):
    """Takes any JSON, form or text, from whoever shows what `auth` asks for."""

    event_fields = frozenset({"query"})

    auth: Literal["local", "none", "hmac", "token", "standard-webhooks"] = "local"
    """Who may fire it.  `local`: this host, and the account that runs the hooks; `none`: anybody.

    `hmac`: who signs; `token`: who shows the secret; `standard-webhooks`: who signs as that specification says.
    """
    signature: str | None = None
    """Of `hmac`: the sender whose way to sign it is, as `slack`; the fields below change or describe it."""
    header: str | None = None
    """Where the signature or token stands; a token: `Authorization`, behind `Bearer` or as the password of `Basic`."""
    query: str | None = None
    """For `token`: the parameter of the URL that has it, for senders that cannot set headers."""
    algorithm: Algorithm | None = None
    """Of `hmac`; unless said, that of `signature`, or sha256."""
    encoding: Encoding | None = None
    """Of `hmac`'s signature; unless said, that of `signature`, or hex."""
    prefix: str | None = None
    """What stands before `hmac`'s signature; unless said, that of `signature`, or the algorithm's name and `=`."""
    timestamp_header: str | None = None
    """For `hmac`: a header with the time, in (milli)seconds since 1970 or RFC 3339; an old time is a replay."""
    timestamp_prefix: str | None = None
    """For `hmac`: what stands before the time in the signature's own header: `t=`."""
    signed: str | None = None
    """For `hmac`: what is signed; unless said, `{time}.{body}` where a time is, and `{body}` otherwise."""
    tolerance: str = "5m"
    """How far a signed time may be from ours."""
    id_header: str | None = None
    """What tells a redelivery; unless said, `webhook-id` or `Idempotency-Key`, and with a signed time its signature."""
    body: BodyKind = "auto"
    """What bodies are; `auto`: what their type says, and JSON where it says little and the body is some."""
    dedupe: Literal["id", "body"] = "id"
    """`body`: equal bodies are one delivery, whatever id they say: the id of an `hmac` delivery is not signed."""
    challenge: ChallengeKind = "auto"
    """Whose question before the first delivery is answered; `auto`: those that are deliveries themselves."""
    challenge_token: Secret | None = None
    """What `challenge: meta` must show; unless said, the trigger's secret."""

    @property
    def methods(self) -> tuple[str, ...]:
        """GET too if a challenge comes so."""
        return ("POST", "GET") if challenges.comes_by_get(self.challenge) else ("POST",)

    @property
    def is_for_own_account(self) -> bool:
        """If nothing else is asked for."""
        return self.auth == "local"

    def problems(self) -> Iterator[Problem]:
        """A secret too few or too many, and fields that say nothing."""
        yield from super().problems()
        is_open = self.auth in {"local", "none"}
        if not is_open and self.secret is None:
            hint = "say secret: {env: NAME} or {file: PATH}"
            yield Problem(path="secret", message=f"auth {self.auth!r} needs a secret", hint=hint)
        if is_open and self.secret is not None:
            message = f"nothing checks the secret: auth is {self.auth!r}"
            yield Problem(path="auth", message=message, hint="say auth: hmac, token or standard-webhooks")
        if (is_open or self.auth == "standard-webhooks") and self.header is not None:
            yield Problem(path="header", message=f"auth {self.auth!r} looks at no header of your choice")
        yield from self._token_problems()
        yield from self._hmac_problems()
        if (fault := tolerance_problem(self.tolerance)) is not None:
            yield fault
        if self.challenge_token is not None and self.challenge != "meta":
            yield Problem(path="challenge_token", message="only `challenge: meta` has a token")

    def _token_problems(self) -> Iterator[Problem]:
        if self.query is None:
            return
        if self.auth != "token":
            yield Problem(path="query", message=f"it says nothing with auth {self.auth!r}", hint="say auth: token")
        if self.header is not None:
            yield Problem(path="query", message="the token stands in the header or in the query, not in both")

    def _hmac_problems(self) -> Iterator[Problem]:
        if self.auth != "hmac":
            for name in OF_HMAC:
                if getattr(self, name) is not None:
                    yield Problem(path=name, message=f"it says nothing with auth {self.auth!r}", hint="say auth: hmac")
            return
        if self.signature is not None and self.signature not in SCHEMES:
            hint = _ELSEWHERE.get(self.signature) or did_you_mean(self.signature, SCHEMES)
            yield Problem(path="signature", message=f"no way to sign is known as {self.signature!r}", hint=hint)
            return
        scheme = self._scheme({})
        if self.signed is not None and (fault := content_fault(self.signed)):
            yield Problem(path="signed", message=fault, hint="as in '{time}.{body}'")
        has_time = bool(scheme.timestamp_header or scheme.timestamp_prefix)
        if scheme.is_timed and not has_time:
            hint = "say timestamp_header, or timestamp_prefix if it stands in the signature's header"
            yield Problem(path="signed", message="it does not say where the signed time stands", hint=hint)
        if has_time and not scheme.is_timed:
            yield Problem(path="signed", message="the time is not part of what is signed", hint="as in '{time}.{body}'")

    def by_hand(self, body: Any, now: datetime) -> dict[str, Any]:  # noqa: ARG002
        """Nobody asked with a query."""
        return {"query": {}}

    def receive(self, request: HookRequest) -> Happening | Answered:
        """Check it, and take its body for what its type says."""
        if (answer := self._challenged(request)) is not None:
            return answer
        proof = self._check(request)
        headers = request.headers
        request = unpacked(request, self.max_body)
        body = parsed(request.body, headers.get("content-type", ""), self.body)
        zoom = proof.secret if self._scheme(headers).signed == SCHEMES["zoom"].signed else b""
        if (answer := challenges.of_delivery(self.challenge, Signed(body, zoom))) is not None:
            return answer
        known = key_of_body(request) if self.dedupe == "body" else key(*self._idents(proof, headers))
        hidden = self.header.lower() if self.header is not None else None
        told = event(request, "webhook", "webhook", body, known, hidden)
        told["query"] = self._shown_query(request.query, proof) if request.query else {}
        return Happening(event=told, key=known)

    def _shown_query(self, query: Mapping[str, str], proof: Proof) -> dict[str, str]:
        """Without what may be a secret, or is this trigger's."""
        shown = without_secrets(query)
        return {
            name: value
            for name, value in shown.items()
            if name != self.query and not (proof.secret and value.encode(errors="replace") == proof.secret)
        }

    def _challenged(self, request: HookRequest) -> Answered | None:
        """The answer to what no signature covers."""
        shown = challenges.verify_token(self.challenge, request)
        if shown is not None and request.method == "GET":
            expected = (self.challenge_token,) if self.challenge_token is not None else self.secrets
            if expected:
                with_secrets(expected, lambda secrets: _in_query(secrets, shown, "hub.verify_token"))
        answer = challenges.of_request(self.challenge, request)
        if answer is None and request.method != "POST":
            raise InvalidError("this is neither a delivery nor the challenge that the trigger answers")
        return answer

    def _idents(self, proof: Proof, headers: Mapping[str, str]) -> tuple[str | None, ...]:
        """What may tell the delivery when it comes again.

        No header outranks what is signed, unless the trigger names it: whoever has seen a delivery could write
        another id on it, and send it again for as long as its time is taken for now.
        """
        if self.id_header is not None:
            return proof.ident, headers.get(self.id_header.lower()), proof.timed
        return proof.ident, proof.timed, *map(headers.get, ID_HEADERS)

    def _check(self, request: HookRequest) -> Proof:
        if self.auth in {"local", "none"}:  # whose it may be was seen before it was read
            return Proof()
        if not self.secrets:
            raise UnavailableError("the trigger has no secret to check with")
        return with_secrets(self.secrets, lambda secrets: self._proof(secrets, request))

    def _proof(self, secrets: Sequence[bytes], request: HookRequest) -> Proof:
        if self.auth == "standard-webhooks":
            return check_standard(secrets, request, duration(self.tolerance))
        if self.auth == "hmac":
            scheme = self._scheme(request.headers)
            if not self._is_told and is_ambiguous(scheme, request.body):
                raise UnauthorizedError(
                    "the body begins as what is signed with a time does; give the trigger `signature`"
                )
            return check_signature(secrets, request, scheme, duration(self.tolerance))
        if self.query is not None:
            return _in_query(secrets, request.query.get(self.query), self.query)
        header = self.header or "Authorization"
        return Proof(secret=check_token(secrets, request.headers.get(header.lower()), f"header {header}"))

    @property
    def _is_told(self) -> bool:
        """Whether the trigger itself says how its sender signs, be it in part."""
        return self.header is not None or any(getattr(self, name) is not None for name in OF_HMAC)

    def _scheme(self, headers: Mapping[str, str]) -> Scheme:
        """How the sender signs."""
        if not self._is_told:
            return detected(headers) or _UNKNOWN
        header = self.header
        if header is None and self.signature is None:
            header = plain_header(headers, self.algorithm or "sha256")
        fields = (self.algorithm, self.encoding, self.prefix, self.timestamp_header, self.timestamp_prefix, self.signed)
        return _scheme_of(self.signature, header, fields)


def _in_query(secrets: Sequence[bytes], given: str | None, name: str) -> Proof:
    as_sent = given.encode(errors="replace").decode("latin-1") if given is not None else None
    return Proof(secret=check_token(secrets, as_sent, f"parameter {name}"))


_UNKNOWN: Final = Scheme(header="X-Hub-Signature-256")
"""What is missing where nothing is there."""

_ELSEWHERE: Final = {"standard-webhooks": "say auth: standard-webhooks", "gitlab": "say provider: gitlab"}


@lru_cache(maxsize=1024)
def _scheme_of(name: str | None, header: str | None, fields: tuple[Any, ...]) -> Scheme:
    """A sender's scheme, changed by what a trigger says."""
    scheme = SCHEMES[name] if name is not None else Scheme()
    said = dict(zip(OF_HMAC[1:], fields, strict=True)) | {"header": header}
    if name is None and said["prefix"] is None and said["algorithm"] is not None:
        said["prefix"] = f"{said['algorithm']}="
    if said["signed"] is None and (said["timestamp_header"] or said["timestamp_prefix"]) and not scheme.is_timed:
        said["signed"] = scheme.signed_with_time
    return msgspec.structs.replace(scheme, **{field: value for field, value in said.items() if value is not None})
