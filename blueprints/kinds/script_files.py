"""Files that Muster writes into a working folder, which may be another user's, who may change it meanwhile.

So no link is followed, every file is new, and it is given to that user by its handle, not by its name.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

Owner = tuple[int, int] | None
"""User and group ids; None: the agent's."""

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def write_file(folder: Path, name: str, data: bytes, mode: int, owner: Owner) -> Path:
    """Write a new file in place of anything that has its name, with the folders on its way.

    Raises:
        NotADirectoryError: a link, or something else that is not a folder, is on its way.
        OSError: it cannot be written.
    """
    *parents, last = name.split("/")
    place = os.open(folder, _FOLDER)
    try:
        for part in parents:
            inner = _inner(place, part, owner)
            os.close(place)
            place = inner
        _unlink(place, last)
        handle = os.open(last, _NEW, mode, dir_fd=place)
        with os.fdopen(handle, "wb") as file:
            if owner is not None:
                os.fchown(handle, *owner)
            file.write(data)
    finally:
        os.close(place)
    return folder / name


def _inner(place: int, name: str, owner: Owner) -> int:
    try:
        os.mkdir(name, 0o700, dir_fd=place)
    except FileExistsError:
        return os.open(name, _FOLDER, dir_fd=place)
    inner = os.open(name, _FOLDER, dir_fd=place)
    if owner is not None:
        os.fchown(inner, *owner)
    return inner


def _unlink(place: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=place)
    except FileNotFoundError:
        return
