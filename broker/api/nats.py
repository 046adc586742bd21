"""The NATS surface: the table of operations as a NATS micro service that `nats micro ls` lists.

nats-py would put each request in an endpoint's queue, for a task that answers one at a time.  Here it is answered
from where it is read: `MAX_UNDER_WAY` requests at a time, and those beyond wait in line.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import msgspec
import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.micro.request import ERROR_CODE_HEADER, ERROR_HEADER
from nats.micro.service import Endpoint as MicroEndpoint
from nats.micro.service import EndpointConfig, ServiceConfig, ServiceStats
from nats.micro.service import Service as MicroService

from muster import __version__
from muster.broker.api.context import AGE_HEADER, Api
from muster.broker.api.problems import unexpected
from muster.broker.operations.fields import idempotency_key
from muster.broker.operations.operation import Call, Operation, perform
from muster.broker.operations.table import ON_NATS
from muster.mesh import names
from muster.mesh.caller import Caller, CallerKind
from muster.mesh.connection import settled
from muster.mesh.errors import MusterError, TooLargeError, UnavailableError
from muster.mesh.jetstream import MSG_ID, post
from muster.mesh.service import Service
from muster.mesh.wire import leave, subscribe

log = structlog.get_logger()

MAX_UNDER_WAY: Final = 256
"""Requests under way at a time."""

MAX_UNDER_WAY_SIZE: Final = 32 * 2**20
"""Bytes of them; a larger request is under way alone."""

MAX_LINE: Final = 64 * 2**20
"""Bytes of requests that wait in line; those beyond are refused for the moment."""

QUEUE: Final = "muster"
"""Several brokers share the requests."""

INBOX: Final = "_INBOX."
"""Where answers may go.  A reply subject is the caller's choice, and the broker may write everywhere (design.md §3)."""

AGENTS: Final = names.agent("*", "").partition("*")[0]
"""How the subjects of agents start."""

IDEMPOTENCY_KEY: Final = "Idempotency-Key"

_CALLER: Final = Caller(door="nats")

_encode = msgspec.json.Encoder().encode


def caller_of(subject: str) -> Caller:
    """Returns who asks on a subject: on an element's own, its agent; otherwise whoever has the mesh's token."""
    if not subject.startswith(AGENTS):
        return _CALLER
    return Caller(kind=CallerKind.AGENT, name=names.agent_of(subject), door="nats")


class Count:
    """How an endpoint is doing."""

    __slots__ = ("errors", "last_error", "nanoseconds", "requests")

    def __init__(self) -> None:
        self.requests = self.errors = self.nanoseconds = 0
        self.last_error = ""


class _Asked(msgspec.Struct, gc=False, eq=False):
    """One request."""

    operation: Operation
    count: Count
    message: Msg
    since: int
    """When it came."""

    @property
    def size(self) -> int:
        """Bytes that it occupies while it waits, with a kilobyte of Python's."""
        return len(self.message.data) + 1024


class _Micro(MicroService):
    """The micro service: it says who we are, and does not see the endpoints' messages."""

    def __init__(self, client: Client, config: ServiceConfig, counts: dict[str, Count]) -> None:
        super().__init__(client, config)
        self._counts = counts

    async def listen(self, config: EndpointConfig) -> None:
        """Listen for an endpoint with a plain function; nats-py's `add_endpoint` would put a queue before it."""
        self._endpoints.append(endpoint := _Direct(self, config))
        await endpoint._start()  # noqa: SLF001 - as `add_endpoint` does

    def stats(self) -> ServiceStats:
        stats = super().stats()
        for endpoint in stats.endpoints:
            count = self._counts[endpoint.subject]
            endpoint.num_requests, endpoint.num_errors = count.requests, count.errors
            endpoint.processing_time, endpoint.last_error = count.nanoseconds, count.last_error
            endpoint.average_processing_time = count.nanoseconds // max(1, count.requests)
        return stats


class _Direct(MicroEndpoint):
    """An endpoint whose handler is a plain function, called where the message is read."""

    @property
    def _receive(self) -> Callable[[Msg], None]:
        return self._handler  # type: ignore[return-value]  # as `NatsApi._config` gives it

    async def _start(self) -> None:
        client = self._service._client  # noqa: SLF001 - as its base does
        self._subscription = await subscribe(client, self._subject, self._receive, self._queue_group)

    async def _stop(self) -> None:
        if self._subscription is not None:
            await leave(self._subscription, self._receive)  # what is under way to us is still answered


class NatsApi(Service):
    """Answers requests on `muster.api.>`."""

    def __init__(self, client: Client, api: Api) -> None:
        super().__init__()
        self._client, self._api = client, api
        self._counts: dict[str, Count] = {}
        self._under_way: set[asyncio.Future[Any]] = set()
        self._line: deque[_Asked] = deque()
        self._line_size = self._under_way_size = 0
        self._loop = asyncio.get_running_loop()
        self.refused = 0
        """Requests that were not answered, for where they wanted the answer."""

    async def run(self) -> None:
        """Answer until cancelled; requests under way may end."""
        config = ServiceConfig(
            name="muster", version=__version__, description="Work orders for a fleet", queue_group=QUEUE
        )
        service = _Micro(self._client, config, self._counts)
        try:
            for operation in ON_NATS:
                await service.listen(self._config(operation))
            await service.start()
            await settled(self._client)
            self.ready.set()
            await asyncio.get_running_loop().create_future()
        finally:
            await self._end(service)

    async def _end(self, service: MicroService) -> None:
        """What has come is still answered, for as long as the grace lasts."""
        try:
            async with asyncio.timeout(self._api.settings.grace):
                await service.stop()
                await settled(self._client)  # from now on nothing comes
                while self._under_way:
                    await asyncio.wait(self._under_way)
        except (nats.errors.Error, TimeoutError):
            pass
        finally:
            self._line.clear()
            for outcome in self._under_way:
                outcome.cancel()
            await asyncio.gather(*self._under_way, return_exceptions=True)

    def _config(self, operation: Operation) -> EndpointConfig:
        count = self._counts[operation.subject] = Count()

        def receive(message: Msg) -> None:
            if message.reply.startswith(INBOX):
                self._receive(_Asked(operation, count, message, time.perf_counter_ns()))
                return
            self.refused += 1
            log.warning("api.refused", subject=message.subject, reply=message.reply[:200], count=self.refused)

        return EndpointConfig(
            name=operation.name.replace(".", "-"),
            subject=operation.subject,
            handler=receive,  # type: ignore[arg-type]  # `_Direct` calls it
            queue_group=QUEUE,
            metadata={"summary": operation.summary},
        )

    def _receive(self, asked: _Asked) -> None:
        asked.count.requests += 1
        if not self._line and self._has_capacity(asked):
            self._start(asked)
        elif self._line_size < MAX_LINE:
            self._line.append(asked)
            self._line_size += asked.size
        else:
            self._failed(asked, UnavailableError("more requests wait than the broker can keep; try again later"))

    def _has_capacity(self, asked: _Asked) -> bool:
        if not self._under_way:
            return True
        return len(self._under_way) < MAX_UNDER_WAY and self._under_way_size + asked.size <= MAX_UNDER_WAY_SIZE

    def _start(self, asked: _Asked) -> None:
        outcome = self._loop.create_task(self._answer(asked.operation, asked.message))
        self._under_way.add(outcome)
        self._under_way_size += asked.size
        outcome.add_done_callback(partial(self._ended, asked))

    async def _answer(self, operation: Operation, message: Msg) -> Any:
        headers = message.headers
        key = idempotency_key(headers.get(MSG_ID) or headers.get(IDEMPOTENCY_KEY)) if headers else None
        call = Call(self._api.services, caller_of(message.subject), key)
        return await perform(operation, call, operation.read(message.data))

    def _ended(self, asked: _Asked, outcome: asyncio.Future[Any]) -> None:
        self._under_way.discard(outcome)
        self._under_way_size -= asked.size
        if not outcome.cancelled():
            try:
                self._answered(asked, outcome.result())
            except Exception as error:  # noqa: BLE001 - as above
                self._failed(asked, error)
        while self._line and self._has_capacity(self._line[0]):
            following = self._line.popleft()
            self._line_size -= following.size
            self._start(following)

    def _answered(self, asked: _Asked, outcome: Any) -> None:
        """Post the answer.

        Raises:
            TooLargeError: it does not fit in a message.
        """
        answer = _encode(outcome)
        if len(answer) > self._client.max_payload:
            raise TooLargeError(f"the answer is larger than {self._client.max_payload} bytes; ask for a smaller page")
        age = self._api.services.query.age
        post(self._client, asked.message.reply, answer, headers={AGE_HEADER: f"{age:.0f}"} if age else None)
        asked.count.nanoseconds += time.perf_counter_ns() - asked.since

    def _failed(self, asked: _Asked, error: Exception) -> None:
        known = error if isinstance(error, MusterError) else unexpected(error, asked.message.subject)
        asked.count.nanoseconds += time.perf_counter_ns() - asked.since
        asked.count.errors += 1
        asked.count.last_error = known.detail
        line = " ".join(known.detail.encode("ascii", "backslashreplace").decode().split())
        headers = {ERROR_HEADER: line[:500], ERROR_CODE_HEADER: str(known.status)}
        try:
            post(self._client, asked.message.reply, _encode({"error": known.as_problem()}), headers=headers)
        except UnavailableError as gone:
            log.info("api.unanswered", subject=asked.message.subject, error=str(gone))
