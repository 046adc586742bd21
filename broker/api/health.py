"""`/healthz`, `/readyz`, `/metrics` and `/api/v1/info`: how the broker is."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Response, get, head

from muster import __version__
from muster.broker.api import metrics
from muster.broker.api.context import PREFIX, Api, ApiDependency, Status
from muster.mesh.errors import UnavailableError
from muster.mesh.version import PROTOCOL

PUBLIC = {"public": True}
"""A route's `opt`: no token is asked for."""


class Info(Status, kw_only=True, frozen=True):
    """The broker, its version, and what it counts."""

    version: str
    protocol: int
    """Processes of one protocol fit together, of whichever version they are."""


@get("/healthz", media_type="text/plain", summary="Whether the process lives", tags=["broker"], opt=PUBLIC)
async def healthz() -> str:
    """The process lives; asked by whoever would start it anew."""
    return "ok\n"


@get(
    "/readyz",
    media_type="text/plain",
    summary="Whether it answers",
    tags=["broker"],
    opt={**PUBLIC, "problems": (503,)},
)
async def readyz(api: ApiDependency) -> str:
    """The broker has read the log and answers; asked by whoever sends it requests."""
    await _readiness(api)
    return "ready\n"


async def _readiness(api: Api) -> None:
    status = await api.status()
    if api.finals.closing.is_set() or not status.ready:
        raise UnavailableError(status.reason or "the broker goes down")


@head("/healthz", include_in_schema=False, opt=PUBLIC)
async def head_healthz() -> None:
    """As GET: some load balancers ask so."""


@head("/readyz", include_in_schema=False, opt=PUBLIC)
async def head_readyz(api: ApiDependency) -> None:
    """As GET."""
    await _readiness(api)


@get("/metrics", media_type=metrics.MEDIA_TYPE, summary="For Prometheus", tags=["broker"])
async def get_metrics(api: ApiDependency) -> Response[bytes]:
    """Counters of events, gauges of what is open and online."""
    return Response(api.meter.exposition(await api.status()), media_type=metrics.MEDIA_TYPE)


@get(f"{PREFIX}/info", summary="The broker, its version, and what it counts", tags=["broker"])
async def get_info(api: ApiDependency) -> dict[str, Any]:
    """The broker, its version, and what it counts."""
    return info(await api.status())


def info(status: Status) -> dict[str, Any]:
    """What `/api/v1/info` and `muster.api.info` say."""
    return {"version": __version__, "protocol": PROTOCOL, **msgspec.structs.asdict(status)}
