"""The connection under JetStream: sends and receives messages without a task or a queue for each.

This is the only file that uses private parts of nats-py; tests that run orders fail if nats-py changes them.
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
"""Loop iterations for which a write can wait for further messages."""

MAX_LINE: Final = 4096
"""Bytes of a command without its headers and its body (nats-server's `max_control_line`)."""

SHOWN: Final = 80
"""Characters of a subject in an error message."""

LATE: Final = 2.0
"""Seconds for which messages can still arrive after an unsubscription."""


class Connection(Client):
    """nats-py's client, with a shorter path for received messages.

    Header names are not checked: they come from our own servers and processes.
    """

    def __init__(self) -> None:
        super().__init__()
        self._ps = _Reader(self)
        self.check: Callable[[str, socket.socket], None] = lambda *_: None
        """Called with the address and the socket of a server before any other use; an error fails this try."""

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
        """Returns whether the server requires no authentication."""
        return not self._server_info.get("auth_required")

    async def _process_headers(self, headers: bytes) -> dict[str, str] | None:
        return _headers(headers) if headers else None

    def _build_message(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: dict[str, str] | None
    ) -> Msg:
        return Msg(self, _text(subject), _text(reply), data, headers, _sid=sid)

    async def _read_loop(self) -> None:
        """Reads like nats-py, but treats every error as a lost connection.

        nats-py would stop reading, and still count as connected.
        """
        await super()._read_loop()
        task = asyncio.current_task()
        if self.is_connected and not (task and task.cancelling()):
            await self._process_op_err(nats.errors.ProtocolError())

    async def request(self, *args: Any, **more: Any) -> Msg:
        """Sends a request like nats-py, but keeps a cancellation that arrives together with the answer.

        nats-py uses `asyncio.wait_for`, which loses it then (Python 3.11); a service that stopped during a request to
        JetStream would continue.
        """
        task = asyncio.current_task()
        before = task.cancelling() if task else 0
        try:
            return await super().request(*args, **more)
        finally:
            if task and task.cancelling() > before:
                raise asyncio.CancelledError


class _Reader(Parser):
    """nats-py's parser with a fast path for whole messages; nats-py tries a regular expression for each verb.

    A message for a plain function is passed on without a coroutine and without the accounting of a queue: 2.7 us
    instead of 4.0, with headers 5.0 instead of 7.0.
    """

    async def parse(self, data: bytes = b"") -> None:
        """Dispatches whole messages, and keeps the rest until more data arrives."""
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
                sid, reply, header, size = _parsed(words)
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
                return  # the connection was lost meanwhile, and this reader starts again
        kept += data[at:]


_MESSAGES: Final = frozenset({b"MSG", b"HMSG"})


def _text(subject: bytes) -> str:
    """Decodes a subject; it can be any bytes except spaces and line ends, because the server does not require UTF-8."""
    return subject.decode("utf-8", "backslashreplace")


def _parsed(words: list[bytes]) -> tuple[int, bytes, int, int]:
    """Returns the subscription, the reply subject, and the sizes of the headers and of the whole message.

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
    """Parses headers; the status after the version, `503 No Responders`, becomes two headers, as in nats-py."""
    first, *lines = raw.decode("utf-8", "replace").split("\r\n")
    pairs = (line.partition(":") for line in lines if line)
    known = {name: value.strip() for name, _, value in pairs}
    if first != "NATS/1.0":
        known |= zip(("Status", "Description"), first.split(" ", 2)[1:], strict=False)
    return known


def post(client: Client, subject: str, data: bytes, reply: str = "", headers: Mapping[str, str] | None = None) -> None:
    """Enqueues a message without waiting; it is written after a loop iteration that adds no other message.

    Several orders often publish within a few iterations, and each write wakes the server up: with a write in every
    iteration, eight scripts at a time took an eighth more processor time.

    This is nats-py's `publish`, with one check for all parts of a command, because a server closes the connection
    after a malformed one.

    Raises:
        UnavailableError: there is no connection, or the server does not accept such a message.
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
        raise UnavailableError(f"a subject of {len(first)} bytes exceeds the limit of the NATS server")
    if size > client.max_payload:
        raise UnavailableError(f"a message of {size} bytes for {subject} exceeds the limit of the NATS server")
    command = b"".join((first, b"\r\n", start, data, b"\r\n"))
    client._pending.append(command)  # noqa: SLF001 - as Client._send_command does
    client._pending_data_size += len(command)  # noqa: SLF001
    if client not in _due:
        _due.add(client)
        _write_later(client, TURNS)


_due: Final[set[Client]] = set()
"""Connections with messages that wait to be written."""


def _write_later(client: Client, turns: int) -> None:
    size = client._pending_data_size  # noqa: SLF001
    asyncio.get_running_loop().call_soon(_write_if_quiet, client, size, turns)


def _write_if_quiet(client: Client, size: int, turns: int) -> None:
    if turns and client._pending_data_size > size:  # noqa: SLF001
        _write_later(client, turns - 1)
    else:
        _due.discard(client)
        flush(client)


def flush(client: Client) -> None:
    """Writes all enqueued messages now.

    If the connection was just lost, uvloop raises a RuntimeError before nats-py notices; nats-py writes the pending
    messages after the reconnect.
    """
    transport = client._transport  # noqa: SLF001
    if not client._pending or transport is None or not client.is_connected:  # noqa: SLF001
        return
    with suppress(RuntimeError):
        transport.writelines(client._pending)  # noqa: SLF001
        client._pending, client._pending_data_size = [], 0  # noqa: SLF001 - as nats-py's flusher does


class _Direct:
    """Replaces the queue of a subscription: passes each message on at once, without waking up a task."""

    def __init__(self, receive: Callable[[Msg], None]) -> None:
        self._receive = receive

    def put_nowait(self, message: Msg) -> None:
        try:
            self._receive(message)
        except Exception:  # the caller is nats-py's read loop, which an error would end
            log.exception("nats.receiver_failed", subject=message.subject)

    def empty(self) -> bool:
        return True

    def qsize(self) -> int:
        return 0


async def subscribe(client: Client, subject: str, receive: Callable[[Msg], None], queue: str = "") -> Subscription:
    """Subscribes with a plain function, which runs in the read loop and must not wait."""
    subscription = await client.subscribe(subject, queue, pending_bytes_limit=0)
    subscription._pending_queue = _Direct(receive)  # type: ignore[assignment]  # noqa: SLF001 - saves a wake-up a message
    return subscription


async def leave(subscription: Subscription, receive: Callable[[Msg], None]) -> None:
    """Unsubscribes, but still receives messages that were sent, because JetStream would redeliver them late."""
    client: Client = subscription._conn  # noqa: SLF001 - Subscription.unsubscribe drops what is under way
    subscription._pending_queue = _Direct(receive)  # type: ignore[assignment]  # noqa: SLF001
    await client._send_unsubscribe(subscription._id)  # noqa: SLF001
    asyncio.get_running_loop().call_later(LATE, client._remove_sub, subscription._id)  # noqa: SLF001


async def unsubscribe(subscription: Subscription) -> None:
    """Ends a subscription, also of a lost connection."""
    try:
        await subscription.unsubscribe()
    except nats.errors.Error:
        return
