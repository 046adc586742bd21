"""`POST /hooks/<trigger>`: a delivery is checked, understood, put on the log, and only then answered.

A raw ASGI application, because each delivery passes here: no routing, no middleware, no tasks of its own.
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
"""Where the hooks are."""

HTTP_BAD_REQUEST: Final = 400
HTTP_BUG: Final = 500
"""From here on it is not the sender's fault."""

ASKING: Final = 8
"""Questions to brokers, under way, whether a trigger that refuses is still the same; a flood asks no more."""


class Triggers(Protocol):
    """Where triggers are looked up: `Definitions`."""

    def known(self, name: str) -> Trigger | None:
        """The trigger, if it is known here and may go off; nobody is asked."""
        ...

    async def get(self, name: str) -> Trigger:
        """The trigger that may go off; a broker is asked if it is not known here.

        Raises:
            NotFoundError: there is none.
            UnavailableError: no broker answers.
        """
        ...

    async def refreshed(self, name: str) -> Trigger:
        """The trigger as a broker knows it now."""
        ...


class HookSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What bounds the deliveries."""

    at_once: int = 8192
    """Deliveries under way; more are told to come back."""
    held: int = MOST_HELD
    """Bytes of all bodies that are under way."""
    patience: float = 10.0
    """Seconds for a body to arrive."""
    drain: Drain = Drain()
    """How far a body that was refused is still read."""


class Hooks:
    """The application."""

    def __init__(self, triggers: Triggers, fire: Fire, settings: HookSettings | None = None) -> None:
        self.answered: Counter[int] = Counter()
        """Deliveries by the status of their answer."""
        self.under_way = 0
        self._asking = 0
        self._triggers, self._fire = triggers, fire
        self._settings = settings or HookSettings()
        self._uploads: Uploads | None = None
        self._quotas = Quotas()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        uploads = self._uploads
        if uploads is None:  # only now does it run in its loop
            uploads = self._uploads = Uploads(self._settings.held, self._settings.patience)
        unread, size = True, 0
        self.under_way += 1
        try:
            headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}
            trigger, hook = await self._admitted(scope, headers)
            body = await uploads.read(receive, hook.max_body)
            unread, size = False, len(body)
            if encoding_of(headers):
                uploads.hold(hook.max_body)  # what it may become
                size += hook.max_body
            status, content, kind = await self._fired(trigger, _request(scope, headers, body, trigger.headers))
        except MusterError as error:
            await self._refuse(error, scope, receive if unread else None, send)
        except GoneError:
            return
        except Exception:  # one delivery's bug may not end the others
            log.exception("hook.bug", path=scope["path"][:200])
            await self._refuse(BugError("the trigger service's log has more"), scope, receive if unread else None, send)
        else:
            self.answered[status] += 1
            await respond(send, status, content, [(b"content-type", kind), NO_SNIFF])
        finally:
            self.under_way -= 1
            uploads.forget(size)

    async def _admitted(self, scope: Scope, headers: Mapping[str, str]) -> tuple[Trigger, Hook]:
        """Whom it is for, before anything of its body is read."""
        if self.under_way > self._settings.at_once:
            raise UnavailableError("too many deliveries are under way")
        encoding_of(headers)  # one that nobody undoes is refused before anything is read
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
                f"trigger {name!r} takes deliveries only from this host and the account that runs its hooks; "
                "say `auth` in its `with`: hmac, token or standard-webhooks, or none to take them from anybody"
            )
        self._quotas.check(trigger, hook, sender_of(scope))
        if int(headers.get("content-length") or 0) > hook.max_body:
            raise TooLargeError(f"the body is larger than this trigger takes: {hook.max_body} bytes")
        return trigger, hook

    async def _fired(self, trigger: Trigger, request: HookRequest) -> Content:
        """Understand it and put it on the log; nobody is refused by a trigger that has changed meanwhile."""
        answer, is_final = await self._tried(trigger, request)
        if not is_final and (newer := await self._newer(trigger)) is not None:
            answer, _ = await self._tried(newer, request)
        if isinstance(answer, MusterError):
            raise answer
        return answer

    async def _tried(self, trigger: Trigger, request: HookRequest) -> tuple[Content | MusterError, bool]:
        """What to answer, and whether that would be so with a newer version too."""
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
        """The trigger as a broker knows it, if that is another one.

        Raises:
            NotFoundError: it is gone.
        """
        if self._asking >= ASKING:
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
        """Answer with a problem (RFC 9457); a body that was not read goes by, within bounds."""
        problem = error.as_problem()
        if isinstance(error, InvalidError):
            problem["status"] = HTTP_BAD_REQUEST  # surface.md: not parseable
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
        stalled = isinstance(error, StalledError)  # nothing comes any more
        await respond(send, status, encode(problem), headers, None if stalled else self._settings.drain(unread))


def _hook_of(trigger: Trigger) -> Hook:
    if not isinstance(trigger.settings, Hook) or not trigger.enabled:
        raise NotFoundError(f"trigger {trigger.name!r} takes no deliveries")
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
    """Bytes that are kept of it, about."""
    return len(encode(found.event)) if "content-encoding" in request.headers else len(request.body)


def _received(hook: Hook, request: HookRequest) -> Happening | Ignored | Answered:
    """What the provider says of it."""
    try:
        return hook.receive(request)
    except UnavailableError as error:  # it names places on this host, which a sender need not know
        log.warning("hook.secret", why=error.detail)
        raise UnavailableError("this trigger's secret is not at hand; the trigger service's log says why") from None


def _refuse_foreign_page(headers: Mapping[str, str]) -> None:
    """A browser says where its page is from; a foreign page may not use it to reach a hook that asks for no secret.

    A name in `Host` proves nothing: its owner may have it point to this host (DNS rebinding).
    """
    origin, host = headers["origin"].lower(), headers.get("host", "").lower()
    name = host.rpartition(":")[0] if host[-1:] != "]" and ":" in host else host
    if origin.partition("://")[2] != host or not is_address(name.strip("[]")):
        raise ForbiddenError(f"a page of {origin[:200]!r} may not send this; give the trigger a secret to show")
