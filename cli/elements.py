"""`muster mode`, `muster drain`, `muster undrain`: what an element is for, and whether it takes work."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from cyclopts import Parameter

from muster.cli.options import COMMON, Common
from muster.cli.output import document, say

Element = Annotated[str, Parameter(help="Name of a machine, cluster or resource_broker.")]


def mode(
    element: Element,
    mode: Annotated[Literal["work_order", "workflow"], Parameter(help="What it is for from now on.")],
    /,
    *,
    common: Common = COMMON,
) -> None:
    """Switch an element: workflow (it is being built up) or work_order (it is a service)."""
    _tell(_post(common, element, "mode", {"mode": mode}), common, f"{element} is in {mode} mode")


def drain(element: Element, /, *, common: Common = COMMON) -> None:
    """Let an element take nothing new; what runs, runs on."""
    _tell(_post(common, element, "drain"), common, f"{element} is drained: it takes nothing new")


def undrain(element: Element, /, *, common: Common = COMMON) -> None:
    """Let an element take work again."""
    _tell(_post(common, element, "undrain"), common, f"{element} takes work again")


def _post(common: Common, element: str, verb: str, body: Any = None) -> Any:
    from muster.cli.api import segment

    with common.connect() as api:
        return api.post(f"/api/v1/elements/{segment(element)}/{verb}", body)


def _tell(answer: Any, common: Common, words: str) -> None:
    if common.output == "table":
        say(words)
    else:
        document(answer, common.output)
