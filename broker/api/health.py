"""`/healthz`, `/readyz`, `/metrics` and `/api/v1/info`: how the broker is."""

from __future__ import annotations

from litestar import Response, get, head

from muster.broker.api import metrics
from muster.broker.api.context import Api, ApiDependency
from muster.mesh.errors import UnavailableError

PUBLIC = {"public": True}
"""A route's `opt`: no token is asked for."""


@get("/healthz", media_type="text/plain", summary="Check that the process runs", tags=["broker"], opt=PUBLIC)
async def healthz() -> str:
    """The process lives; asked by whoever would start it anew."""
    return "ok\n"


@get(
    "/readyz",
    media_type="text/plain",
    summary="Check that the broker is ready",
    tags=["broker"],
    opt={**PUBLIC, "problems": (503,)},
)
async def readyz(api: ApiDependency) -> str:
    """The broker has read the log and answers; asked by whoever sends it requests."""
    await _readiness(api)
    return "ready\n"


async def _readiness(api: Api) -> None:
    status = await api.services.status()
    if api.services.finals.closing.is_set() or not status.ready:
        raise UnavailableError(status.reason or "the broker goes down")


@head("/healthz", include_in_schema=False, opt=PUBLIC)
async def head_healthz() -> None:
    """As GET: some load balancers ask so."""


@head("/readyz", include_in_schema=False, opt=PUBLIC)
async def head_readyz(api: ApiDependency) -> None:
    """As GET."""
    await _readiness(api)


@get("/metrics", media_type=metrics.MEDIA_TYPE, summary="Get metrics for Prometheus", tags=["broker"])
async def get_metrics(api: ApiDependency) -> Response[bytes]:
    """Counters of events, gauges of what is open and online."""
    return Response(api.meter.exposition(await api.services.status()), media_type=metrics.MEDIA_TYPE)
