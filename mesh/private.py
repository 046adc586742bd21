"""What we write is for our own account: the umask of every process of ours, and the folders of a mesh."""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path
from typing import Final

from muster.mesh.errors import RefusedError

OURS: Final = frozenset({"agent", "api.token", "broker", "lock", "nats", "nats.token", "shipped.json"})
"""What a data folder has in it: by this we know that a folder is one."""

_inherited: int | None = None


def keep_private() -> None:
    """From now on, nobody else reads what this process writes; first thing in every one that `muster` starts."""
    global _inherited  # noqa: PLW0603 - so is the umask
    found = os.umask(0o077)
    if _inherited is None:
        _inherited = found


def inherited_umask() -> int:
    """The umask that this process was started with: what it starts for others, tasks above all, has it again."""
    if _inherited is not None:
        return _inherited
    found = os.umask(0o077)  # the only way to ask
    os.umask(found)
    return found


def private_folder(path: Path, part: str = "") -> Path:
    """A data folder, or a part of one, that others cannot read; made, or closed to them, if need be.

    Raises:
        RefusedError: it cannot be made, or others may write in it.
    """
    whole = _private(path.absolute())
    return _private(whole / part, is_ours=True) if part else whole


def _private(path: Path, *, is_ours: bool = False) -> Path:
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        status = path.stat()
        mode = stat.S_IMODE(status.st_mode)
        if status.st_uid == os.geteuid() and mode & 0o077 and (is_ours or _is_ours(path)):
            path.chmod(mode & ~0o077)
            return path
    except OSError as error:
        raise RefusedError(
            f"cannot write in {path}: {error.strerror}; choose another folder with --data or MUSTER_DATA"
        ) from error
    choose = "choose another folder with --data or MUSTER_DATA"
    if mode & 0o002 and not mode & stat.S_ISVTX:
        raise RefusedError(f"every account may write in {path} (mode {mode:04o}): `chmod o-w` it, or {choose}")
    if status.st_uid not in {0, os.geteuid()} and os.geteuid():
        raise RefusedError(f"{path} belongs to {account(status.st_uid)}, who could change what is in it; {choose}")
    return path


def _is_ours(path: Path) -> bool:
    """Whether it is a data folder or is to be one: a home, or /tmp, given by mistake stays as it is."""
    found = set(os.listdir(path))  # noqa: PTH208 - names
    return not found or not OURS.isdisjoint(found)


def account(uid: int) -> str:
    """An account in words."""
    try:
        return f"the account {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"the account {uid}"
