"""The NATS surface: `muster.api.<noun>.<verb>`, a NATS micro service that `nats micro ls` lists.

nats-py awaits each endpoint's handler before it takes the next message, so a handler here only
hands the request over to a task, up to `AT_ONCE` of them; beyond, messages wait in line.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

import msgspec
import nats.errors
import structlog
from nats.aio.client import Client
from nats.micro.request import ERROR_CODE_HEADER, ERROR_HEADER, Request
from nats.micro.service import EndpointConfig, ServiceConfig, ServiceStats
from nats.micro.service import Service as MicroService

from muster import __version__
from muster.broker.api.context import Api
from muster.broker.api.endpoint import Endpoint
from muster.broker.api.endpoints import ENDPOINTS
from muster.broker.api.problems import bug
from muster.mesh import names
from muster.mesh.errors import MusterError, TooLargeError, UnavailableError
from muster.mesh.jetstream import post
from muster.mesh.service import Service

log = structlog.get_logger()

AT_ONCE: Final = 256
"""Requests under way at a time."""

QUEUE: Final = "muster"
"""Several brokers share the requests."""

INBOX: Final = "_INBOX."
"""Where answers may go.  A reply subject is the caller's choice, and the broker may write everywhere (design.md §3)."""

PATIENCE: Final = 30.0
"""Seconds that a request may take."""

_encode = msgspec.json.Encoder().encode


class Count:
    """How an endpoint is doing."""

    __slots__ = ("errors", "last_error", "nanoseconds", "requests")

    def __init__(self) -> None:
        self.requests = self.errors = self.nanoseconds = 0
        self.last_error = ""


class _Counted(MicroService):
    """The micro service, its statistics made of what the tasks did: nats-py sees only the hand-over."""

    def __init__(self, client: Client, config: ServiceConfig, counts: dict[str, Count]) -> None:
        super().__init__(client, config)
        self._counts = counts

    def stats(self) -> ServiceStats:
        stats = super().stats()
        for endpoint in stats.endpoints:
            count = self._counts[endpoint.subject]
            endpoint.num_requests, endpoint.num_errors = count.requests, count.errors
            endpoint.processing_time, endpoint.last_error = count.nanoseconds, count.last_error
            endpoint.average_processing_time = count.nanoseconds // max(1, count.requests)
        return stats


class NatsApi(Service):
    """Answers requests on `muster.api.>`."""

    def __init__(self, client: Client, api: Api) -> None:
        super().__init__()
        self._client, self._api = client, api
        self._room = asyncio.Semaphore(AT_ONCE)
        self._counts: dict[str, Count] = {}
        self.refused = 0
        """Requests that were not answered, for where they wanted the answer."""

    async def run(self) -> None:
        """Answer until cancelled; requests under way may end."""
        config = ServiceConfig(
            name="muster", version=__version__, description="Work orders for a fleet", queue_group=QUEUE
        )
        service = _Counted(self._client, config, self._counts)
        async with asyncio.TaskGroup() as group:
            try:
                for endpoint in ENDPOINTS:
                    await service.add_endpoint(self._config(endpoint, group))
                await service.start()
                await self._client.flush()
                self.ready.set()
                await asyncio.get_running_loop().create_future()
            finally:
                await self._stop_listening(service)

    async def _stop_listening(self, service: MicroService) -> None:
        try:
            async with asyncio.timeout(self._api.settings.grace):
                await service.stop()
                for _ in range(AT_ONCE):
                    await self._room.acquire()  # all of it: nothing is under way any more
        except (nats.errors.Error, TimeoutError):
            return

    def _config(self, endpoint: Endpoint, group: asyncio.TaskGroup) -> EndpointConfig:
        subject = names.api(endpoint.noun, endpoint.verb) if endpoint.verb else f"muster.api.{endpoint.noun}"
        count = self._counts[subject] = Count()

        async def hand_over(request: Request) -> None:
            reply = request._msg.reply  # noqa: SLF001 - micro's Request does not tell it
            if not reply.startswith(INBOX):
                self.refused += 1
                log.warning("api.refused", subject=subject, reply=reply[:200], count=self.refused)
                return
            await self._room.acquire()
            group.create_task(self._serve(endpoint, request, reply, count))

        name = f"{endpoint.noun}-{endpoint.verb}" if endpoint.verb else endpoint.noun
        return EndpointConfig(name=name, subject=subject, handler=hand_over, metadata={"summary": endpoint.summary})

    async def _serve(self, endpoint: Endpoint, request: Request, reply: str, count: Count) -> None:
        started = time.perf_counter_ns()
        count.requests += 1
        try:
            try:
                answer = self._checked(_encode(await endpoint.handle(self._api, request)))
                post(self._client, reply, answer)
            except MusterError as error:
                self._fail(reply, count, error)
            except Exception as error:  # noqa: BLE001 - one request's bug may not end the others
                self._fail(reply, count, bug(error, request.subject))
        except UnavailableError as error:
            log.info("api.unanswered", subject=request.subject, error=str(error))
        finally:
            count.nanoseconds += time.perf_counter_ns() - started
            self._room.release()

    def _checked(self, answer: bytes) -> bytes:
        """The answer, if it fits in a message.

        Raises:
            TooLargeError: it does not.
        """
        if len(answer) > self._client.max_payload:
            raise TooLargeError(f"the answer is larger than {self._client.max_payload} bytes; ask for a smaller page")
        return answer

    def _fail(self, reply: str, count: Count, error: MusterError) -> None:
        count.errors += 1
        count.last_error = error.detail
        line = " ".join(error.detail.encode("ascii", "backslashreplace").decode().split())
        headers = {ERROR_HEADER: line[:500], ERROR_CODE_HEADER: str(error.status)}
        post(self._client, reply, _encode({"error": error.as_problem()}), headers=headers)
