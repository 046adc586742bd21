"""The agent's place: its host and state folder, and the lock that lets one daemon act for an element there.

A broker lets a daemon take over at once from one that was in the same place, for the lock says that
the earlier one is gone, and so are its tasks: its spawner holds the lock too.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from muster.mesh import names
from muster.mesh.errors import RefusedError
from muster.mesh.lock import taken

LOCK_TIMEOUT = 15.0
"""Seconds for an earlier daemon to be gone."""


class Place(NamedTuple):
    """Where a daemon is."""

    name: str
    locks: tuple[int, ...]
    """Files that hold the elements' locks; whoever else has them open holds these too."""


@asynccontextmanager
async def placed(folder: Path, elements: Sequence[str]) -> AsyncIterator[Place]:
    """Holds the elements' locks in this folder.

    Raises:
        RefusedError: another daemon acts for one of them from here, or the folder cannot be written.
    """
    async with AsyncExitStack() as stack:
        files = []
        try:
            locks = folder / "locks"
            locks.mkdir(parents=True, exist_ok=True, mode=0o700)
            for element in sorted(elements):
                file = os.open(locks / element, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                stack.callback(os.close, file)
                files.append(file)
                await _lock(file, element, folder)
            place = Place(_named(folder), tuple(files))
        except OSError as error:
            raise RefusedError(f"cannot write in {folder}: {error.strerror}; choose another folder (--data)") from error
        yield place


async def _lock(file: int, element: str, folder: Path) -> None:
    try:
        async with asyncio.timeout(LOCK_TIMEOUT):
            while not taken(file):  # noqa: ASYNC110 - only the kernel knows when the earlier holder is gone
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise RefusedError(
            f"another agent already acts for {element} from {folder}; stop it, or choose another folder (--data)"
        ) from None


def _named(folder: Path) -> str:
    return f"{socket.gethostname()}:{folder.resolve()} {_ident(folder)}"


def _ident(folder: Path) -> str:
    """Distinguishes folders that have the same path on hosts of the same name (containers)."""
    path = folder / "place"
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        path.touch(mode=0o600)
        path.write_text(names.new_id()[:8])
        return path.read_text().strip()
