"""The process that writes the tables: `python -m muster.broker.projection.scribe FILE DURABILITY`.

Frames come in on standard input; for each, a line of JSON goes out: null once it is committed, else why
it cannot be.  At the end of the input, however that came about, the process ends.
"""

from __future__ import annotations

import gc
import os
import signal
import sqlite3
import sys
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from muster.broker.projection.frame import LENGTH, decode
from muster.broker.projection.tables import Tables

OUT: Final = 1


class Scribe:
    """Opens the file once there is something to write, and again if it could not."""

    def __init__(self, path: Path, durability: str) -> None:
        self._path = path
        self._durability = durability
        self._tables: Tables | None = None

    def run(self, frames: BinaryIO) -> None:
        """Write frames until there are no more; half a frame is none."""
        while len(head := frames.read(LENGTH)) == LENGTH:
            size = int.from_bytes(head, "big")
            if len(data := frames.read(size)) < size:
                break
            os.write(OUT, msgspec.json.encode(self._trouble(data)) + b"\n")
        if self._tables is not None:
            self._tables.close()

    def _trouble(self, data: bytes) -> str | None:
        try:
            if self._tables is None:
                self._tables = Tables(self._path, self._durability)
            self._tables.write(decode(data))
        except sqlite3.Error as error:
            return str(error)
        return None


def main(path: str, durability: str) -> None:
    """Serve the broker at the other end of the pipe."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # a whole group or unit is told to stop: the broker decides when we do
    gc.disable()  # rows hold no cycles
    with suppress(BrokenPipeError):  # the broker has died, and wants no answer
        Scribe(Path(path), durability).run(sys.stdin.buffer)


if __name__ == "__main__":
    main(*sys.argv[1:])
