"""The wire under JetStream: messages handed to the connection and taken from it without a task or a queue each.

It reaches into nats-py, and is the only file that does; a test that runs orders fails if nats-py changes there.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

import nats.errors
import structlog
from nats.aio.client import Client, Srv
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.protocol.parser import Parser

from muster.mesh.errors import MusterError, UnavailableError

log = structlog.get_logger()

TURNS: Final = 4
"""Turns of the loop for which a write may wait for what else there is to say."""

MAX_LINE: Final = 4096
"""Bytes of a command without its headers and its body (nats-server's `max_control_line`)."""

SHOWN: Final = 80
"""Characters of a subject in a message that says what is wrong with it."""

LATE: Final = 2.0
"""Seconds for which a message may still be under way after an unsubscription."""


class Connection(Client):
    """nats-py's client, shorter where a message is received.

    Header names are not checked: they come from our own servers and processes.
    """

    def __init__(self) -> None:
        super().__init__()
        self._ps = _Reader(self)
        self.check: Callable[[str, socket.socket], None] = lambda *_: None
        """Called with a server's address and the socket before anything is said there; what it raises is a lost try."""

    async def _connect_to_server(self, s: Srv) -> None:
        await super()._connect_to_server(s)
        writer = getattr(self._transport, "_io_writer", None)
        if writer is None:
            return
        try:
            self.check(f"{s.uri.scheme}://{s.uri.hostname}:{s.uri.port}", writer.get_extra_info("socket"))
        except MusterError:
            writer.close()
            raise

    @property
    def is_open(self) -> bool:
        """Whether the server asks nobody for anything."""
        return not self._server_info.get("auth_required")

    async def _process_headers(self, headers: bytes) -> dict[str, str] | None:
        return _headers(headers) if headers else None

    def _build_message(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: dict[str, str] | None
    ) -> Msg:
        return Msg(self, _text(subject), _text(reply), data, headers, _sid=sid)

    async def _read_loop(self) -> None:
        """As in nats-py, but whatever ends it is a lost connection.

        nats-py would be deaf from then on, and still take itself for connected.
        """
        await super()._read_loop()
        task = asyncio.current_task()
        if self.is_connected and not (task and task.cancelling()):
            await self._process_op_err(nats.errors.ProtocolError())

    async def request(self, *args: Any, **more: Any) -> Msg:
        """As in nats-py, but a cancellation counts also if it comes together with the answer.

        `asyncio.wait_for`, by which nats-py waits, forgets it then (Python 3.11): a service that was told to stop
        while it asked JetStream something went on for ever.
        """
        task = asyncio.current_task()
        before = task.cancelling() if task else 0
        try:
            return await super().request(*args, **more)
        finally:
            if task and task.cancelling() > before:
                raise asyncio.CancelledError


class _Reader(Parser):
    """nats-py's parser, shorter where a message is whole: it tries a regular expression a verb on each line.

    A message for a plain function goes there without a coroutine, and without the accounting of a queue that it does
    not have: 2.7 us instead of 4.0, with headers 5.0 instead of 7.0.
    """

    async def parse(self, data: bytes = b"") -> None:
        """Hand on what is whole, and keep the rest until more has come."""
        kept, subscriptions = self.buf, self.nc._subs  # noqa: SLF001
        if kept:
            kept += data
            if len(kept) < self.needed:
                return
            data = bytes(kept)
            kept.clear()
        self.needed = at = 0
        while (end := data.find(b"\r\n", at)) >= 0:
            words = data[at:end].split(b" ")
            body = end + 2
            if words[0] in _MESSAGES:
                sid, reply, header, size = _told(words)
                end = body + size
                if len(data) < end + 2:
                    self.needed = end + 2 - at
                    break
                headers = data[body : body + header] if header else b""
                payload, at = data[body + header : end], end + 2
                subscription = subscriptions.get(sid)
                if subscription is not None and type(direct := subscription._pending_queue) is _Direct:  # noqa: SLF001
                    known = _headers(headers) if headers else None
                    direct.put_nowait(Msg(self.nc, _text(words[1]), _text(reply), payload, known))
                    continue
                waits = self.nc._process_msg(sid, words[1], reply, payload, headers)  # noqa: SLF001
            else:
                waits, at = super().parse(data[at:body]), body
            await waits
            if self.buf is not kept:
                return  # the connection was lost meanwhile, and this reader begins anew
        kept += data[at:]


_MESSAGES: Final = frozenset({b"MSG", b"HMSG"})


def _text(subject: bytes) -> str:
    """A subject is any bytes but spaces and ends of lines: the server does not ask for UTF-8."""
    return subject.decode("utf-8", "backslashreplace")


def _told(words: list[bytes]) -> tuple[int, bytes, int, int]:
    """The subscription, where answers go, and how long the headers and all of it are.

    `MSG <subject> <sid> [reply] <size>`, `HMSG <subject> <sid> [reply] <size of headers> <size>`.
    """
    try:
        match words:
            case [b"MSG", _, sid, size]:
                return int(sid), b"", 0, int(size)
            case [b"MSG", _, sid, reply, size]:
                return int(sid), reply, 0, int(size)
            case [b"HMSG", _, sid, header, size]:
                return int(sid), b"", int(header), int(size)
            case [b"HMSG", _, sid, reply, header, size]:
                return int(sid), reply, int(header), int(size)
    except ValueError:
        pass
    raise nats.errors.ProtocolError(f"nats: malformed message line {words!r}")


def _headers(raw: bytes) -> dict[str, str]:
    """Names and values; what stands beside the version, `503 No Responders`, counts as two headers, as in nats-py."""
    first, *lines = raw.decode("utf-8", "replace").split("\r\n")
    pairs = (line.partition(":") for line in lines if line)
    known = {name: value.strip() for name, _, value in pairs}
    if first != "NATS/1.0":
        known |= zip(("Status", "Description"), first.split(" ", 2)[1:], strict=False)
    return known


def post(client: Client, subject: str, data: bytes, reply: str = "", headers: Mapping[str, str] | None = None) -> None:
    """Hand a message to the connection, now and without waiting; it is written once a turn of the loop adds nothing.

    Several orders often have something to say within a few turns, and each write wakes the server up: eight scripts
    at a time took an eighth more of the processors' time when the next turn wrote whatever there was.

    It is nats-py's `publish`, with one check for all of a command's parts: a server closes a connection for what it
    cannot read.

    Raises:
        UnavailableError: there is no connection, or the message is not one that the server takes.
    """
    if not client.is_connected:
        raise UnavailableError(f"there is no connection to NATS to publish on {subject}")
    start = b""
    if headers:
        lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        start = f"NATS/1.0\r\n{lines}\r\n".encode(errors="replace")
        if start.count(b"\n") != len(headers) + 2 or start.count(b"\r") != len(headers) + 2:
            raise UnavailableError(f"a header of the message for {subject[:SHOWN]!r} has a line break")
    size = len(data) + len(start)
    line = f"HPUB {subject} {reply} {len(start)} {size}" if start else f"PUB {subject} {reply} {size}"
    if not line.isprintable() or line.count(" ") != (4 if start else 3) or not subject:
        raise UnavailableError(f"{subject[:SHOWN]!r} or {reply[:SHOWN]!r} is not a subject")
    first = line.encode()
    if len(first) > MAX_LINE:
        raise UnavailableError(f"a subject of {len(first)} bytes is more than the NATS server takes")
    if size > client.max_payload:
        raise UnavailableError(f"a message of {size} bytes for {subject} is more than the NATS server takes")
    command = b"".join((first, b"\r\n", start, data, b"\r\n"))
    client._pending.append(command)  # noqa: SLF001 - as Client._send_command does
    client._pending_data_size += len(command)  # noqa: SLF001
    if client not in _due:
        _due.add(client)
        _look_soon(client, TURNS)


_due: Final[set[Client]] = set()
"""Connections with messages that wait for a turn that adds nothing."""


def _look_soon(client: Client, turns: int) -> None:
    size = client._pending_data_size  # noqa: SLF001
    asyncio.get_running_loop().call_soon(_write_if_quiet, client, size, turns)


def _write_if_quiet(client: Client, size: int, turns: int) -> None:
    if turns and client._pending_data_size > size:  # noqa: SLF001
        _look_soon(client, turns - 1)
    else:
        _due.discard(client)
        flush(client)


def flush(client: Client) -> None:
    """Write what was posted, now: nobody else has anything to say.

    Of a connection that was lost just now, uvloop says a RuntimeError before nats-py knows, which then writes all that
    is pending once it is back.
    """
    transport = client._transport  # noqa: SLF001
    if not client._pending or transport is None or not client.is_connected:  # noqa: SLF001
        return
    with suppress(RuntimeError):
        transport.writelines(client._pending)  # noqa: SLF001
        client._pending, client._pending_data_size = [], 0  # noqa: SLF001 - as nats-py's flusher does


class _Direct:
    """Stands in for a subscription's queue: hands each message on at once, without a task to wake up."""

    def __init__(self, receive: Callable[[Msg], None]) -> None:
        self._receive = receive

    def put_nowait(self, message: Msg) -> None:
        try:
            self._receive(message)
        except Exception:  # the caller is nats-py's read loop, which an exception would end
            log.exception("nats.receiver_failed", subject=message.subject)

    def empty(self) -> bool:
        return True

    def qsize(self) -> int:
        return 0


async def subscribe(client: Client, subject: str, receive: Callable[[Msg], None], queue: str = "") -> Subscription:
    """Subscribe with a plain function, called in the read loop: it must be short and must not wait."""
    subscription = await client.subscribe(subject, queue, pending_bytes_limit=0)
    subscription._pending_queue = _Direct(receive)  # type: ignore[assignment]  # noqa: SLF001 - saves a wake-up a message
    return subscription


async def leave(subscription: Subscription, receive: Callable[[Msg], None]) -> None:
    """Tell the server that nobody listens, but still receive what is under way: JetStream would redeliver it late."""
    client: Client = subscription._conn  # noqa: SLF001 - Subscription.unsubscribe drops what is under way
    subscription._pending_queue = _Direct(receive)  # type: ignore[assignment]  # noqa: SLF001
    await client._send_unsubscribe(subscription._id)  # noqa: SLF001
    asyncio.get_running_loop().call_later(LATE, client._remove_sub, subscription._id)  # noqa: SLF001


async def unsubscribe(subscription: Subscription) -> None:
    """End a subscription, also of a connection that is gone."""
    try:
        await subscription.unsubscribe()
    except nats.errors.Error:
        return
