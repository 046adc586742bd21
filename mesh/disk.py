"""The disk under a NATS server: what is free, what JetStream may use of it, and how much of that is for task output."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

MIB: Final = 1024**2
GIB: Final = 1024**3

NO_SPACE: Final = "no space left on the disk of the NATS server"
"""What every process reports while nothing can be stored."""

LEAST: Final = 4 * MIB
"""Bytes that must be free for a server to start, or to restart after its disk was full."""

FULL: Final = MIB
"""Fewer free bytes count as none: the next block of a stream or the next page of the tables might not fit."""

MOST_HELD_BACK: Final = 4 * GIB
"""JetStream leaves a tenth of the free space to other programs, at most this."""

MOST_OUTPUT: Final = 8 * GIB
LEAST_OUTPUT: Final = MIB // 4
"""Bytes that task output may take, at most (unless the mesh's settings say another number) and at least."""

OUTPUT_SIZE: Final = "muster.output_size"
"""The metadata of the output stream that says how many bytes people want to keep; the disk may allow fewer."""


class Space(msgspec.Struct, frozen=True, kw_only=True):
    """What a file system has, in bytes."""

    total: int
    free: int
    """What a process without privileges may still write; 0 also if no file can be made any more."""


def space(path: Path) -> Space:
    """What the file system of a file or folder has; of the nearest folder above it that exists."""
    there = next(place for place in (path, *path.absolute().parents) if place.exists())
    found = os.statvfs(there)
    has_files_left = not found.f_files or found.f_favail
    return Space(total=found.f_blocks * found.f_frsize, free=found.f_bavail * found.f_frsize if has_files_left else 0)


def size(number: int) -> str:
    """A number of bytes for a person."""
    return f"{number / GIB:.1f} GiB" if number >= GIB else f"{number / MIB:.1f} MiB"


def too_little(folder: Path) -> str | None:
    """Returns what is wrong with the disk on which a server is to start; None if it has enough space."""
    free = space(folder).free
    if free >= LEAST:
        return None
    return (
        f"no space left on the disk of {folder}: {size(free)} are free, and a mesh needs {size(LEAST)} to start; "
        f"free some, or choose another folder with --data or MUSTER_DATA"
    )


def held_back(free: int) -> int:
    """Returns the free space that JetStream leaves to others, so that it refuses before the disk is full."""
    return min(free // 10, MOST_HELD_BACK)


def limit(used: int, free: int) -> int:
    """Returns what JetStream may use on a disk: what it uses already, and most of the free space."""
    return used + free - held_back(free)


def may_grow(now: int, then: int, free_then: int) -> bool:
    """Whether a limit that is used up should be raised: more is free than was held back when it was chosen."""
    return now - then >= max(held_back(free_then) * 5 // 4, LEAST // 2)


def wanted_output(config: Mapping[str, Any]) -> int:
    """The bytes of output that people want to keep, as the output stream's settings say."""
    said = str((config.get("metadata") or {}).get(OUTPUT_SIZE, ""))
    return int(said) if said.isascii() and said.isdigit() else MOST_OUTPUT


def output_share(held: int, free: int, most: int = MOST_OUTPUT) -> int:
    """Returns the bytes that task output may use on a disk on which it uses `held`; never more than `most`.

    That is a tenth of what it could have.  Older output is dropped only when the disk runs short: another program may
    use the space for a while.
    """
    share = (held + free) // 10
    keeps = held if free > share else 0
    return max(min(max(share, keeps), most), LEAST_OUTPUT)


def is_far(wanted: int, current: int) -> bool:
    """Whether a share differs from the current one by more than an eighth: only then it is changed."""
    return abs(wanted - current) * 8 > current


def used(store: Path) -> int:
    """The bytes that a JetStream store takes on its disk."""
    return sum(_blocks(file) for file in store.rglob("*")) if store.exists() else 0


def _blocks(file: Path) -> int:
    try:
        return file.stat().st_blocks * 512
    except FileNotFoundError:  # removed meanwhile
        return 0


def reserved(store: Path) -> int:
    """The bytes that the streams of a store have reserved (`max_bytes`), as the server reads them when it starts.

    With a limit below that it would start, and then refuse every change of every stream.
    """
    return sum(_reservation(file) for file in store.glob("*/streams/*/meta.inf"))


def _reservation(file: Path) -> int:
    try:
        config = json.loads(file.read_bytes())
        return max(int(config["max_bytes"]), 0) if config["storage"] == "file" else 0
    except (OSError, ValueError, LookupError, TypeError):  # then the server cannot read it either
        return 0
