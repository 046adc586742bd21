"""Tokens: what a door asks for, who makes them, and which one belongs to which address.

A mesh has two doors, HTTP and NATS, each with a token.  A role that opens a door makes its token at its first start, in
the data folder, unless the environment gives one.  Clients of the same account find it by the door's address: the data
folder says at which address its token is asked for, and `$XDG_STATE_HOME/muster` has a link to the data folder of each
door that is open.  So a token is shown to the address that it belongs to, and to no other.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from muster.mesh.errors import RefusedError, UnauthorizedError, UsageError
from muster.mesh.settings import DEFAULT_API, DEFAULT_SERVER, context, state_home

_HERE: Final = dict.fromkeys(("localhost", "0.0.0.0", "::"), "127.0.0.1")  # noqa: S104 - an address to reach, not bound
"""Where this host reaches what listens there."""

_HOST: Final = re.compile(r"[\w.:%-]+")
"""A host's name or address; no other text is the name of a file."""

LONGEST: Final = 4096
"""Characters of a token; a file with more is something else."""


class Door(msgspec.Struct, frozen=True):
    """One way into a mesh."""

    setting: str
    """In a context; in capitals and behind `MUSTER_`, in the environment."""
    file: str
    """In a data folder, and as a systemd credential."""
    default: str
    """Where it is if nobody says where."""

    @property
    def variable(self) -> str:
        """The environment's."""
        return f"MUSTER_{self.setting.upper()}"

    @property
    def address_setting(self) -> str:
        """The setting that says where the door is."""
        return "api" if self is API else "server"


API: Final = Door("token", "api.token", DEFAULT_API)
NATS: Final = Door("nats_token", "nats.token", DEFAULT_SERVER)


class Token(msgspec.Struct, frozen=True):
    """A token, and where it was found: messages name the place, never the text."""

    text: str
    source: str
    owner: int | None = None
    """The account that made the file in a data folder; None: somebody gave it."""

    def __repr__(self) -> str:
        return f"Token(from {self.source})"


def own(door: Door, folder: Path, url: str, *, is_open: bool = False) -> Token | None:
    """The token that a role asks for at its own door: what it was given, else its folder's, made if need be.

    Raises:
        UsageError: it is to be open, and there is a token.
        RefusedError: the folder's token cannot be read or made, or others can read it.
    """
    given = _given(door, url)
    if is_open:
        if given is not None:
            raise UsageError(f"--open asks for no token, but {given.source} has one; leave one of the two out")
        return None
    return given or _kept(door, folder)


def find(door: Door, addresses: str, folder: Path) -> Token | None:
    """The token for the door at an address (one URL, or several of one cluster, comma-separated); None: there is none.

    Raises:
        RefusedError: the file that has it cannot be read.
    """
    urls = [url for text in addresses.split(",") if (url := text.strip())]
    if (given := _given(door, addresses)) is not None:
        return given
    found = {_found(door, url, folder) for url in urls}
    return found.pop() if len(found) == 1 else None


def kept_address(door: Door, folder: Path) -> str | None:
    """Where the mesh of a data folder has a door open; None if it has not, or the folder is another's."""
    with suppress(OSError, UnicodeDecodeError):
        return _text(_address_file(door, folder)) or None
    return None


def refused(door: Door, who: str, token: Token | None) -> str:
    """What to say when a door does not take what it was shown."""
    way = (
        f"the mesh's is in {door.file} of its data folder: set MUSTER_DATA to that folder, or {door.variable} or "
        f"{door.variable}_FILE to the token"
    )
    if token is None:
        return f"{who} asks for a token, and none was found for it; {way}"
    return f"{who} refuses the token of {token.source}; {way}"


def environment(door: Door, token: Token | None) -> dict[str, str]:
    """What gives a role that we start this token: the name of its file, or the text if that is all there is."""
    if token is None:
        return {}
    return {f"{door.variable}_FILE": token.source} if token.source.startswith("/") else {door.variable: token.text}


def without_tokens(env: Mapping[str, str]) -> dict[str, str]:
    """An environment for a role that is to have only the tokens that it needs."""
    kept = {door.variable for door in (API, NATS)} | {f"{door.variable}_FILE" for door in (API, NATS)}
    return {name: value for name, value in env.items() if name not in kept and name != "CREDENTIALS_DIRECTORY"}


@contextmanager
def announced(door: Door, token: Token | None, folder: Path, url: str) -> Iterator[None]:
    """While it is open, commands of this account find the token of a door by its address, if the folder keeps it."""
    place = _address_file(door, folder)
    if token is None or token.source != str(folder / door.file):
        place.unlink(missing_ok=True)  # what an earlier start said there is not true any more
        yield
        return
    _write(place, url)
    with suppress(OSError, RuntimeError):  # without a home: MUSTER_DATA says where
        link = _link(door, url)
        link.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        beside = link.with_name(f".{link.name}.{os.getpid()}")
        beside.unlink(missing_ok=True)
        beside.symlink_to(folder)
        beside.replace(link)
    try:
        yield
    finally:
        with suppress(OSError, RuntimeError):
            if _text(place) == url:  # else another role has taken our place
                place.unlink()
            if (link := _link(door, url)).readlink() == folder:
                link.unlink()


# -- what somebody gave ---------------------------------------------------------------------------


def _given(door: Door, addresses: str) -> Token | None:
    if text := os.environ.get(door.variable):
        return Token(_checked(text, door.variable), door.variable)
    if file := os.environ.get(f"{door.variable}_FILE"):
        return _of_file(Path(file), f"{door.variable}_FILE")
    if credentials := os.environ.get("CREDENTIALS_DIRECTORY"):
        file = os.path.join(credentials, door.file)  # noqa: PTH118 - it stays a text
        if os.path.exists(file):  # noqa: PTH110
            return _of_file(Path(file), "systemd's credential")
    return _of_context(door, addresses)


def _of_context(door: Door, addresses: str) -> Token | None:
    """The context's token, for the address of the context alone."""
    here = context()
    if addresses.rstrip("/") != str(here.get(door.address_setting, door.default)).rstrip("/"):
        return None
    if text := here.get(door.setting):
        return Token(_checked(str(text), f"the context's {door.setting}"), f"the context's {door.setting}")
    if file := here.get(f"{door.setting}_file"):
        return _of_file(Path(str(file)).expanduser(), f"the context's {door.setting}_file")
    return None


def _of_file(path: Path, named_by: str) -> Token:
    try:
        return Token(_checked(_text(path), str(path)), str(path))
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise RefusedError(f"cannot read the token in {path} ({named_by}): {why}") from error


# -- what a data folder keeps ---------------------------------------------------------------------


def _found(door: Door, url: str, folder: Path) -> Token | None:
    if not (wanted := _place(url)):
        return None
    linked: list[Path] = []
    with suppress(OSError, RuntimeError):
        linked.append(_link(door, url).readlink())
    for place in (folder, *linked):
        try:
            is_its_own = _place(_text(_address_file(door, place))) == wanted
        except (OSError, UnicodeDecodeError):
            continue
        if is_its_own:
            return _read(place / door.file)
    return None


def _kept(door: Door, folder: Path) -> Token:
    """The folder's token; the first of several that start at once makes it, the others read it."""
    path = folder / door.file
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                _write(path, secrets.token_urlsafe(32))
                os.fsync(lock)
        finally:
            os.close(lock)
    except OSError as error:
        raise RefusedError(f"cannot make {path}: {error.strerror}; choose another folder with --data") from error
    found = _read(path)
    if found is None:
        raise RefusedError(f"cannot read {path}: it was deleted meanwhile; start again")
    return found


def _read(path: Path) -> Token | None:
    """The token in a data folder's file; None: there is no such file."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RefusedError(f"cannot read the token in {path}: {error.strerror}") from error
    with os.fdopen(file, "rb") as content:
        status = os.fstat(file)
        if stat.S_IMODE(status.st_mode) & 0o077:
            raise RefusedError(
                f"others can read {path} (mode {stat.S_IMODE(status.st_mode):04o}), so its token may be known: "
                "delete it and start again for a new one, or `chmod 600` it"
            )
        if os.geteuid() not in {0, status.st_uid}:
            raise RefusedError(f"{path} belongs to another account (uid {status.st_uid}); delete it, and start again")
        text = content.read(LONGEST + 1).decode(errors="replace").strip()
    return Token(_checked(text, str(path)), str(path), status.st_uid)


def _write(path: Path, text: str) -> None:
    """Whole or not at all, for this account alone."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    file = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(file, "w") as out:
        os.fchmod(file, 0o600)
        out.write(f"{text}\n")
        out.flush()
        os.fsync(file)
    beside.replace(path)


def _text(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(LONGEST + 1).decode().strip()


def _checked(text: str, source: str) -> str:
    if not text:
        raise UnauthorizedError(f"{source} has no token in it; delete it to have one made, or write one")
    if len(text) > LONGEST or not (text.isascii() and text.isprintable() and " " not in text):
        raise UsageError(f"{source} is not a token: a token has up to {LONGEST} visible ASCII characters and no space")
    return text


def _address_file(door: Door, folder: Path) -> Path:
    return folder / door.file.replace(".token", ".url")


def _link(door: Door, url: str) -> Path:
    return state_home() / f"{door.file.removesuffix('.token')}@{_place(url)}"


def _place(url: str) -> str:
    """Host and port of a URL, empty for what is not one; several words for this host are one."""
    try:
        parts = urlsplit(url if "://" in url else f"//{url}")
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError:
        return ""
    if not _HOST.fullmatch(host):
        return ""
    if port is None:
        port = {"https": 443, "http": 80}.get(parts.scheme, 4222)
    return f"{_HERE.get(host, host)}:{port}"
