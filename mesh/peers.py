"""Whose port it is: while a mesh is down, any account of the host may listen where it did.

Whoever answers there gets the next token that is shown, and an agent would run what it says.  The kernel knows the
account behind every socket of this host (proc(5), `/proc/net/tcp`), so a port on loopback is trusted only if it is
ours, root's, or of the account that runs the mesh.
"""

from __future__ import annotations

import ipaddress
import os
import pwd
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from muster.mesh.errors import RefusedError, UsageError
from muster.mesh.private import account

VARIABLE: Final = "MUSTER_SERVER_USER"
"""Names the account that runs the NATS server of this host, if it is another one."""
TABLES: Final = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
LISTEN: Final = "0A"

Address = tuple[str, int]


class StrangerError(RefusedError):
    """Another account of this host answers there."""


class Row(msgspec.Struct, frozen=True):
    """A socket of this host."""

    local: Address
    remote: Address
    listens: bool
    uid: int


def check_peer(url: str, connected: socket.socket, owner: int | None = None) -> None:
    """Refuse a server on loopback to which we are connected, if it is a stranger's.

    Raises:
        StrangerError: it is.
    """
    try:
        ours, theirs = _address(connected.getsockname()), _address(connected.getpeername())
    except OSError:
        return  # it was closed meanwhile, or is not TCP
    _check(url, {theirs}, ours, owner)


def check_listener(url: str, host: str, port: int, owner: int | None = None) -> None:
    """Refuse a server on loopback before connecting, if it is a stranger's.

    Raises:
        StrangerError: it is.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        return  # whoever connects says so
    _check(url, {_address(one[4]) for one in found}, None, owner)


def _check(url: str, places: set[Address], ours: Address | None, owner: int | None) -> None:
    local = {place for place in places if ipaddress.ip_address(place[0]).is_loopback}
    if not local or sys.platform != "linux":
        return
    trusted = {0, os.geteuid(), owner, _named()}
    for row in _rows({place[1] for place in local}):
        if row.listens:
            is_it = any(_listens(row, place) for place in local)
        else:  # an accepted socket keeps its account, whoever listens there now
            is_it = row.local in local and row.remote == ours
        if is_it and row.uid not in trusted:
            raise StrangerError(
                f"{url} is served by {account(row.uid)}, which is not the mesh's: another account may have taken the "
                f"port while the mesh was down. Start the mesh, or set {VARIABLE} to the account that runs it"
            )


def _listens(row: Row, place: Address) -> bool:
    return row.local[1] == place[1] and (row.local[0] == place[0] or ipaddress.ip_address(row.local[0]).is_unspecified)


def _named() -> int | None:
    name = os.environ.get(VARIABLE)
    if not name:
        return None
    try:
        return int(name) if name.isdecimal() else pwd.getpwnam(name).pw_uid
    except KeyError:
        raise UsageError(f"{VARIABLE} is {name!r}, and this host has no such account") from None


def _rows(ports: set[int]) -> Iterator[Row]:
    """The sockets on these ports of ours; a busy host has thousands of others, so only these are decoded."""
    wanted = {f"{port:04X}" for port in ports}
    for table in TABLES:
        try:
            lines = table.read_text().splitlines()[1:]
        except OSError:  # no IPv6, or a host without these tables
            continue
        for line in lines:
            if line.split(maxsplit=2)[1].rpartition(":")[2] not in wanted:
                continue
            words = line.split()
            yield Row(_decoded(words[1]), _decoded(words[2]), words[3] == LISTEN, int(words[7]))


def _decoded(text: str) -> Address:
    """`0100007F:21C2`: words of four bytes, each in the host's order."""
    digits, _, port = text.partition(":")
    raw = bytes.fromhex(digits)
    if sys.byteorder == "little":
        raw = b"".join(raw[at : at + 4][::-1] for at in range(0, len(raw), 4))
    return _address((str(ipaddress.ip_address(raw)), int(port, 16)))


def _address(name: tuple[object, ...]) -> Address:
    """Host and port of a socket's name, IPv4 as IPv4 wherever it comes from."""
    found = ipaddress.ip_address(str(name[0]).partition("%")[0])
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return str(mapped or found), int(str(name[1]))
