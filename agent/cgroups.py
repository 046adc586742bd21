"""A control group (cgroup v2) for each order, below the agent's own: what is in it is bounded, and killed whole.

The agent must be allowed to change its own group: root's, or delegated (`Delegate=yes` of its systemd unit).
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from muster.agent.isolation import Isolation
from muster.mesh.errors import RefusedError

BASE: Final = "muster-orders-"
"""What the group of an agent's orders is called, before the agent's id."""

AGENTS: Final = "muster-agents"
"""Where what is in our own group goes: a group with limits below it may have no processes itself."""

HINT: Final = "give the agent its own (`Delegate=yes` in its systemd unit), or set isolation to none"


class Cgroups:
    """The groups of one agent's orders."""

    def __init__(self, agent: str) -> None:
        self._agent = agent
        self._base = Path()
        self._has_limits = False

    def prepare(self, isolation: Isolation) -> None:
        """Makes sure that orders can have a group, with the limits that are asked for.

        Raises:
            RefusedError: this host has no control groups of version 2, or not for us.
        """
        if not isolation.cgroup:
            return
        own = _own()
        base = own / f"{BASE}{self._agent}"
        try:
            base.mkdir(exist_ok=True)
            if not (base / "cgroup.kill").exists():
                raise RefusedError("isolation: cgroup takes Linux 5.14 or newer")
            self._base = base
            if (isolation.memory or isolation.processes) and not self._has_limits:
                _delegate_limits(own, base)
                self._has_limits = True
        except OSError as error:
            raise RefusedError(f"isolation: cannot change the control group {own}: {error.strerror}; {HINT}") from error

    def make(self, order: str, isolation: Isolation) -> Path:
        """The group of an order; it was prepared for.

        Raises:
            RefusedError: it cannot be made.
        """
        place = self._base / order
        try:
            place.mkdir(exist_ok=True)
            if isolation.memory is not None:
                (place / "memory.max").write_text(str(isolation.memory))
                with suppress(FileNotFoundError):  # no swap
                    (place / "memory.swap.max").write_text("0")
            if isolation.processes is not None:
                (place / "pids.max").write_text(str(isolation.processes))
        except OSError as error:
            raise RefusedError(f"isolation: cannot make the control group {place}: {error.strerror}; {HINT}") from error
        return place

    def close(self) -> None:
        """Removes what is left: nothing of ours runs any more."""
        if self._base.name:
            _remove(self._base)


def sweep(agent: str) -> None:
    """Kills and removes what an agent that is gone has left in our own group."""
    with suppress(RefusedError):
        _remove(_own() / f"{BASE}{agent}")


def _remove(base: Path) -> None:
    with suppress(OSError):
        for place in (*base.glob("*/"), base):
            (place / "cgroup.kill").write_text("1")
            place.rmdir()


def _own() -> Path:
    """The folder of the control group that we are in."""
    mount = next((fields[4] for fields in _mounts() if fields[fields.index("-") + 1] == "cgroup2"), None)
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    path = next((line[3:] for line in lines if line.startswith("0::")), None)
    if mount is None or path is None:
        raise RefusedError(f"isolation: this host has no control groups of version 2; {HINT}")
    place = Path(mount + path.rstrip("/"))
    return place.parent if place.name == AGENTS else place


def _mounts() -> list[list[str]]:
    return [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]


def _delegate_limits(own: Path, base: Path) -> None:
    offered = set((own / "cgroup.controllers").read_text().split())
    if missing := {"memory", "pids"} - offered:
        raise RefusedError(f"isolation: the control group {own} has no controller {', '.join(sorted(missing))}; {HINT}")
    if (own / "cgroup.type").exists():  # the root group has none, and may have processes
        agents = own / AGENTS
        agents.mkdir(exist_ok=True)
        for pid in (own / "cgroup.procs").read_text().split():
            with suppress(ProcessLookupError):
                _write(agents / "cgroup.procs", pid)
    for place in (own, base):
        _write(place / "cgroup.subtree_control", "+memory +pids")


def _write(path: Path, text: str) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(handle, text.encode())
    finally:
        os.close(handle)
