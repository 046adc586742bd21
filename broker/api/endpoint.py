"""One service of `muster.api.<noun>.<verb>`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
from nats.micro.request import Request

from muster.broker.api.context import Api

BY: Final = "nats"
"""Who made it, until there are users."""

Handle = Callable[[Api, Request], Awaitable[Any]]


class Endpoint(msgspec.Struct, frozen=True):
    """One service."""

    noun: str
    verb: str
    summary: str
    handle: Handle


def endpoint(noun: str, verb: str, handle: Handle) -> Endpoint:
    """The service that a function gives; its docstring is the summary."""
    return Endpoint(noun, verb, (handle.__doc__ or "").split("\n", 1)[0], handle)
