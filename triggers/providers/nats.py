"""`provider: nats`: messages on subjects that are not Muster's own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any, ClassVar, Final

import msgspec
import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, RetentionPolicy
from nats.js.errors import Error as JetStreamError
from nats.js.errors import NotFoundError as NoSuchThingError

from muster.blueprints.provider import Happening, Mesh, Source
from muster.mesh import names
from muster.mesh.budget import Budget
from muster.mesh.errors import NotFoundError, Problem, UnavailableError
from muster.mesh.jetstream import MSG_ID, Puller, acknowledge, moment, sequence, stamp
from muster.mesh.nesting import TOO_DEEP, from_json
from muster.mesh.wire import unsubscribe
from muster.triggers.deliveries import without_secrets

log = structlog.get_logger()

ACK_WAIT: Final = 60.0
"""Seconds after which JetStream redelivers a message without a firing, to any service."""

PENDING_MESSAGES: Final = 10_000
PENDING_BYTES: Final = 64 * 1024**2
"""Limits of pending messages of a core subscription; nats-py drops messages beyond them."""

AT_ONCE_SIZE: Final = 16 * 2**20
"""Bytes of messages that fire at a time, and as many of those that come next."""

RETRY_DELAY: Final = 0.5
LONGEST_KEY: Final = 255
LONGEST_SUBJECT: Final = 255
"""Bytes; a NATS server closes the connection after a command of more than 4096 bytes."""

SHOWN: Final = 4096
"""Bytes that are kept of a message above `max_body`."""


class NatsTrigger(Source):
    """Fires for each message on a subject, from a stream if one is named."""

    at_once: ClassVar[int] = 64

    event_fields = frozenset({"subject"})

    subject: str
    """The subject, with the wildcards `*` and `>` of NATS."""
    stream: str | None = None
    """A JetStream stream, which keeps messages while no trigger service runs; without it, such messages are lost."""
    max_body: Annotated[int, msgspec.Meta(ge=1, le=4 * 1024**2)] = 1024**2
    """Bytes; a larger message makes a rejected firing."""

    def problems(self) -> Iterator[Problem]:
        """Yields an invalid subject, or one that belongs to Muster or NATS."""
        if problem := subject_problem(self.subject):
            yield problem
        if self.stream is not None and (not self.stream or set(self.stream) & set(" \t\r\n.*>/\\")):
            yield Problem(path="stream", message=f"{self.stream!r} is not a name of a stream")
        elif self.stream is not None and self.stream.startswith("MUSTER_"):
            message = f"{self.stream} is Muster's own"
            yield Problem(path="stream", message=message, hint="use provider event for Muster's own events")

    def by_hand(self, body: Any, now: datetime) -> dict[str, Any]:  # noqa: ARG002
        """Returns the subject of the trigger, because there is no message."""
        return {"subject": self.subject}

    async def run(self, mesh: Mesh) -> None:
        """Listens until cancelled."""
        if self.stream is None:
            await self._core(mesh)
        else:
            await self._durable(mesh, self.stream)

    async def forget(self, mesh: Mesh) -> None:
        """Deletes the consumer."""
        if self.stream is None:
            return
        try:
            await mesh.client.jetstream(timeout=5).delete_consumer(self.stream, self._consumer(mesh.trigger))
        except NoSuchThingError:
            return

    def leaves(self) -> str:
        """Returns the end of the consumer's name, which depends on subject and stream."""
        return names.digest_id(self.subject, self.stream or "")[:8]

    async def _core(self, mesh: Mesh) -> None:
        """Subscribes in a queue group, so that one service receives each message."""
        subscription = await mesh.client.subscribe(
            self.subject,
            queue=f"muster-trigger-{names.token(mesh.trigger)}",
            pending_msgs_limit=PENDING_MESSAGES,
            pending_bytes_limit=PENDING_BYTES,
        )
        mesh.listening()
        room, budget = asyncio.Semaphore(self.at_once), Budget(AT_ONCE_SIZE)
        try:
            async with asyncio.TaskGroup() as group:
                async for message in subscription.messages:
                    await room.acquire()
                    await budget.take(len(message.data))
                    key = (message.headers or {}).get(MSG_ID, "")[:LONGEST_KEY]
                    task = group.create_task(self._fired(mesh, message, key, datetime.now(UTC), try_again=bool(key)))
                    task.add_done_callback(partial(_ended, room, budget, len(message.data)))
        finally:
            await unsubscribe(subscription)

    async def _durable(self, mesh: Mesh, stream: str) -> None:
        """Pulls from a durable consumer of all services; acknowledges a message once its firing is on the log."""
        consumer = self._consumer(mesh.trigger)
        while True:
            await self._ensure(mesh.client.jetstream(timeout=5), stream, consumer, mesh.changed_at)
            async with Puller(mesh.client, stream, consumer, limit=self.at_once, size=AT_ONCE_SIZE) as puller:
                mesh.listening()
                await self._read(mesh, puller)
            await asyncio.sleep(RETRY_DELAY)

    async def _read(self, mesh: Mesh, puller: Puller) -> None:
        """Fires for messages until the consumer is deleted."""
        room, budget = asyncio.Semaphore(self.at_once), Budget(AT_ONCE_SIZE)
        under_way: dict[int, Msg] = {}
        async with asyncio.TaskGroup() as group:
            renewing = group.create_task(_renew(mesh.client, puller))
            while not puller.gone.is_set():
                for message in await puller.batch():
                    place = sequence(message)
                    is_redelivered = place in under_way  # firing takes longer than ACK_WAIT
                    under_way[place] = message
                    if not is_redelivered:
                        await room.acquire()
                        await budget.take(len(message.data))
                        task = group.create_task(self._take(mesh, puller.stream, place, under_way))
                        task.add_done_callback(partial(_ended, room, budget, len(message.data)))
            renewing.cancel()

    async def _ensure(self, js: JetStreamContext, stream: str, consumer: str, since: datetime) -> None:
        try:
            try:
                await js.consumer_info(stream, consumer)
            except NoSuchThingError:
                retention = (await js.stream_info(stream)).config.retention
                # a work queue has no other consumers: it holds every unacknowledged message
                from_start = retention == RetentionPolicy.WORK_QUEUE
                config = ConsumerConfig(
                    durable_name=consumer,
                    filter_subject=self.subject,
                    deliver_policy=DeliverPolicy.ALL if from_start else DeliverPolicy.BY_START_TIME,
                    opt_start_time=None if from_start else since,
                    ack_policy=AckPolicy.EXPLICIT,
                    ack_wait=ACK_WAIT,
                    max_ack_pending=4 * self.at_once,
                    max_deliver=-1,
                )
                await js.add_consumer(stream, config)
        except NoSuchThingError as error:
            raise UnavailableError(f"there is no stream {stream!r} on the mesh's NATS server") from error
        except (JetStreamError, nats.errors.Error, TimeoutError) as error:
            raise UnavailableError(f"the stream {stream!r} cannot be read: {error}") from error

    async def _take(self, mesh: Mesh, stream: str, place: int, under_way: dict[int, Msg]) -> None:
        _, nanoseconds = stamp(under_way[place])
        key = f"{stream}:{place}:{nanoseconds}"  # a stream that is created again counts from 1
        try:
            taken = await self._fired(mesh, under_way[place], key, moment(nanoseconds))
        finally:
            message = under_way.pop(place)
        if taken:
            with suppress(UnavailableError):  # it is redelivered, and its firing is a duplicate
                await acknowledge(message)

    def _consumer(self, trigger: str) -> str:
        return f"muster-{names.token(trigger)}-{self.leaves()}"

    async def _fired(self, mesh: Mesh, message: Msg, key: str, time: datetime, *, try_again: bool = False) -> bool:
        """Fires; returns False if the trigger has changed, and its next source must handle the message."""
        try:
            happening = self._happening(message, key, time)
            reply = await mesh.fire(msgspec.structs.replace(happening, try_again=try_again))
        except NotFoundError:
            return False
        except Exception as error:  # noqa: BLE001 - no message may end the listening to the others
            log.warning("message.failed", trigger=mesh.trigger, subject=message.subject, why=repr(error))
            return False
        return not reply.stale

    def _happening(self, message: Msg, key: str, time: datetime) -> Happening:
        body, rejected = self._said(message.data)
        event: dict[str, Any] = {
            "provider": "nats",
            "kind": "message",
            "id": key,
            "time": msgspec.to_builtins(time),
            "subject": message.subject,
            "headers": without_secrets({name.lower(): value for name, value in (message.headers or {}).items()}),
            "body": body,
        }
        return Happening(event=event, key=key, rejected=rejected)

    def _said(self, data: bytes) -> tuple[Any, str]:
        """Returns a message as JSON or text; or its start, and the reason why it is rejected."""
        if len(data) > self.max_body:
            return _text(data[:SHOWN]), f"{len(data)} bytes exceed max_body ({self.max_body})"
        try:
            return from_json(data), ""
        except RecursionError:
            return _text(data[:SHOWN]), f"the message is {TOO_DEEP}"
        except (msgspec.DecodeError, UnicodeDecodeError):
            return _text(data), ""


def _ended(room: asyncio.Semaphore, budget: Budget, size: int, _: asyncio.Task[None]) -> None:
    room.release()
    budget.give(size)


async def _renew(client: Client, puller: Puller) -> None:
    """Sends a new pull request as soon as the connection is back."""
    seen = client.stats["reconnects"]
    while True:
        await asyncio.sleep(RETRY_DELAY)
        if client.stats["reconnects"] != seen:
            seen = client.stats["reconnects"]
            puller.renew()


def subject_problem(subject: str) -> Problem | None:
    """Returns why a trigger must not listen to a subject."""
    tokens = subject.split(".")
    wild = any(set(token) & {"*", ">"} and token not in {"*", ">"} for token in tokens) or ">" in tokens[:-1]
    if len(subject.encode(errors="replace")) > LONGEST_SUBJECT:
        return Problem(path="subject", message=f"the subject is longer than {LONGEST_SUBJECT} bytes")
    if not all(tokens) or wild or any(char.isspace() or not char.isprintable() for char in subject):
        hint = "separate tokens by dots; `*` matches one and `>` all that follow: shop.orders.>"
        return Problem(path="subject", message=f"{subject!r} is not a subject", hint=hint)
    first = tokens[0]
    if first in {"*", ">"}:
        message = f"{subject!r} would match Muster's and NATS's own messages"
        return Problem(path="subject", message=message, hint="start with a token of your own: shop.>")
    if first == "muster":
        hint = "use provider event for Muster's own events and for muster.inbox.events.<name>"
        return Problem(path="subject", message=f"{subject!r} is Muster's own", hint=hint)
    if first.startswith(("$", "_INBOX")):
        return Problem(path="subject", message=f"{subject!r} is NATS's own", hint="listen to a subject of yours")
    return None


def _text(data: bytes) -> str | None:
    return data.decode(errors="backslashreplace") or None
