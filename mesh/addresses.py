"""Where a server listens."""

from __future__ import annotations

import ipaddress
import socket

from muster.mesh.errors import RefusedError


def bind(host: str, port: int) -> socket.socket:
    """A listening socket's socket, bound: so a port of 0 is known before anybody is served.

    Raises:
        RefusedError: the address is taken, or is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's algorithm off only where the protocol is spelt out; with it, each answer takes 40 ms more.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise RefusedError(
            f"cannot listen on {host}:{port}: {error.strerror or error}; choose another address with --http"
        ) from error
    bound.setblocking(False)
    return bound


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_address(host: str) -> bool:
    """Whether it is a number, or this machine's own name: nobody can have it point elsewhere."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return True


def shown(urls: str) -> str:
    """One URL, or several with commas, as messages and logs may say them: without user and password."""
    return ",".join(map(_without_user, urls.split(",")))


def has_password(urls: str) -> bool:
    """Whether one of the URLs has a user or a password in it."""
    return shown(urls) != urls


def _without_user(url: str) -> str:
    scheme, mark, rest = url.partition("://") if "://" in url else ("", "", url)
    return f"{scheme}{mark}{rest.rpartition('@')[2]}"
