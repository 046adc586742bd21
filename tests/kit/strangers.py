"""Another account of this host, which is up to no good."""

from __future__ import annotations

import os
import sys
from typing import Final

import pytest

STRANGER: Final = 65_534
"""`nobody`."""

needs_root: Final = pytest.mark.skipif(os.geteuid() != 0, reason="NOT TRIED: only root can act as another account")

_BECOME: Final = f"""
import contextlib, json, os, pathlib, socket, stat, sys, time
"x".encode("idna")  # loaded while it can be
os.setgroups([])
os.setgid({STRANGER})
os.setuid({STRANGER})
"""


def as_stranger(code: str, *args: str) -> list[str]:
    """The command line that runs this Python as the other account; the arguments are in `sys.argv[1:]`."""
    return [sys.executable, "-c", _BECOME + code, *args]


FAKE_SERVER: Final = """
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
listener = socket.create_server((sys.argv[1], int(sys.argv[2])), family=family)
print("listens", listener.getsockname()[1], flush=True)
while True:
    connection, _ = listener.accept()
    with connection, contextlib.suppress(OSError):
        connection.sendall(b'INFO {"version":"2.12.0","auth_required":true,"max_payload":1048576}\\r\\n')
        connection.settimeout(2)
        while heard := connection.recv(65536):
            print("heard", heard, flush=True)
"""
"""What listens where a mesh was, greets as NATS does, and prints what it is shown."""
