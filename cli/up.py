"""`muster up`: the whole mesh in one process tree."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from muster.cli.options import LogLevel
from muster.cli.roles import (
    ROLE,
    Data,
    Insecure,
    Open,
    Safety,
    address,
    begin,
    check_open,
    checked_element,
    default_element,
    folder,
    spacious,
    url,
)
from muster.cli.task_options import NO_OPTIONS, TaskOptions
from muster.mesh import tokens
from muster.mesh.errors import RefusedError


def up(
    *,
    data: Data = None,
    http: Annotated[str, Parameter(help="HOST:PORT of the HTTP API; port 0 takes a free one.")] = "127.0.0.1:8642",
    nats: Annotated[str, Parameter(help="HOST:PORT of the NATS server; port 0 takes a free one.")] = "127.0.0.1:4222",
    element: Annotated[str | None, Parameter(help="Element of the agent. [default: this host's name]")] = None,
    no_agent: Annotated[bool, Parameter(help="Run no work orders on this machine.")] = False,
    durability: Safety = "safe",
    open_: Open = False,
    insecure: Insecure = False,
    tasks: TaskOptions = NO_OPTIONS,
    log_level: Annotated[
        LogLevel, Parameter(group=ROLE, help="What to log on standard error.", show_default=True)
    ] = "info",
) -> int:
    """Run the whole mesh in one process tree: NATS, broker, HTTP API, and an agent for this machine.

    Prints one line `ready api=... nats=... element=... data=...` when orders can run.  SIGINT or SIGTERM
    end it cleanly: the agent first, the NATS server last; a second signal kills.
    """
    begin(log_level, "up")
    import asyncio

    from muster.cli.whole import Settings, run

    api_host, api_port = address(http, "--http")
    nats_host, nats_port = address(nats, "--nats")
    check_open(open_, insecure, api_host, nats_host)
    place = spacious(folder(data))
    settings = Settings(
        api=(api_host, api_port),
        nats=(nats_host, nats_port),
        element=None if no_agent else checked_element(element) if element else default_element(),
        durability=durability,
        log_level=log_level,
        token=tokens.own(tokens.API, place, url(api_host, api_port), is_open=open_),
        nats_token=tokens.own(tokens.NATS, place, f"nats://{nats_host}:{nats_port}", is_open=open_),
        open=open_,
        insecure=insecure,
        tasks=tasks,
        data=place,
    )
    file = lock(settings.data)
    try:
        return asyncio.run(run(settings))
    finally:
        os.close(file)


def lock(place: Path) -> int:
    """The folder's lock, held until the file descriptor is closed or this process is gone.

    Raises:
        RefusedError: another `muster up` has it, or the folder cannot be written.
    """
    import fcntl

    try:
        file = os.open(place / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise RefusedError(
            f"cannot write in {place}: {error.strerror}; choose another folder with --data or MUSTER_DATA"
        ) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(file, 64, 0).decode(errors="replace").strip() or "unknown"
        os.close(file)
        raise RefusedError(
            f"another `muster up` (process {holder}) already uses {place}; "
            f"stop it with `kill {holder}`, or choose another folder with --data"
        ) from None
    os.ftruncate(file, 0)
    os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
    return file
