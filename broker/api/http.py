"""The HTTP surface: `create_app` puts the routes together."""

from __future__ import annotations

from litestar import Litestar, Router
from litestar.datastructures import State
from litestar.di import Provide

from muster.broker.api import documents, elements, events, health, logs, objects, orders, problems, triggers
from muster.broker.api.auth import OriginGuard, TokenGuard
from muster.broker.api.context import Api

PREFIX = "/api/v1"


def create_app(api: Api) -> Litestar:
    """The whole HTTP surface over the rest of the broker."""
    settings = api.settings
    return Litestar(
        route_handlers=[
            Router(
                path=PREFIX,
                route_handlers=[
                    orders.router(logs.get_output),
                    elements.router(),
                    objects.apply,
                    *objects.routers(),
                    *triggers.routers(),
                    events.get_events,
                    health.get_info,
                ],
            ),
            health.healthz,
            health.readyz,
            health.get_metrics,
        ],
        dependencies={"api": Provide(lambda: api, sync_to_thread=False)},
        exception_handlers=problems.HANDLERS,
        before_request=problems.refuse_unknown_parameters,
        guards=[TokenGuard(settings.token) if settings.token else OriginGuard(settings.host)],
        request_max_body_size=settings.max_body,
        openapi_config=documents.config(),
        state=State({"max_body": settings.max_body}),
        logging_config=None,
        debug=False,
    )
