"""`muster server`, `muster broker`, `muster agent`, `muster triggers`: one role alone.

An agent's process imports neither an HTTP server or client nor a table: it must be small.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Coroutine
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Group, Parameter
from cyclopts.validators import Number

from muster.cli.logging import set_up
from muster.cli.options import LogLevel, seconds
from muster.cli.task_options import NO_OPTIONS, TaskOptions
from muster.mesh import tokens
from muster.mesh.addresses import is_loopback
from muster.mesh.environment import conceal
from muster.mesh.errors import RefusedError, UsageError
from muster.mesh.names import NAME_RULE, is_name
from muster.mesh.private import private_folder
from muster.mesh.settings import DEFAULT_API, DEFAULT_SERVER, Durability, data_home, setting

if TYPE_CHECKING:
    from muster.mesh.companion import Beside

ROLE = Group("How it runs", sort_key=50)

Data = Annotated[
    Path | None, Parameter(group=ROLE, help="Its folder. [env: MUSTER_DATA] [default: $XDG_DATA_HOME/muster]")
]
Level = Annotated[LogLevel, Parameter(group=ROLE, help="What to log on standard error.", show_default=True)]
Safety = Annotated[
    Durability,
    Parameter(group=ROLE, help="safe survives a power cut; fast may lose its last seconds.", show_default=True),
]
Open = Annotated[
    bool, Parameter(name="--open", group=ROLE, help="Ask for no token: whoever reaches the address may do everything.")
]
Insecure = Annotated[bool, Parameter(group=ROLE, help="With --open, also for other machines.")]
OpenServer = Annotated[
    bool, Parameter(name="--open", group=ROLE, help="Work also for a NATS server that asks for no token.")
]
Server = Annotated[
    str | None,
    Parameter(help=f"NATS URL, several with commas. [env: MUSTER_SERVER] [default: {DEFAULT_SERVER}]"),
]


def server(
    *,
    nats: Annotated[str, Parameter(help="HOST:PORT to listen on; port 0 takes a free one.")] = "127.0.0.1:4222",
    data: Data = None,
    durability: Safety = "safe",
    open_: Open = False,
    insecure: Insecure = False,
    log_level: Level = "info",
) -> None:
    """Run the NATS server alone: what broker and agents meet on."""
    import asyncio

    from muster.mesh.embedded_nats import EmbeddedNats, NatsSettings
    from muster.mesh.service import stop_signals, until_stopped

    begin(log_level, "nats")
    host, port = address(nats, "--nats")
    check_open(open_, insecure, host)
    whole = spacious(folder(data))
    token = tokens.own(tokens.NATS, whole, f"nats://{host}:{port}", is_open=open_)
    settings = NatsSettings(
        folder=folder(data, "nats"), host=host, port=port, durability=durability, token=token.text if token else None
    )

    async def serve() -> None:
        async with stop_signals() as stop, EmbeddedNats(settings) as running:
            with tokens.announced(tokens.NATS, token, whole, running.url):
                print(f"ready nats={running.url}", flush=True)  # noqa: T201 - the line that scripts wait for
                await until_stopped(stop, running)

    asyncio.run(serve())


def broker(
    *,
    server: Server = None,
    http: Annotated[str, Parameter(help="HOST:PORT of the HTTP API; port 0 takes a free one.")] = "127.0.0.1:8642",
    data: Data = None,
    durability: Safety = "safe",
    lease: Annotated[
        str | None,
        Parameter(group=ROLE, help="In a new mesh: after how long a silent agent loses its orders. [default: 30s]"),
    ] = None,
    replicas: Annotated[
        int | None,
        Parameter(
            group=ROLE,
            help="In a new mesh: copies of each stream; 3 on a NATS cluster. [default: 1]",
            validator=Number(gte=1, lte=5),
        ),
    ] = None,
    triggers: Annotated[bool, Parameter(group=ROLE, help="Run a trigger service in this process too.")] = False,
    open_: Open = False,
    insecure: Insecure = False,
    log_level: Level = "info",
) -> None:
    """Run a broker alone, against a NATS server: the control plane and the HTTP API.

    The lease and the copies of a mesh that exists are changed with `muster apply` (`kind: mesh`), not with flags.
    """
    span = None if lease is None else lease_of(lease)
    begin(log_level, "broker")
    from muster.mesh.service import rest_the_collector

    rest_the_collector()  # what is imported stays; looking for cycles in it took a twentieth of the start
    from muster.broker.api.context import ApiSettings
    from muster.broker.main import BrokerSettings, serve

    host, port = address(http, "--http")
    check_open(open_, insecure, host)
    whole = folder(data)
    token = tokens.own(tokens.API, whole, url(host, port), is_open=open_)
    where = server or setting("server", DEFAULT_SERVER)
    settings = BrokerSettings(
        server=where,
        data=folder(data, "broker"),
        api=ApiSettings(host=host, port=port, token=token.text if token else None),
        durability=durability,
        lease=span,
        replicas=replicas,
        nats_token=tokens.find(tokens.NATS, where, whole),
        open=open_,
        announce=partial(tokens.announced, tokens.API, token, whole),
    )
    _run(serve(settings, _trigger_service() if triggers else None))


def _trigger_service() -> Beside:
    from muster.triggers.service import Triggers

    return Triggers


def triggers(
    *,
    server: Server = None,
    http: Annotated[str, Parameter(help="HOST:PORT of the hooks; port 0 takes a free one.")] = "127.0.0.1:8643",
    open_: OpenServer = False,
    log_level: Level = "info",
) -> None:
    """Run a trigger service alone: the clock, the hooks, and what listens.  Several share the work of one."""
    begin(log_level, "triggers")
    from muster.triggers.main import TriggerSettings, serve

    host, port = address(http, "--http")
    where = server or setting("server", DEFAULT_SERVER)
    token = tokens.find(tokens.NATS, where, data_home().absolute())
    settings = TriggerSettings(server=where, host=host, port=port, token=token, open=open_)
    _run(serve(settings))


def agent(
    *,
    element: Annotated[
        tuple[str, ...],
        Parameter(
            consume_multiple=True,
            help="Elements that it acts for; made as machines if they do not exist.",
        ),
    ] = (),
    server: Server = None,
    data: Data = None,
    open_: OpenServer = False,
    tasks: TaskOptions = NO_OPTIONS,
    log_level: Level = "info",
) -> None:
    """Run an agent: it claims work orders for its elements and runs them on this host."""
    begin(log_level, "agent")
    from muster.agent.main import serve
    from muster.agent.settings import AgentSettings

    where = server or setting("server", DEFAULT_SERVER)
    settings = AgentSettings(
        elements=tuple(checked_element(name) for name in element) or (default_element(),),
        server=where,
        data=folder(data, "agent"),
        token=tokens.find(tokens.NATS, where, folder(data)),
        open=open_,
        **tasks.settings(),
    )
    _run(serve(settings))


def begin(level: LogLevel, part: str) -> None:
    """First of all in a role: log, and keep its secrets from everything else that runs as this user."""
    set_up(level, part)
    conceal()


def _run(role: Coroutine[Any, Any, None]) -> None:
    import asyncio

    from uvloop import new_event_loop

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(role)


def folder(data: Path | None, part: str = "") -> Path:
    """The data folder, or a part's place in it; absolute, for scripts get paths in it and start elsewhere.

    Raises:
        RefusedError: it cannot be made, or others may write in it.
    """
    return private_folder(data or data_home(), part)


def spacious(place: Path) -> Path:
    """A folder for a NATS server, if its disk has space for one.

    Raises:
        RefusedError: it has not.
    """
    from muster.mesh.disk import too_little

    if (trouble := too_little(place)) is not None:
        raise RefusedError(trouble)
    return place


def lease_of(text: str) -> timedelta:
    """A lease that somebody typed.

    Raises:
        UsageError: agents could not renew it in time, or nobody would be alive to see it end.
    """
    from muster.blueprints.objects.mesh import LONGEST_LEASE, SHORTEST_LEASE

    given = seconds(text)
    if not SHORTEST_LEASE.total_seconds() <= given <= LONGEST_LEASE.total_seconds():
        raise UsageError(f"--lease is from 1s to 1d, not {text}: an agent renews it every sixth of it")
    return timedelta(seconds=given)


def check_open(is_open: bool, is_insecure: bool, *hosts: str) -> None:
    """Say what `--open` means; whoever reaches a door of ours runs programs as the agents' users.

    Raises:
        UsageError: other machines reach it, and nobody said that this is meant.
    """
    if not is_open:
        return
    outside = [host for host in hosts if not is_loopback(host)]
    if outside and not is_insecure:
        raise UsageError(
            f"--open with the address {outside[0]}: everybody who reaches it could run programs as the agents' users. "
            "Leave --open out, so that tokens are asked for, or say --insecure too"
        )
    import structlog

    structlog.get_logger().warning(
        "access.open",
        addresses=list(hosts),
        hint="no token is asked for: whoever reaches these may run programs as the agents' users; leave --open out",
    )


def address(text: str, option: str) -> tuple[str, int]:
    """`HOST:PORT` in its two halves.

    Raises:
        UsageError: it is something else.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65_535:  # noqa: PLR2004 - TCP's last port
        raise UsageError(f"{option} takes HOST:PORT, as in 127.0.0.1:8642, not {text!r}")
    return host.strip("[]") or "127.0.0.1", int(port)


def url(host: str, port: int) -> str:
    """Where a client on this machine reaches what listens there."""
    reached = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"http://{reached}:{port}" if port else DEFAULT_API


def default_element() -> str:
    """This host's name, made to fit the rule for names."""
    name = re.sub(r"[^a-z0-9_-]+", "-", socket.gethostname().partition(".")[0].lower()).strip("-_")[:63]
    return name if is_name(name) else "this-machine"


def checked_element(name: str) -> str:
    """The name, if it may be one.

    Raises:
        UsageError: it cannot.
    """
    if not is_name(name):
        raise UsageError(f"{name!r} cannot be an element's name; a name has {NAME_RULE}")
    return name
