"""What can be asked of an element, of every kind: switch its mode, drain it."""

from __future__ import annotations

from typing import Any, Final

from muster.broker.operations.fields import ObjectName
from muster.broker.operations.operation import Call, Operation, Route, one
from muster.mesh.model import Mode
from muster.mesh.structs import Wire


class ElementRef(Wire):
    """Which element."""

    element: ObjectName


class ModeRequest(ElementRef):
    """Which mode an element is to be in."""

    mode: Mode


async def set_mode(call: Call, request: ModeRequest) -> dict[str, Any]:
    """Switch an element's mode."""
    return await call.services.elements.set_mode(request.element, request.mode, by=call.caller)


async def drain(call: Call, request: ElementRef) -> dict[str, Any]:
    """Give an element nothing new."""
    return await call.services.elements.set_drained(request.element, drained=True, by=call.caller)


async def undrain(call: Call, request: ElementRef) -> dict[str, Any]:
    """Give an element work again."""
    return await call.services.elements.set_drained(request.element, drained=False, by=call.caller)


def _route(verb: str, ident: str, description: str, **more: Any) -> Any:
    problems = (400, 404, 409, 422, 503) if "body" in more else (404, 409, 503)
    return one(
        Route(
            method="POST",
            path=f"/elements/{{name}}/{verb}",
            renamed={"name": "element"},
            id=ident,
            tag="elements",
            description=description,
            problems=problems,
            **more,
        )
    )


OPERATIONS: Final = (
    Operation(
        name="elements.mode",
        summary="Set the mode of an element",
        verb="mode",
        kind="element",
        request=ModeRequest,
        answer=dict[str, Any],
        handler=set_mode,
        routes=_route(
            "mode",
            "set_mode",
            "Switch between `workflow` (it is being built up) and `work_order` (it is a service).",
            body="ModeRequest",
            example={"mode": "workflow"},
        ),
    ),
    Operation(
        name="elements.drain",
        summary="Drain an element: it accepts no new orders",
        verb="drain",
        kind="element",
        request=ElementRef,
        answer=dict[str, Any],
        handler=drain,
        routes=_route("drain", "drain", "What runs there continues."),
    ),
    Operation(
        name="elements.undrain",
        summary="Let an element accept orders again",
        verb="drain",
        kind="element",
        request=ElementRef,
        answer=dict[str, Any],
        handler=undrain,
        routes=_route("undrain", "undrain", "It takes work orders again."),
    ),
)
