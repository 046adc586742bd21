"""What brokers and agents say to each other about elements and orders, beside the records."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec

from muster.mesh.model import Child, CleanUp, Job, Mode, Offered, OrderState, Start
from muster.mesh.structs import Digest, Name, PoolName, Wire


class Packet(Wire, omit_defaults=True):
    """A released order on its way to an agent."""

    order: Name
    attempt: int
    """The attempt that the claim starts."""
    start: Start
    """How the order reaches its agent; if direct, this message only carries the lease that the agent renews."""
    blueprint: Name
    digest: Digest
    inputs: dict[str, Any] = {}
    sources: dict[str, str] = {}
    element: Name | None = None
    pool: PoolName | None = None
    jobs: tuple[Job, ...] = ()
    """The jobs of earlier attempts."""
    children: dict[Name, Child] = {}
    labels: dict[str, str] = {}
    depth: int = 0
    ending: CleanUp | None = None
    """If set, only this clean-up runs, and then the order ends accordingly."""

    @property
    def rev(self) -> int:
        """Returns the sequence that a claim is compared with; 0, older than any offer, for a direct start."""
        return self.start.rev if isinstance(self.start, Offered) else 0

    @property
    def cancelled(self) -> bool:
        """Returns whether only `always` must run."""
        return self.ending is not None and self.ending.state is OrderState.CANCELLED

    @property
    def failing(self) -> str:
        """Returns why the order fails if only `on_failure` and `always` must run; empty otherwise."""
        return self.ending.reason if self.ending is not None and self.ending.state is OrderState.FAILED else ""


ASSIGNMENT_POLL: Final = 30.0
"""Seconds after which an agent reads its assignments again, in case it missed a change."""


class Assignment(Wire, omit_defaults=True):
    """The broker's instructions to an agent about one of its elements."""

    element: Name
    kind: str
    takes_work: bool
    """False while the element is drained or in workflow mode."""
    slots: int = 1
    pools: tuple[PoolName, ...] = ()
    params: dict[str, Any] = {}
    """The resolved params of the element and its profiles."""
    sources: dict[str, str] = {}
    """The source of each param: `element` or `profile:NAME`."""
    labels: dict[str, str] = {}
    mode: Mode = Mode.WORK_ORDER
    lease: float = 0.0
    """Seconds for which the agent can run an order without a renewal; 0: the time of its consumers."""


class JoinRequest(Wire, omit_defaults=True):
    """An agent joins for an element: the request of `muster.agent.<element>.join`."""

    element: str
    agent: Name
    """The id of the agent, new at each start."""
    place: str = ""
    """Host and state folder.  An agent that restarts in the same place takes over at once; only one can run there."""
    protocol: int = 1
    version: str = ""
    """The version and protocol of the agent, see `mesh/version.py`."""


class Welcome(Wire):
    """The answer to an agent that joined."""

    assignment: Assignment
    time: float
    """The broker's time in seconds since 1970, which the agent uses."""


class ResumeRequest(Wire, omit_defaults=True):
    """A request of an agent whose claim was refused: `muster.agent.<element>.resume`."""

    order: Name
    attempt: Annotated[int, msgspec.Meta(ge=0)]
    """The attempt of its message, or the attempt that it ran; only this one can be dropped."""
    element: Name
    agent: Name
    declined: bool = False
    """Whether nothing of the attempt ran."""


class ResumeReply(Wire):
    """What an agent must do with the message of an order that it cannot claim."""

    drop: bool
    """Always drop: an order that must still run has a fresh message."""


class Control(Wire, omit_defaults=True):
    """A message on `muster.control.<element>`."""

    cancel: Name
    """The order that must stop."""


class Presence(Wire, omit_defaults=True):
    """A heartbeat on `muster.presence.<element>`."""

    agent: Name
    leaving: bool = False
    at: float = 0.0
    """The agent's own clock in seconds; a direct start refers to it."""
    time: float = 0.0
    """The time of its host in seconds since 1970."""
    protocol: int = 1
    version: str = ""
    """The version and protocol of the agent, see `mesh/version.py`."""
    is_unconfined: bool = False
    """Whether its tasks run as root without isolation."""
