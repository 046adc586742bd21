"""Limits for callers of an HTTP server: bytes and seconds for a head, seconds for a body, requests, connections.

They apply before the caller is authenticated.
"""

from __future__ import annotations

import asyncio
import re
import resource
from http import HTTPStatus
from ipaddress import IPv6Address
from typing import Any, ClassVar, Final, cast

import msgspec
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from muster.mesh.asgi import Receive, Scope, Send
from muster.mesh.complaints import Complaints

MAX_HEAD: Final = 64 * 1024
"""Bytes of the line and headers of a request, of its trailers, and of the extensions of a chunk."""

MAX_HEADERS: Final = 256
"""Headers of a request, including trailers."""

HEAD_TIMEOUT: Final = 10.0
"""Seconds from a connection's start, or from the first byte of a later request, to the end of its head."""

BODY_TIMEOUT: Final = 60.0
"""Seconds for a body; its reader can have a shorter timeout."""

REST_TIMEOUT: Final = 10.0
"""Seconds for the rest of a body whose request was already answered."""

MAX_QUEUED: Final = 64
"""Pipelined requests that wait on one connection."""

MAX_CONNECTIONS: Final = 4096
MAX_FOR_ONE: Final = 1024
"""Connections in total, and from one address (IPv6: from one /64); fewer if the process can open fewer files."""

FILES_LEFT: Final = 64
"""A warning is logged when the process can open fewer further files than this."""

_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~%!$&'()*+,;=-]+)(?::([0-9]{0,5}))?")  # RFC 9110 §7.2
_LAST_PORT: Final = 65_535


class Crowd:
    """The open connections of a server, the oldest first.

    At the limit, the oldest idle connection is closed for a new one.  Therefore idle connections cannot lock out
    other callers.
    """

    def __init__(self) -> None:
        self._of: dict[str, dict[BoundedProtocol, None]] = {}
        self._count = 0
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._files = 2**31 if files == resource.RLIM_INFINITY else files
        self._most = max(1, min(MAX_CONNECTIONS, self._files // 2))
        self._most_for_one = max(1, min(MAX_FOR_ONE, self._most // 2))
        self._complaints = Complaints()

    def enters(self, connection: BoundedProtocol, address: str, file: int) -> bool:
        """Returns whether a new connection is accepted."""
        if self._files - file < FILES_LEFT:  # the system assigns the lowest free number
            self.complain("http.few_files_left", open=file, limit=self._files, hint="raise LimitNOFILE or ulimit -n")
        its = self._of.setdefault(address, {})
        has_place = True
        if len(its) >= self._most_for_one:
            self.complain("http.crowded", address=address, connections=len(its), limit=self._most_for_one)
            has_place = _close_idle(its)
        elif self._count >= self._most:
            largest = max(self._of, key=lambda one: len(self._of[one]))
            self.complain("http.crowded", address=largest, connections=self._count, limit=self._most)
            has_place = _close_idle(self._of[largest])
        its[connection] = None
        self._count += 1
        return has_place

    def leaves(self, connection: BoundedProtocol, address: str) -> None:
        """Removes a closed connection."""
        its = self._of.get(address, {})
        if connection in its:
            del its[connection]
            self._count -= 1
            if not its:
                del self._of[address]

    def complain(self, event: str, **fields: Any) -> None:
        """Logs an event with a rate limit, because callers can cause it often."""
        self._complaints.log(event, **fields)


def _close_idle(connections: dict[BoundedProtocol, None]) -> bool:
    oldest = next((connection for connection in connections if connection.is_waiting), None)
    if oldest is None:
        return False
    oldest.transport.abort()
    del connections[oldest]
    connections[oldest] = None
    return True


class BoundedProtocol(HttpToolsProtocol):
    """Uvicorn's protocol with limits."""

    crowd: ClassVar[Crowd]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._address = ""
        self._timer: asyncio.TimerHandle | None = None
        self._awaits_head = True
        self._has_begun = False
        """Whether the next head has started to arrive."""
        self._moves = 0
        """The number of received parts of requests."""
        self._still = 0
        """Bytes since the last part."""
        self._count = 0
        """The number of headers of the request."""

    @property
    def is_waiting(self) -> bool:
        """Returns whether it has no running request."""
        cycle = cast("RequestResponseCycle | None", self.cycle)
        return cycle is None or cycle.response_complete

    # -- asyncio's calls --------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Registers a new connection."""
        super().connection_made(transport)
        self._address = _network(self.client[0] if self.client else "")
        socket = transport.get_extra_info("socket")
        if not self.crowd.enters(self, self._address, socket.fileno() if socket is not None else 0):
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections are open; try again later")
            return
        self._limit(HEAD_TIMEOUT)

    def connection_lost(self, exc: Exception | None) -> None:
        """Removes the connection."""
        self._unlimit()
        self.crowd.leaves(self, self._address)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parses data, in pieces of at most the size of a head."""
        for start in range(0, len(data), MAX_HEAD):
            if self.transport.is_closing():
                return
            self._take(data[start : start + MAX_HEAD])

    def _take(self, data: bytes) -> None:
        moves = self._moves
        super().data_received(data)
        if self.transport.is_closing():
            return
        self._still = 0 if self._moves != moves else self._still + len(data)
        if self._awaits_head and self._moves == moves:
            self._has_begun = True
        if self._still > MAX_HEAD or self._count > MAX_HEADERS:
            self.crowd.complain("http.head_too_large", address=self._address)
            most = f"at most {MAX_HEAD // 1024} KiB and {MAX_HEADERS} headers"
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"the request's head is too large: {most}")
        elif self._awaits_head:
            if self._has_begun:
                self._limit(HEAD_TIMEOUT)
        else:
            self._limit(BODY_TIMEOUT)

    # -- the parser's calls -----------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Handles the first byte of a request."""
        self._has_begun = True
        self._count = 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Handles a header or trailer."""
        self._count += 1
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Handles the end of the head."""
        if len(self.pipeline) >= MAX_QUEUED and not self.transport.is_closing():
            self.crowd.complain("http.queued_too_many", address=self._address, limit=MAX_QUEUED)
            self.transport.close()
        if self.transport.is_closing():  # the parser still has later data
            return
        self._moves += 1
        self._awaits_head = self._has_begun = False
        self._unlimit()
        if reason := _host_problem(self.headers, self.parser.get_http_version()):
            app, self.app = self.app, _Refusal(reason)
            super().on_headers_complete()
            self.app = app
        else:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Handles a part of the body."""
        if self.transport.is_closing():
            return
        self._moves += 1
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Handles the end of the request."""
        if self.transport.is_closing():
            return
        self._moves += 1
        self._awaits_head, self._has_begun = True, False
        self._unlimit()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Handles the end of the answer."""
        super().on_response_complete()
        if not self._awaits_head and not self.transport.is_closing():
            self._unlimit()
            self._limit(REST_TIMEOUT)

    # -- time -------------------------------------------------------------------------------------

    def _limit(self, seconds: float) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(seconds, self._too_late, seconds)

    def _unlimit(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_late(self, seconds: float) -> None:
        self._timer = None
        if self.transport.is_closing():
            return
        if self.flow.read_paused:  # the application does not read
            self._limit(seconds)
        elif self._awaits_head and not self._has_begun:
            self.transport.close()
        else:
            self.crowd.complain("http.too_slow", address=self._address)
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, f"the request was not complete after {seconds:g} seconds")

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        """Answers, unless another answer is being sent, and closes the connection."""
        is_free = self.is_waiting if self._awaits_head else not (self.pipeline or self.cycle.response_started)
        if is_free:
            body = _problem(status, reason)
            lines = [f"HTTP/1.1 {status} {status.phrase}".encode(), *(b"%b: %b" % pair for pair in _headers(body))]
            self.transport.write(b"\r\n".join([*lines, b"", body]))
        self.transport.close()


_CODES: Final = {
    HTTPStatus.BAD_REQUEST: "usage",
    HTTPStatus.REQUEST_TIMEOUT: "usage",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: "too-large",
    HTTPStatus.SERVICE_UNAVAILABLE: "unavailable",
}
"""The codes of `mesh/errors.py`."""


def _problem(status: HTTPStatus, reason: str) -> bytes:
    """Returns an RFC 9457 problem, like those of the API."""
    return msgspec.json.encode(
        {
            "type": f"urn:muster:problem:{_CODES[status]}",
            "title": status.phrase,
            "status": int(status),
            "detail": reason,
        }
    )


def _headers(body: bytes) -> list[tuple[bytes, bytes]]:
    return [
        (b"content-type", b"application/problem+json"),
        (b"content-length", b"%d" % len(body)),
        (b"connection", b"close"),
    ]


class _Refusal:
    """Answers a request with an invalid `Host`."""

    def __init__(self, reason: str) -> None:
        self._body = _problem(HTTPStatus.BAD_REQUEST, reason)

    async def __call__(self, _: Scope, __: Receive, send: Send) -> None:
        start = {"type": "http.response.start", "status": HTTPStatus.BAD_REQUEST, "headers": _headers(self._body)}
        await send(start)
        await send({"type": "http.response.body", "body": self._body})


def _host_problem(headers: list[tuple[bytes, bytes]], version: str) -> str:
    """Returns why a request must be answered with 400 (RFC 9112 §3.2); empty if not."""
    hosts = [value for name, value in headers if name == b"host"]
    if not hosts:
        return "" if version in {"0.9", "1.0"} else "the request has no Host header"
    if len(hosts) > 1:
        return "the request has more than one Host header"
    found = _HOST.fullmatch(hosts[0])
    if found is None or int(found[1] or 0) > _LAST_PORT:
        return "the request's Host header is not a host"
    return ""


def _network(address: str) -> str:
    """Returns the address or network that counts as one caller."""
    if ":" not in address:
        return address
    found = IPv6Address(address.partition("%")[0])
    return str(found.ipv4_mapped or f"{found.exploded[:19]}::/64")


def bounded(protocol: type[BoundedProtocol]) -> type[BoundedProtocol]:
    """Returns the protocol class of one server, with its own connections."""
    return type(protocol.__name__, (protocol,), {"crowd": Crowd()})
