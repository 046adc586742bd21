"""How an HTTP task connects: to addresses that the agent's rules allow, and to no others.

A name is resolved once, each address is checked, and these very addresses are connected to: what the name resolves
to a moment later has no effect.  TLS and the Host header keep the name.  Redirects are connections like any other.

It imports httpx, and is therefore imported with the first request.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Iterable, Sequence
from typing import Final

import anyio
import httpcore
import httpx
from httpx._utils import get_environment_proxies

from muster.blueprints.reach import Denial, Reach

NEXT_ADDRESS: Final = 0.25
"""Seconds after which the next address of a name is tried as well (RFC 8305 §5)."""

PROXY_LOOKUP: Final = 2.0
"""Seconds that a name may take to resolve where only the proxy needs to resolve it."""


class DeniedError(Exception):
    """The agent's rules deny the connection."""


def client(reach: Reach, certificates: ssl.SSLContext | None, headers: dict[str, str]) -> httpx.AsyncClient:
    """A client that respects the rules and the environment's proxies; without certificates for plain HTTP only."""
    mounts = {
        pattern: None if proxy is None else _Proxied(reach, certificates, proxy)
        for pattern, proxy in get_environment_proxies().items()
    }
    # The whole exchange has a limit; of its own accord httpx waits five seconds for each step of it.
    return httpx.AsyncClient(transport=_Direct(reach, certificates), mounts=mounts, timeout=None, headers=headers)  # noqa: S113


class _Direct(httpx.AsyncHTTPTransport):
    """httpx's transport, on connections of ours."""

    def __init__(self, reach: Reach, certificates: ssl.SSLContext | None) -> None:
        self._pool = httpcore.AsyncConnectionPool(ssl_context=certificates, network_backend=_Checked(reach))


class _Proxied(httpx.AsyncHTTPTransport):
    """httpx's transport by way of a proxy, which alone connects: the target is checked as far as it is known here."""

    def __init__(self, reach: Reach, certificates: ssl.SSLContext | None, proxy: str) -> None:
        super().__init__(verify=certificates or False, proxy=proxy)
        self._reach = reach

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        host = request.url.raw_host.decode("ascii")
        try:
            async with asyncio.timeout(PROXY_LOOKUP):
                _, denials = await _sorted(self._reach, host, request.url.port)
        except OSError:  # TimeoutError is one
            denial = self._reach.denial(host, None)
            denials = [] if denial is None else [denial]
        if denials:
            raise DeniedError(denials[0].message)
        return await super().handle_async_request(request)


class _Checked(httpcore.AsyncNetworkBackend):
    """Connects to addresses that the rules allow."""

    def __init__(self, reach: Reach) -> None:
        self._reach = reach
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """A connection to the first of the host's addresses that answers.

        Raises:
            DeniedError: all of them are denied.
            httpcore.ConnectError: the host does not resolve, or no address answers.
        """
        try:
            addresses, denials = await _sorted(self._reach, host, port)
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from error
        if not addresses and denials:
            raise DeniedError(denials[0].message)
        won: list[httpcore.AsyncNetworkStream] = []
        errors = [denial.message for denial in denials]

        async def connect(address: str, ended: anyio.Event) -> None:
            try:
                stream = await self._network.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                errors.insert(0, str(error))
            else:
                won.append(stream)
                group.cancel_scope.cancel()
            finally:
                ended.set()

        try:
            async with anyio.create_task_group() as group:
                for address in addresses:
                    ended = anyio.Event()
                    group.start_soon(connect, address, ended)
                    with anyio.move_on_after(NEXT_ADDRESS):
                        await ended.wait()
            if won:
                return won.pop(0)
        finally:
            for stream in won:
                await stream.aclose()
        raise httpcore.ConnectError("; ".join(dict.fromkeys(errors)) or f"{host} has no address")


async def _sorted(reach: Reach, host: str, port: int | None) -> tuple[list[str], list[Denial]]:
    """The host's addresses that may be connected to, and why the others must not.

    Raises:
        OSError: it does not resolve.
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses: dict[str, None] = {}
    denials: list[Denial] = []
    for *_, place in found:
        denial = reach.denial(host, ipaddress.ip_address(str(place[0])))
        if denial is None:
            addresses[_scoped(place)] = None
        else:
            denials.append(denial)
    return list(addresses), denials


def _scoped(place: Sequence[str | int | bytes]) -> str:
    """The address, a link-local one with its interface."""
    host, scope = str(place[0]), int(place[3]) if len(place) > 2 else 0  # noqa: PLR2004 - (host, port, flow, scope) of IPv6
    return f"{host}%{scope}" if scope and "%" not in host else host
