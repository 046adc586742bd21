"""One service of `muster.api.<noun>.<verb>`, or of an agent's own subjects."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
from nats.aio.msg import Msg

from muster.broker.api.context import Api
from muster.mesh import names
from muster.mesh.caller import Caller

BY: Final = Caller(door="nats")
"""Who asks, until there are users: whoever has the token."""

Handle = Callable[[Api, Msg], Awaitable[Any]]


class Endpoint(msgspec.Struct, frozen=True):
    """One service."""

    noun: str
    verb: str
    summary: str
    handle: Handle
    """Gives what to wait for; a future is waited for without a task."""
    view: Callable[[Any], Any] | None = None
    """Makes the answer of what `handle` gives, if that is another thing."""

    @property
    def subject(self) -> str:
        """Where it is asked."""
        if self.noun == "agent":
            return names.agent("*", self.verb)
        return names.api(self.noun, self.verb) if self.verb else f"muster.api.{self.noun}"


def endpoint(noun: str, verb: str, handle: Handle, view: Callable[[Any], Any] | None = None) -> Endpoint:
    """The service that a function gives; its docstring is the summary."""
    return Endpoint(noun, verb, (handle.__doc__ or "").split("\n", 1)[0], handle, view)
