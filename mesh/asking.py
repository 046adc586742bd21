"""Requests over NATS: any number of them wait for their answers at the same time.

nats-py's own `request` costs a task and a timer a message; this costs a dictionary entry.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Final, Generic, NamedTuple, TypeVar

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg

from muster.mesh import names
from muster.mesh.connection import settled
from muster.mesh.errors import (
    MALFORMED,
    MusterError,
    RefusedError,
    TooLargeError,
    UnavailableError,
    from_problem,
)
from muster.mesh.service import Service
from muster.mesh.wire import post, subscribe, unsubscribe

Answer = TypeVar("Answer")
Reply = TypeVar("Reply")

ANSWER_TIMEOUT: Final = 5.0
"""Seconds to wait for an answer; a cluster that lost its leader needs about six to elect another."""

LOST: Final = "the connection to the NATS server was lost before it answered; what was asked for may have been done"


class _Asked(NamedTuple, Generic[Answer]):
    answer: asyncio.Future[Answer]
    deadline: float
    at: float
    subject: str


class Asker(Service, Generic[Answer]):
    """Sends messages and waits for their answers."""

    SWEEP: ClassVar = 0.25
    """Seconds between two checks for overdue answers: one timer for all."""

    LATE: ClassVar[str]
    """The error when no answer came in time."""

    def __init__(self, client: Client) -> None:
        super().__init__()
        self._client = client
        self._inbox = client.new_inbox()
        self._waiting: dict[str, _Asked[Answer]] = {}
        self._count = 0
        self._loop = asyncio.get_running_loop()

    @abstractmethod
    def read(self, message: Msg) -> Answer:
        """Returns what an answer says; the caller of `send` gets what this raises."""

    async def run(self) -> None:
        """Receives answers until cancelled."""
        subscription = await subscribe(self._client, f"{self._inbox}.*", self._answered)
        await settled(self._client)
        self.ready.set()
        try:
            while True:
                await asyncio.sleep(self.SWEEP)
                self.sweep(self._loop.time())
        finally:
            self.renew()
            await unsubscribe(subscription)

    def sweep(self, now: float) -> None:
        """Fails the requests that are overdue."""
        self._fail(before=now)

    def renew(self) -> None:
        """Fails all requests after a reconnect: their answers were lost with the connection."""
        self._give_up(list(self._waiting), UnavailableError(LOST))

    def send(
        self, subject: str, data: bytes, headers: Mapping[str, str] | None = None, *, within: float = ANSWER_TIMEOUT
    ) -> asyncio.Future[Answer]:
        """Sends now, without waiting; the future has the answer, or raises what `read` raised.

        Raises:
            UnavailableError: there is no connection, or the message is too large for the server.
        """
        self._count += 1
        reply = f"{self._inbox}.{self._count}"
        post(self._client, subject, data, reply, headers)
        waiting: asyncio.Future[Answer] = self._loop.create_future()
        now = self._loop.time()
        self._waiting[reply] = _Asked(waiting, now + within, now, subject)
        return waiting

    def _fail(self, before: float) -> None:
        self._give_up(
            [reply for reply, asked in self._waiting.items() if asked.deadline < before], UnavailableError(self.LATE)
        )

    def _give_up(self, replies: Iterable[str], error: MusterError) -> None:
        """Fails these requests."""
        for reply in replies:
            waiting = self._waiting.pop(reply).answer
            if not waiting.done():
                waiting.set_exception(error)
                waiting.exception()  # its caller may have stopped waiting

    def _answered(self, message: Msg) -> None:
        asked = self._waiting.pop(message.subject, None)
        if asked is None or asked.answer.done():
            return
        waiting = asked.answer
        try:
            waiting.set_result(self.read(message))
        except Exception as error:  # noqa: BLE001 - the caller gets it
            waiting.set_exception(error)
            waiting.exception()


class Requests(Asker[bytes]):
    """Requests to brokers: `muster.api.<noun>.<verb>`."""

    LATE = "the broker did not answer in time; it may have done what was asked"

    def read(self, message: Msg) -> bytes:
        """Returns the answer's JSON.

        Raises:
            MusterError: the broker refused, or none is there.
        """
        headers = message.headers or {}
        if not message.data and headers.get("Status") == "503":
            raise UnavailableError("no broker answers")
        if "Nats-Service-Error-Code" in headers:
            raise _refusal(message.data)
        return message.data

    async def ask(
        self, noun: str, verb: str, question: Any, answer: type[Reply], *, within: float = ANSWER_TIMEOUT
    ) -> Reply:
        """Sends a request and waits for the answer.

        Raises:
            MusterError: the broker refused, or its answer cannot be read.
            TooLargeError: the question is larger than NATS takes, or nested too deeply to be written.
            UnavailableError: none answered in time.
        """
        try:
            body = msgspec.json.encode(question)
        except RecursionError:
            raise TooLargeError("the question is nested too deeply to be written") from None
        if len(body) > self._client.max_payload:
            raise TooLargeError(f"{len(body)} bytes exceed the message limit of the NATS server")
        reply = await self.send(names.api(noun, verb), body, within=within)
        try:
            return msgspec.json.decode(reply, type=answer)
        except MALFORMED as error:
            raise RefusedError(f"the broker gave an answer that cannot be read: {error}") from error


def _refusal(data: bytes) -> MusterError:
    try:
        return from_problem(msgspec.json.decode(data)["error"])
    except (*MALFORMED, LookupError, TypeError):
        return RefusedError("the broker refused, in words that cannot be read")
