"""Where things are: the `MUSTER_*` environment, the context file, and the defaults of surface.md."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any, Final, Literal

from muster.mesh.errors import UsageError

DEFAULT_API: Final = "http://127.0.0.1:8642"
DEFAULT_SERVER: Final = "nats://127.0.0.1:4222"

Durability = Literal["safe", "fast"]

MAX_BODY: Final = 8 * 1024 * 1024
"""Largest request, manifest or message that a broker takes, in bytes."""


def _home() -> Path:
    """The account's home; for an account without one, as in some containers, a place where nothing is or can be."""
    try:
        return Path.home()
    except RuntimeError:
        return Path(os.devnull)


def data_home() -> Path:
    """`MUSTER_DATA`, the context's `data`, or `$XDG_DATA_HOME/muster` (XDG Base Directory Specification)."""
    if given := setting("data", ""):
        return Path(given)
    base = os.environ.get("XDG_DATA_HOME") or str(_home() / ".local" / "share")
    return Path(base) / "muster"


def state_home() -> Path:
    """Where it is noted which data folder belongs to which address: `$XDG_STATE_HOME/muster`."""
    base = os.environ.get("XDG_STATE_HOME") or str(_home() / ".local" / "state")
    return Path(base) / "muster"


def context_file() -> Path:
    """Where contexts are kept: `$XDG_CONFIG_HOME/muster/config.toml`."""
    base = os.environ.get("XDG_CONFIG_HOME") or str(_home() / ".config")
    return Path(base) / "muster" / "config.toml"


def context() -> dict[str, Any]:
    """The chosen context: the table that `current` (or `MUSTER_CONTEXT`) names in the context file, or nothing.

    Raises:
        UsageError: the file cannot be read, is not TOML, or names a context that it does not have.
    """
    path = context_file()
    if not path.is_file():
        return {}
    try:
        content = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid TOML: {error}") from error
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    chosen = os.environ.get("MUSTER_CONTEXT") or content.get("current")
    if chosen is None:
        return {}
    contexts = content.get("contexts")
    tables = contexts if isinstance(contexts, dict) else {}
    table = tables.get(chosen) if isinstance(chosen, str) else None
    if not isinstance(table, dict):
        raise UsageError(f"{path} has no table [contexts.{chosen}]; it has {', '.join(tables) or 'none'}")
    return table


def setting(name: str, default: str) -> str:
    """One setting: the environment's `MUSTER_<NAME>`, then the context's `<name>`, then the default."""
    given = os.environ.get(f"MUSTER_{name.upper()}")
    return given or str(context().get(name, default))
