"""Free TCP ports."""

from __future__ import annotations

import random
import socket
from contextlib import suppress
from typing import Final

PORTS: Final = range(10_000, 32_000)
"""Below those from which systems take one for an outgoing connection: nobody else gets it before its program does."""


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nothing listens on just now; prefer port 0 where the program can report its port.

    Raises:
        OSError: there is none.
    """
    for port in random.sample(PORTS, 100):
        with suppress(OSError), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            return port
    raise OSError("a hundred ports, none of them free")
