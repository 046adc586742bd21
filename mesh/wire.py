"""The wire under JetStream: messages handed to the connection and taken from it without a task or a queue each.

It reaches into nats-py, and is the only file that does; a test that runs orders fails if nats-py changes there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.protocol.parser import AWAITING_CONTROL_LINE, Parser

from muster.mesh.errors import UnavailableError

log = structlog.get_logger()

LATE: Final = 2.0
"""Seconds for which a message may still be under way after an unsubscription."""


class Connection(Client):
    """nats-py's client, shorter where a message is received.

    Header names are not checked (they come from our own servers and processes), and a message for a
    plain function goes there without the accounting of a queue that it does not have.
    """

    def __init__(self) -> None:
        super().__init__()
        self._ps = _Parser(self)

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        subscription = self._subs.get(sid)
        direct = subscription._pending_queue if subscription is not None else None  # noqa: SLF001
        if not isinstance(direct, _Direct):
            await super()._process_msg(sid, subject, reply, data, headers)
            return
        known = await self._process_headers(headers) if headers else None
        message = Msg(self, subject.decode(), reply.decode(), data, known)
        message._sid = sid  # noqa: SLF001
        direct.put_nowait(message)

    async def _process_headers(self, headers: bytes) -> dict[str, str] | None:
        if not headers:
            return None
        first, _, rest = headers.partition(b"\r\n")
        if len(first) > _PLAIN:  # a status stands beside the version
            return await super()._process_headers(headers)
        pairs = (line.partition(":") for line in rest.decode("utf-8", "replace").split("\r\n") if line)
        return {name: value.strip() for name, _, value in pairs}


_PLAIN: Final = len("NATS/1.0")

_FIELDS: Final = 5
"""Words of the line that begins a message with a reply subject: `MSG <subject> <sid> <reply> <size>`."""

_SHORT: Final = 64 * 1024
"""Bytes of an unfinished message up to which it is put together by copying."""


class _Parser(Parser):
    """nats-py's parser, shorter for what a server sends most: many whole messages in one read.

    Whatever else stands there (a ping, a line in an unknown form, the start of a large message) is left to nats-py's.
    """

    nc: Connection

    async def parse(self, data: bytes = b"") -> None:
        """Hand on what has come; what is not whole yet is kept."""
        if self.state == AWAITING_CONTROL_LINE:
            if self.buf:
                data = bytes(self.buf) + data
                self.buf.clear()
            begin, is_message = await self._messages(data)
            if begin == len(data):
                return
            data = data[begin:]
            if is_message and len(data) < _SHORT:
                self.buf.extend(data)
                return
        await super().parse(data)

    async def _messages(self, data: bytes) -> tuple[int, bool]:
        """Hand on the whole messages at the start; where they end, and whether another one begins there."""
        begin, end, nc = 0, len(data), self.nc
        while (is_plain := data.startswith(b"MSG ", begin)) or data.startswith(b"HMSG ", begin):
            line = data.find(b"\r\n", begin)
            fields = data[begin:line].split(b" ")
            if line < 0 or len(fields) != (_FIELDS if is_plain else _FIELDS + 1):
                return begin, line < 0
            sid, start = int(fields[2]), line + 2
            stop = start + int(fields[-1])
            if stop + 2 > end:
                return begin, True
            begin, payload = stop + 2, start if is_plain else start + int(fields[4])
            await nc._process_msg(sid, fields[1], fields[3], data[payload:stop], data[start:payload])  # noqa: SLF001
        return begin, False


def post(client: Client, subject: str, data: bytes, reply: str = "", headers: Mapping[str, str] | None = None) -> None:
    """Hand a message to the connection, now and without waiting.

    It is nats-py's `publish` less what cannot happen here: subjects and headers are made from names and ids,
    never from what somebody typed, so they need no check a second time.

    Raises:
        UnavailableError: there is no connection, or the message is too large for the server.
    """
    if not client.is_connected:
        raise UnavailableError(f"there is no connection to NATS to publish on {subject}")
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items()) if headers else ""
    start = f"NATS/1.0\r\n{lines}\r\n" if headers else ""
    size = len(data) + len(start)
    if size > client.max_payload:
        raise UnavailableError(f"a message of {size} bytes for {subject} is more than the NATS server takes")
    verb, sizes = ("HPUB", f"{len(start)} {size}") if headers else ("PUB", f"{size}")
    command = b"%b%b\r\n" % (f"{verb} {subject} {reply} {sizes}\r\n{start}".encode(), data)
    client._pending.append(command)  # noqa: SLF001 - as Client._send_command does
    client._pending_data_size += len(command)  # noqa: SLF001
    queue = client._flush_queue  # noqa: SLF001 - the flusher writes all that is pending at once
    if queue is not None and queue.empty():
        queue.put_nowait(_flushed)  # type: ignore[arg-type]  # it only asks whether it is done


class _Flushed:
    """What the flusher is given in place of a future: nobody waits."""

    def done(self) -> bool:
        return True


_flushed = _Flushed()


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


async def subscribe(client: Client, subject: str, receive: Callable[[Msg], None]) -> Subscription:
    """Subscribe with a plain function, called in the read loop: it must be short and must not wait."""
    subscription = await client.subscribe(subject, pending_bytes_limit=0)
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
