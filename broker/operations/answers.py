"""What operations answer with, besides the model itself."""

from __future__ import annotations

from typing import Any

import msgspec

from muster.mesh.firing import Firing
from muster.mesh.model import Job, Order
from muster.mesh.structs import FrozenMeta, Wire


class View(msgspec.Struct, metaclass=FrozenMeta, frozen=True, kw_only=True):
    """Base of answers.  Unlike what travels between processes they have all fields, set or not."""


class OrdersView(View):
    """The orders that one request made."""

    orders: list[Order]


class Preview(View):
    """The orders that a request would make."""

    orders: list[dict[str, Any]]
    dry_run: bool = True


class Listing(View):
    """One page of a list."""

    items: list[Any]
    next: str | None = None
    """Where the next page starts; null on the last one."""


class OrderListing(View):
    """One page of orders."""

    items: list[Order]
    next: str | None = None


class JobListing(View):
    """The jobs of an order."""

    items: list[Job]
    next: str | None = None


class FiringListing(View):
    """One page of firings."""

    items: list[Firing]
    next: str | None = None


class Gone(Wire):
    """The answer where there is nothing more to say."""

    done: bool = True
