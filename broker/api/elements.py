"""`/api/v1/elements`: elements of every kind, and what is done to one."""

from __future__ import annotations

from typing import Any

from litestar import Router, post

from muster.blueprints.objects import ELEMENT
from muster.broker.api import objects
from muster.broker.api.context import PREFIX, AnyRequest, ApiDependency, Name
from muster.broker.api.decode import decode
from muster.broker.api.orders import BY
from muster.mesh.model import Mode, Wire


class ModeRequest(Wire):
    """Which mode the element is to be in."""

    mode: Mode


@post(
    "/{name:str}/mode",
    status_code=200,
    summary="Switch an element's mode",
    opt={"body": "ModeRequest", "problems": (400, 404, 409, 422, 503)},
)
async def set_mode(name: Name, request: AnyRequest, api: ApiDependency) -> dict[str, Any]:
    """Switch between `workflow` (it is being built up) and `work_order` (it is a service)."""
    wanted = decode(ModeRequest, await request.body())
    return await api.commands.elements.set_mode(name, wanted.mode, by=BY)


@post("/{name:str}/drain", status_code=200, summary="Give an element nothing new", opt={"problems": (404, 409, 503)})
async def drain(name: Name, api: ApiDependency) -> dict[str, Any]:
    """Let the element take nothing new; what runs, runs on."""
    return await api.commands.elements.set_drained(name, drained=True, by=BY)


@post("/{name:str}/undrain", status_code=200, summary="Give it work again", opt={"problems": (404, 409, 503)})
async def undrain(name: Name, api: ApiDependency) -> dict[str, Any]:
    """Let the element take work again."""
    return await api.commands.elements.set_drained(name, drained=False, by=BY)


def router() -> Router:
    """All of it."""
    handlers = [*objects.readers(ELEMENT, f"{ELEMENT}s"), set_mode, drain, undrain]
    return Router(path=f"{PREFIX}/{ELEMENT}s", route_handlers=handlers, tags=["elements"])
