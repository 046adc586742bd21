"""`provider: webhook`: deliveries from any sender of HTTP requests."""

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
"""Headers with the id of a delivery, if `id_header` is not set."""

OF_HMAC: Final = ("signature", "algorithm", "encoding", "prefix", "timestamp_header", "timestamp_prefix", "signed")
"""Fields that describe an HMAC signature."""


class Webhook(Hook):
    """Fires for deliveries of JSON, forms or text that pass `auth`."""

    event_fields = frozenset({"query"})

    auth: Literal["local", "none", "hmac", "token", "standard-webhooks"] = "local"
    """Which deliveries are accepted.  `local`: from this host and the account that runs the hooks; `none`: all.

    `hmac`: with a signature; `token`: with the secret; `standard-webhooks`: signed according to that specification.
    """
    signature: str | None = None
    """For `hmac`: the sender whose scheme is used, such as `slack`; the fields below change or describe it."""
    header: str | None = None
    """The header with the signature or token; for a token by default `Authorization`, with `Bearer` or `Basic`."""
    query: str | None = None
    """For `token`: the query parameter with the token, for senders that cannot set headers."""
    algorithm: Algorithm | None = None
    """For `hmac`; by default that of `signature`, or sha256."""
    encoding: Encoding | None = None
    """The encoding of an `hmac` signature; by default that of `signature`, or hex."""
    prefix: str | None = None
    """The text before an `hmac` signature; by default that of `signature`, or the algorithm's name and `=`."""
    timestamp_header: str | None = None
    """For `hmac`: a header with the time, in (milli)seconds since 1970 or RFC 3339; an old time is a replay."""
    timestamp_prefix: str | None = None
    """For `hmac`: the text before the time in the header of the signature: `t=`."""
    signed: str | None = None
    """For `hmac`: the signed text; by default `{time}.{body}` with a time, and `{body}` without."""
    tolerance: str = "5m"
    """The largest difference between a signed time and the host's time."""
    id_header: str | None = None
    """The header that identifies duplicates; by default a signature with a time, `webhook-id` or similar."""
    body: BodyKind = "auto"
    """How to parse bodies; `auto` uses their type, and JSON if the type does not say and the body parses."""
    dedupe: Literal["id", "body"] = "id"
    """`body`: equal bodies are duplicates, even if their ids differ; the id of an `hmac` delivery is not signed."""
    challenge: ChallengeKind = "auto"
    """The sender whose challenges are answered; `auto`: challenges that are deliveries."""
    challenge_token: Secret | None = None
    """The token that `challenge: meta` requires; by default the trigger's secret."""

    @property
    def methods(self) -> tuple[str, ...]:
        """Returns the supported methods, including GET if a challenge uses it."""
        return ("POST", "GET") if challenges.comes_by_get(self.challenge) else ("POST",)

    @property
    def is_for_own_account(self) -> bool:
        """Returns whether it accepts deliveries only from its own account."""
        return self.auth == "local"

    def problems(self) -> Iterator[Problem]:
        """Yields a missing or unused secret, and fields without effect."""
        yield from super().problems()
        is_open = self.auth in {"local", "none"}
        if not is_open and self.secret is None:
            hint = "set secret: {env: NAME} or {file: PATH}"
            yield Problem(path="secret", message=f"auth {self.auth!r} needs a secret", hint=hint)
        if is_open and self.secret is not None:
            message = f"the secret is not used: auth is {self.auth!r}"
            yield Problem(path="auth", message=message, hint="set auth: hmac, token or standard-webhooks")
        if (is_open or self.auth == "standard-webhooks") and self.header is not None:
            yield Problem(path="header", message=f"auth {self.auth!r} does not use it")
        yield from self._token_problems()
        yield from self._hmac_problems()
        if (fault := tolerance_problem(self.tolerance)) is not None:
            yield fault
        if self.challenge_token is not None and self.challenge != "meta":
            yield Problem(path="challenge_token", message="only `challenge: meta` uses it")

    def _token_problems(self) -> Iterator[Problem]:
        if self.query is None:
            return
        if self.auth != "token":
            yield Problem(path="query", message=f"auth {self.auth!r} does not use it", hint="set auth: token")
        if self.header is not None:
            yield Problem(path="query", message="the token is in the header or in the query: set one of them")

    def _hmac_problems(self) -> Iterator[Problem]:
        if self.auth != "hmac":
            for name in OF_HMAC:
                if getattr(self, name) is not None:
                    yield Problem(path=name, message=f"auth {self.auth!r} does not use it", hint="set auth: hmac")
            return
        if self.signature is not None and self.signature not in SCHEMES:
            hint = _ELSEWHERE.get(self.signature) or did_you_mean(self.signature, SCHEMES)
            yield Problem(path="signature", message=f"there is no signature scheme {self.signature!r}", hint=hint)
            return
        scheme = self._scheme({})
        if self.signed is not None and (fault := content_fault(self.signed)):
            yield Problem(path="signed", message=fault, hint="as in '{time}.{body}'")
        has_time = bool(scheme.timestamp_header or scheme.timestamp_prefix)
        if scheme.is_timed and not has_time:
            hint = "set timestamp_header, or timestamp_prefix if it is in the header of the signature"
            yield Problem(path="signed", message="the place of the signed time is missing", hint=hint)
        if has_time and not scheme.is_timed:
            yield Problem(path="signed", message="the signed text must contain {time}", hint="as in '{time}.{body}'")

    def by_hand(self, body: Any, now: datetime) -> dict[str, Any]:  # noqa: ARG002
        """Returns an empty query."""
        return {"query": {}}

    def receive(self, request: HookRequest) -> Happening | Answered:
        """Authenticates a delivery, and parses its body."""
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
        found = event(request, "webhook", "webhook", body, known, hidden)
        found["query"] = self._shown_query(request.query, proof) if request.query else {}
        return Happening(event=found, key=known)

    def _shown_query(self, query: Mapping[str, str], proof: Proof) -> dict[str, str]:
        """Returns the query without possible secrets and without this trigger's token."""
        shown = without_secrets(query)
        return {
            name: value
            for name, value in shown.items()
            if name != self.query and not (proof.secret and value.encode(errors="replace") == proof.secret)
        }

    def _challenged(self, request: HookRequest) -> Answered | None:
        """Answers an unsigned challenge."""
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
        """Returns the candidates for the id of a delivery.

        A signed id comes before headers, unless the trigger names a header: otherwise a captured delivery could be
        replayed under another id while its time is within the tolerance.
        """
        if self.id_header is not None:
            return proof.ident, headers.get(self.id_header.lower()), proof.timed
        return proof.ident, proof.timed, *map(headers.get, ID_HEADERS)

    def _check(self, request: HookRequest) -> Proof:
        if self.auth in {"local", "none"}:  # the account was checked before the body was read
            return Proof()
        if not self.secrets:
            raise UnavailableError("the trigger has no secret")
        return with_secrets(self.secrets, lambda secrets: self._proof(secrets, request))

    def _proof(self, secrets: Sequence[bytes], request: HookRequest) -> Proof:
        if self.auth == "standard-webhooks":
            return check_standard(secrets, request, duration(self.tolerance))
        if self.auth == "hmac":
            scheme = self._scheme(request.headers)
            if not self._has_scheme and is_ambiguous(scheme, request.body):
                raise UnauthorizedError("the body starts like a signed time; set `signature` in the trigger")
            return check_signature(secrets, request, scheme, duration(self.tolerance))
        if self.query is not None:
            return _in_query(secrets, request.query.get(self.query), self.query)
        header = self.header or "Authorization"
        return Proof(secret=check_token(secrets, request.headers.get(header.lower()), f"header {header}"))

    @property
    def _has_scheme(self) -> bool:
        """Returns whether the trigger describes the signature, at least in part."""
        return self.header is not None or any(getattr(self, name) is not None for name in OF_HMAC)

    def _scheme(self, headers: Mapping[str, str]) -> Scheme:
        """Returns the signature scheme of a delivery."""
        if not self._has_scheme:
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
"""The scheme that is reported if no signature is found."""

_ELSEWHERE: Final = {"standard-webhooks": "set auth: standard-webhooks", "gitlab": "use provider: gitlab"}


@lru_cache(maxsize=1024)
def _scheme_of(name: str | None, header: str | None, fields: tuple[Any, ...]) -> Scheme:
    """Returns the scheme of a sender, changed by the fields of a trigger."""
    scheme = SCHEMES[name] if name is not None else Scheme()
    said = dict(zip(OF_HMAC[1:], fields, strict=True)) | {"header": header}
    if name is None and said["prefix"] is None and said["algorithm"] is not None:
        said["prefix"] = f"{said['algorithm']}="
    if said["signed"] is None and (said["timestamp_header"] or said["timestamp_prefix"]) and not scheme.is_timed:
        said["signed"] = scheme.signed_with_time
    return msgspec.structs.replace(scheme, **{field: value for field, value in said.items() if value is not None})
