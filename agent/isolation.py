"""Walls between orders: the user that their programs run as, and the control group that ends and bounds them.

What the agent's settings ask for holds for every order.  A blueprint may ask for more, never for less.
"""

from __future__ import annotations

import os
import pwd
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from muster.agent.settings import AgentSettings
from muster.blueprints.definition import Blueprint, size
from muster.mesh.errors import RefusedError

OUTSIDE: Final = Path("/var/tmp")  # noqa: S108 - a folder of our own is made in it, with a name that cannot be guessed
"""Where working folders are that another user must reach: the agent's own are closed to all others."""


OF_A_LOGIN: Final = frozenset({"TMPDIR", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"})
"""Variables that lead to what only the agent's own user may enter."""


class User(msgspec.Struct, frozen=True, kw_only=True):
    """An account of this host."""

    name: str
    number: int
    group: int
    groups: tuple[int, ...]
    home: str
    shell: str

    @property
    def owner(self) -> tuple[int, int]:
        """Whose its files are."""
        return self.number, self.group

    def environment(self, agents: Mapping[str, str]) -> dict[str, str]:
        """What of the agent's is passed, with what a login sets in the place of what is the agent's own."""
        kept = {name: value for name, value in agents.items() if name not in OF_A_LOGIN}
        return {**kept, "HOME": self.home, "USER": self.name, "LOGNAME": self.name, "SHELL": self.shell}


class Isolation(msgspec.Struct, frozen=True, kw_only=True):
    """How an order's programs run."""

    user: User | None = None
    """None: the agent's."""
    cgroup: bool = False
    memory: int | None = None
    """Bytes."""
    processes: int | None = None

    @property
    def is_none(self) -> bool:
        """Whether there is no wall at all."""
        return self.user is None and not self.cgroup


def outside(agent: str) -> Path:
    """The folder of an agent's working folders that belong to other users."""
    return OUTSIDE / f"muster-{agent}"


def working_folder(agent: str, user: User) -> Path:
    """A new working folder of a user's own."""
    place = outside(agent)
    place.mkdir(exist_ok=True)
    status = place.lstat()
    if status.st_uid != os.geteuid() or not stat.S_ISDIR(status.st_mode):
        raise RefusedError(f"{place} belongs to another user; delete it, so that the agent makes its own")
    place.chmod(0o711)  # to be passed through, not to be listed
    folder = Path(tempfile.mkdtemp(dir=place))
    os.chown(folder, *user.owner)
    return folder


def of_settings(settings: AgentSettings) -> Isolation:
    """What an agent's settings ask for.

    Raises:
        RefusedError: this host has no such user, or the agent must not become it.
    """
    has_limit = settings.memory is not None or settings.processes is not None
    return Isolation(
        user=_user(settings.run_as),
        cgroup=settings.isolation == "cgroup" or has_limit,
        memory=settings.memory,
        processes=settings.processes,
    )


def of_order(floor: Isolation, blueprint: Blueprint) -> Isolation:
    """What an order of this blueprint gets.

    Raises:
        RefusedError: it asks for what cannot be had here.
    """
    if blueprint.run_as is None and blueprint.isolation is None and not blueprint.memory and not blueprint.processes:
        return floor
    user = _user(blueprint.run_as)
    if user is not None and floor.user is not None and user != floor.user:
        raise RefusedError(f"the blueprint's run_as is {user.name}, but this agent runs all as {floor.user.name}")
    memory = _least(floor.memory, size(blueprint.memory) if blueprint.memory else None)
    processes = _least(floor.processes, blueprint.processes)
    return Isolation(
        user=user or floor.user,
        cgroup=floor.cgroup or blueprint.isolation == "cgroup" or memory is not None or processes is not None,
        memory=memory,
        processes=processes,
    )


def _least(*limits: int | None) -> int | None:
    return min((limit for limit in limits if limit is not None), default=None)


def _user(name: str | None) -> User | None:
    if name is None:
        return None
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        raise RefusedError(f"run_as: this host has no user {name!r}; create it, or name another one") from None
    if found.pw_uid == 0:
        raise RefusedError("run_as: root is what it is to protect from; name another user")
    if os.geteuid() not in {0, found.pw_uid}:
        who = pwd.getpwuid(os.geteuid()).pw_name
        raise RefusedError(f"run_as: only root's agent may run programs as {name}, and this one is {who}'s")
    groups = tuple(sorted({*os.getgrouplist(name, found.pw_gid)}))
    return User(
        name=name,
        number=found.pw_uid,
        group=found.pw_gid,
        groups=groups if os.geteuid() == 0 else tuple(os.getgroups()),
        home=found.pw_dir,
        shell=found.pw_shell or "/bin/sh",
    )
