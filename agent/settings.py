"""What an operator may choose about an agent."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Literal

import msgspec

from muster.mesh.settings import DEFAULT_SERVER
from muster.mesh.tokens import Token

MIB = 1024 * 1024


class AgentSettings(msgspec.Struct, frozen=True, kw_only=True):
    """All of it; only `elements` and `data` have no default."""

    elements: tuple[str, ...]
    """The elements it acts for; an element that does not exist is made, as a machine."""
    data: Path
    """Its state folder: working folders of running orders, and what it must end after a crash."""
    server: str = DEFAULT_SERVER
    """One URL, or several, comma-separated."""
    token: Token | None = None
    open: bool = False
    """Work for a NATS server that asks for no token."""
    grace: timedelta = timedelta(seconds=10)
    """How long running orders may continue once the agent is stopped; then they are killed and run again."""
    kill_grace: timedelta = timedelta(seconds=10)
    """Between SIGTERM and SIGKILL to a task that is cancelled or has run out of time."""
    pass_env: tuple[str, ...] = ()
    """Names of variables (`*` for any end or start) that tasks get of its environment, besides plain ones."""
    http_allow: tuple[str, ...] = ()
    """Networks, addresses and host names to which HTTP tasks may connect although a less specific rule denies it."""
    http_deny: tuple[str, ...] = ()
    """Those to which they must not, besides link-local addresses and cloud metadata."""
    run_as: str | None = None
    """The user that programs of tasks run as; None: the agent's own."""
    isolation: Literal["none", "cgroup"] = "none"
    memory: int | None = None
    """Bytes that an order may use at most."""
    processes: int | None = None
    """How many an order may have at a time."""
    cleanup: timedelta = timedelta(minutes=1)
    """How long `on_failure` and `always` of a cancelled or timed-out order may take."""
    output_limit: int = 256 * MIB
    """Bytes of output kept of one job."""
    heartbeat: timedelta = timedelta(seconds=4)
    """Between two signs of life, at most; an eighth of a lease where that is less."""
    connect_timeout: timedelta = timedelta(seconds=30)
    """How long to wait for the first answer of NATS before giving up."""
