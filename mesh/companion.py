"""A part of the mesh that may live in another one's process: no room knows the other, whoever composes them does."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping

from nats.aio.client import Client

from muster.mesh.asgi import App
from muster.mesh.firing import Fire
from muster.mesh.service import Service


class Companion(Service):
    """What its host serves, tells and asks."""

    @property
    @abstractmethod
    def mounts(self) -> Mapping[str, App]:
        """What it answers on the host's HTTP port, by the start of the path (`/hooks/`)."""

    @abstractmethod
    def renew(self) -> None:
        """The connection to NATS is back."""

    @abstractmethod
    def exposition(self) -> bytes:
        """Its metrics, as Prometheus reads them."""


Beside = Callable[[Client, Fire], Companion]
"""Makes what lives in the broker's process without being part of it: the trigger service of `muster up`."""
