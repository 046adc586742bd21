"""Checks whether a request comes from a process of our own account on this host.

For a connection with both ends on this host, the kernel reports the account that opened it, over netlink
(sock_diag(7)).  A proxy that forwards requests of others adds a header.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Mapping
from typing import Any, Final

Address = tuple[str, int]

PASSED_ON: Final = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")
"""Headers that a proxy adds."""

_SOCK_DIAG: Final = 4  # NETLINK_SOCK_DIAG
_BY_FAMILY: Final = 20  # SOCK_DIAG_BY_FAMILY
_REQUEST: Final = 1  # NLM_F_REQUEST
_HEAD: Final = struct.Struct("=IHHII")  # struct nlmsghdr
_ASKED: Final = struct.Struct("=BBBBI")  # struct inet_diag_req_v2, before its id
_UID: Final = _HEAD.size + 4 + 48 + 12  # in the answer: behind four bytes, the id and three numbers
_ANY: Final = 0xFFFFFFFF
_TIMEOUT: Final = 1.0
"""Seconds; the kernel answers within microseconds."""


def is_own(scope: Any, headers: Mapping[str, str]) -> bool:
    """Returns whether the request comes from our own account; False if this cannot be determined."""
    client, server = scope.get("client"), scope.get("server")
    if not client or not server or any(map(headers.__contains__, PASSED_ON)):
        return False
    return account_of((client[0], client[1]), (server[0], server[1])) == os.geteuid()


def account_of(client: Address, server: Address) -> int | None:
    """Returns the account that opened a connection to `server`; None if it is not on this host."""
    family = socket.AF_INET6 if ":" in client[0] else socket.AF_INET
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, _SOCK_DIAG) as kernel:
            kernel.settimeout(_TIMEOUT)
            kernel.send(_question(family, client, server))
            answer = kernel.recv(4096)
    except OSError:
        return None
    _, kind, *_ = _HEAD.unpack_from(answer)
    if kind != _BY_FAMILY or len(answer) < _UID + 4:
        return None
    uid: int = struct.unpack_from("=I", answer, _UID)[0]
    return uid


def _question(family: int, client: Address, server: Address) -> bytes:
    ends = b"".join(socket.inet_pton(family, address).ljust(16, b"\0") for address, _ in (client, server))
    ident = struct.pack(">HH", client[1], server[1]) + ends + struct.pack("=III", 0, _ANY, _ANY)
    asked = _ASKED.pack(family, socket.IPPROTO_TCP, 0, 0, _ANY) + ident
    return _HEAD.pack(_HEAD.size + len(asked), _BY_FAMILY, _REQUEST, 1, 0) + asked
