"""How a broker is: what `/readyz`, `/metrics`, `info` and `muster doctor` report."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """How the broker is."""

    broker: str
    """Its id, new at each start."""
    ready: bool = True
    reason: str = ""
    """Why it is not ready."""
    leader: bool = False
    durability: str = "safe"
    lag: int = 0
    """Records on the log that this broker has not applied yet."""
    sequence: int = 0
    """The last record that it has applied."""
    orders: dict[str, int] = {}
    """Open orders by state."""
    elements: int = 0
    online: int = 0
    """Elements that an agent acts for."""
    objects: dict[str, int] = {}
    """Objects by kind."""
    ignored: int = 0
    """Events that did not concern their trigger, since this broker started."""
    duplicates: int = 0
    """Events that had come before."""
    troubles: dict[str, str] = {}
    """By element, what is wrong with its agent: of a version that does not fit, or with a clock that is off."""
    warnings: tuple[str, ...] = ()
    """What was asked of the mesh's settings and does not hold, each with what to do about it."""
    unconfined: tuple[str, ...] = ()
    """Elements on which tasks run as root, without isolation."""
    unreadable: dict[str, str] = {}
    """Objects that this broker cannot read (`KIND/NAME`), and why."""


StatusSource = Callable[[], Awaitable[Status]]
