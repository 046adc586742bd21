"""`POST /hooks/<trigger>`: authenticates a delivery, parses it, writes it to the log, and then answers.

This is a raw ASGI application without routing, middleware and tasks of its own, because every delivery passes it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, Protocol
from urllib.parse import parse_qsl

import msgspec
import structlog

from muster.blueprints.provider import Answered, Happening, Hook, HookRequest, Ignored
from muster.mesh import names
from muster.mesh.addresses import is_address
from muster.mesh.asgi import Receive, Scope, Send
from muster.mesh.errors import (
    BugError,
    ForbiddenError,
    InvalidError,
    MusterError,
    NotFoundError,
    TooLargeError,
    UnauthorizedError,
    UnavailableError,
    UnreachableError,
)
from muster.mesh.firing import FireRequest
from muster.triggers.definitions import Trigger
from muster.triggers.fire import Fire
from muster.triggers.hook_answers import (
    HEADERS,
    NO_SNIFF,
    PROBLEM,
    Answer,
    Content,
    MethodNotAllowedError,
    answer_of,
    encode,
    respond,
)
from muster.triggers.own_account import is_own
from muster.triggers.packing import encoding_of
from muster.triggers.quotas import Quotas, TooManyError, sender_of
from muster.triggers.upload import MOST_HELD, Drain, GoneError, StalledError, Uploads

log = structlog.get_logger()

PREFIX: Final = "/hooks/"
"""The path of the hooks."""

HTTP_BAD_REQUEST: Final = 400
HTTP_BUG: Final = 500
"""Statuses from here on are not caused by the sender."""

MAX_REFRESHES: Final = 8
"""Concurrent requests for the current version of a trigger that refuses a delivery; a flood sends no more."""


class Triggers(Protocol):
    """A source of triggers: `Definitions`."""

    def known(self, name: str) -> Trigger | None:
        """Returns the trigger if it is known here and can fire; sends no request."""
        ...

    async def get(self, name: str) -> Trigger:
        """Returns the trigger that can fire; requests it from a broker if it is not known here.

        Raises:
            NotFoundError: it does not exist.
            UnavailableError: no broker answers.
        """
        ...

    async def refreshed(self, name: str) -> Trigger:
        """Requests the current trigger from a broker."""
        ...


class HookSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of deliveries."""

    at_once: int = 8192
    """Concurrent deliveries; others are answered with 503."""
    held: int = MOST_HELD
    """Bytes of all bodies in memory."""
    body_timeout: float = 10.0
    """Seconds for a body to arrive."""
    drain: Drain = Drain()
    """How much of a refused body is read."""


class Hooks:
    """The application."""

    def __init__(self, triggers: Triggers, fire: Fire, settings: HookSettings | None = None) -> None:
        self.answered: Counter[int] = Counter()
        """Counts of deliveries by the status of their answer."""
        self.under_way = 0
        self._asking = 0
        self._triggers, self._fire = triggers, fire
        self._settings = settings or HookSettings()
        self._uploads: Uploads | None = None
        self._quotas = Quotas()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            return
        uploads = self._uploads
        if uploads is None:  # created here, in the running event loop
            uploads = self._uploads = Uploads(self._settings.held, self._settings.body_timeout)
        unread, size = True, 0
        self.under_way += 1
        try:
            headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}
            trigger, hook = await self._admitted(scope, headers)
            body = await uploads.read(receive, hook.max_body)
            unread, size = False, len(body)
            if encoding_of(headers):
                uploads.hold(hook.max_body)  # its size after unpacking
                size += hook.max_body
            status, content, kind = await self._fired(trigger, _request(scope, headers, body, trigger.headers))
        except MusterError as error:
            await self._refuse(error, scope, receive if unread else None, send)
        except GoneError:
            return
        except Exception:  # a bug with one delivery must not stop the others
            log.exception("hook.bug", path=scope["path"][:200])
            await self._refuse(BugError("see the log of the trigger service"), scope, receive if unread else None, send)
        else:
            self.answered[status] += 1
            await respond(send, status, content, [(b"content-type", kind), NO_SNIFF])
        finally:
            self.under_way -= 1
            uploads.forget(size)

    async def _admitted(self, scope: Scope, headers: Mapping[str, str]) -> tuple[Trigger, Hook]:
        """Returns the trigger of a request, before its body is read."""
        if self.under_way > self._settings.at_once:
            raise UnavailableError("too many concurrent deliveries")
        encoding_of(headers)  # refuses an unsupported encoding before the body is read
        name = scope["path"].removeprefix(PREFIX).removesuffix("/")
        trigger = self._triggers.known(name)
        if trigger is None:
            if not names.is_name(name):
                raise NotFoundError(f"there is no hook at {scope['path'][:200]}")
            trigger = await self._triggers.get(name)
        hook = _hook_of(trigger)
        if scope["method"] not in hook.methods:
            raise MethodNotAllowedError(scope["method"], hook.methods)
        if hook.secret is None and "origin" in headers:
            _refuse_foreign_page(headers)
        if hook.is_for_own_account and not is_own(scope, headers):
            raise UnauthorizedError(
                f"trigger {name!r} accepts deliveries only from this host and the account that runs its hooks; "
                "set `auth` in its `with`: hmac, token or standard-webhooks; or none, to accept every sender"
            )
        self._quotas.check(trigger, hook, sender_of(scope))
        if int(headers.get("content-length") or 0) > hook.max_body:
            raise TooLargeError(f"the body exceeds the limit of this trigger: {hook.max_body} bytes")
        return trigger, hook

    async def _fired(self, trigger: Trigger, request: HookRequest) -> Content:
        """Parses and fires a delivery; if a trigger refuses it, the current version of the trigger decides."""
        answer, is_final = await self._tried(trigger, request)
        if not is_final and (newer := await self._newer(trigger)) is not None:
            answer, _ = await self._tried(newer, request)
        if isinstance(answer, MusterError):
            raise answer
        return answer

    async def _tried(self, trigger: Trigger, request: HookRequest) -> tuple[Content | MusterError, bool]:
        """Returns the answer, and whether it is final even if the trigger has changed."""
        try:
            found = _received(_hook_of(trigger), request)
        except (UnauthorizedError, InvalidError) as error:
            return error, False
        if isinstance(found, Answered):
            return Content(200, found.body, found.content_type.encode()), True
        if isinstance(found, Ignored):
            return Content(200, encode(Answer(ignored=found.reason))), False
        try:
            self._quotas.spend(trigger, _hook_of(trigger), request.sender, _size(request, found))
        except TooManyError as error:
            return error, True
        reply = await self._fire(
            FireRequest(
                trigger=trigger.name,
                event=found.event,
                key=found.key,
                version=trigger.version,
                depth=found.depth,
                try_again=True,
            )
        )
        if reply.stale:
            return UnavailableError("the trigger is being changed"), False
        return answer_of(reply), True

    async def _newer(self, trigger: Trigger) -> Trigger | None:
        """Returns the current trigger, if it has changed.

        Raises:
            NotFoundError: it was deleted.
        """
        if self._asking >= MAX_REFRESHES:
            return None
        self._asking += 1
        try:
            found = await self._triggers.refreshed(trigger.name)
        except UnreachableError:
            return None
        finally:
            self._asking -= 1
        return found if (found.version, found.changed_at) != (trigger.version, trigger.changed_at) else None

    async def _refuse(self, error: MusterError, scope: Scope, unread: Receive | None, send: Send) -> None:
        """Answers with a problem (RFC 9457), and discards the unread body within limits."""
        problem = error.as_problem()
        if isinstance(error, InvalidError):
            problem["status"] = HTTP_BAD_REQUEST  # the body cannot be parsed
        status: int = problem["status"]
        self.answered[status] += 1
        note = log.warning if status >= HTTP_BUG else log.info
        note("hook.refused", path=scope["path"][:200], status=status, reason=error.detail)
        headers = [(b"content-type", PROBLEM), *HEADERS.get(status, ())]
        if isinstance(error, MethodNotAllowedError):
            headers.append((b"allow", ", ".join(error.taken).encode()))
        if isinstance(error, TooManyError):
            headers.append((b"retry-after", b"%d" % error.wait))
        if unread is None:
            await respond(send, status, encode(problem), headers)
            return
        headers.append((b"connection", b"close"))
        stalled = isinstance(error, StalledError)  # the sender sends no more
        await respond(send, status, encode(problem), headers, None if stalled else self._settings.drain(unread))


def _hook_of(trigger: Trigger) -> Hook:
    if not isinstance(trigger.settings, Hook) or not trigger.enabled:
        raise NotFoundError(f"trigger {trigger.name!r} does not accept deliveries")
    return trigger.settings


def _request(scope: Scope, headers: Mapping[str, str], body: bytes, read: frozenset[str]) -> HookRequest:
    query = scope["query_string"]
    return HookRequest(
        method=scope["method"],
        headers=headers,
        query=dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True)) if query else {},
        body=body,
        received_at=datetime.now(UTC),
        read=read,
        sender=sender_of(scope),
    )


def _size(request: HookRequest, found: Happening) -> int:
    """Returns the approximate number of bytes that are stored of a delivery."""
    return len(encode(found.event)) if "content-encoding" in request.headers else len(request.body)


def _received(hook: Hook, request: HookRequest) -> Happening | Ignored | Answered:
    """Passes a delivery to the provider."""
    try:
        return hook.receive(request)
    except UnavailableError as error:  # its text names paths on this host, which senders must not see
        log.warning("hook.secret", why=error.detail)
        raise UnavailableError("the trigger's secret is not available; see the log of the trigger service") from None


def _refuse_foreign_page(headers: Mapping[str, str]) -> None:
    """Refuses requests of pages from other sites, which could use a browser to reach a hook without a secret.

    A name in `Host` proves nothing, because its owner can let it resolve to this host (DNS rebinding).
    """
    origin, host = headers["origin"].lower(), headers.get("host", "").lower()
    name = host.rpartition(":")[0] if host[-1:] != "]" and ":" in host else host
    if origin.partition("://")[2] != host or not is_address(name.strip("[]")):
        raise ForbiddenError(f"a page of {origin[:200]!r} must not send deliveries; give the trigger a secret")
