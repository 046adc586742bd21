"""`muster mode`, `muster drain`, `muster undrain`: what an element is for, and whether it takes work."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from cyclopts import Parameter

from muster.cli.candidates import of_elements
from muster.cli.options import COMMON, Common, seconds
from muster.cli.output import document, say
from muster.mesh.errors import WaitTimeoutError

if TYPE_CHECKING:
    from muster.cli.api import Api

BUSY: Final = ("running", "cancelling")
"""States in which an order has a slot."""

POLL_INTERVAL: Final = 0.5
"""Seconds after which the orders that still run are read again."""

MOST_READ: Final = 100
"""Orders that are read at a time."""

Element = Annotated[str, Parameter(help="Name of an element.", completer=of_elements)]


def mode(
    element: Element,
    mode: Annotated[Literal["work_order", "workflow"], Parameter(help="What it is for from now on.")],
    /,
    *,
    common: Common = COMMON,
) -> None:
    """Switch an element: workflow (it is being built up) or work_order (it is a service)."""
    _report(_post(common, element, "mode", {"mode": mode}), common, f"{element} is in {mode} mode")


def drain(
    element: Element,
    /,
    *,
    wait: Annotated[bool, Parameter(help="Wait until nothing runs on it any more.")] = False,
    timeout: Annotated[str | None, Parameter(help="Wait no longer than this (30s, 5m).")] = None,
    common: Common = COMMON,
) -> None:
    """Drain an element: it takes nothing new, and what runs continues."""
    limit = None if timeout is None else seconds(timeout)
    answer = _post(common, element, "drain")
    if wait or limit is not None:
        _until_idle(element, limit, common)
        _report(answer, common, f"{element} is drained, and nothing runs on it")
    else:
        _report(answer, common, f"{element} is drained: it takes nothing new")


def _until_idle(element: str, limit: float | None, common: Common) -> None:
    end = None if limit is None else time.monotonic() + limit
    with common.connect() as api:
        while busy := [order for state in BUSY for order in _in(api, state, element)]:
            if end is not None and time.monotonic() > end:
                left = ", ".join(order["id"] for order in busy)
                raise WaitTimeoutError(f"{element} is drained, but after {limit:g} s it still runs {left}")
            time.sleep(POLL_INTERVAL)


def _in(api: Api, state: str, element: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.items("/api/v1/orders", limit=MOST_READ, state=state, element=element)["items"]
    return found


def undrain(element: Element, /, *, common: Common = COMMON) -> None:
    """End draining: the element takes work again."""
    _report(_post(common, element, "undrain"), common, f"{element} takes work again")


def _post(common: Common, element: str, verb: str, body: Any = None) -> Any:
    from muster.cli.api import segment

    with common.connect() as api:
        return api.post(f"/api/v1/elements/{segment(element)}/{verb}", body)


def _report(answer: Any, common: Common, words: str) -> None:
    if common.output == "table":
        say(words)
    else:
        document(answer, common.output)
