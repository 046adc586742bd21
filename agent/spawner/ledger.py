"""Which sessions run, in a page of memory that outlives both the agent and its spawner.

Should both be killed at one moment, nobody is left to end their tasks; the next agent on the folder reads here what
that would have been.  It is a file that is only mapped: to note a session costs no system call.  Numbers of
processes are used again, so what is found must also bear the agent's mark in its environment.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator
from typing import Final

SIZE: Final = 1 << 20
"""Bytes: a quarter of a million programs at a time.  A page that is not used takes no space."""

ENTRY: Final = struct.Struct("=i")


class Ledger:
    """The spawner's hand on the file."""

    def __init__(self, file: int) -> None:
        os.ftruncate(file, SIZE)
        self._map = mmap.mmap(file, SIZE)
        self._free: list[int] = []
        self._next = 0

    def note(self, session: int) -> int:
        """A session runs; the place where that is noted."""
        if self._free:
            place = self._free.pop()
        else:
            place, self._next = self._next, self._next + ENTRY.size
        ENTRY.pack_into(self._map, place, session)
        return place

    def clear(self, place: int) -> None:
        """It has ended."""
        ENTRY.pack_into(self._map, place, 0)
        self._free.append(place)


def sessions(data: bytes) -> Iterator[int]:
    """The sessions in a ledger's bytes."""
    whole = len(data) - len(data) % ENTRY.size
    return (session for (session,) in ENTRY.iter_unpack(data[:whole]) if session > 0)
