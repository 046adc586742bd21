"""A part of the mesh that may run in the process of another part, without either importing the other."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping

from nats.aio.client import Client

from muster.mesh.asgi import App
from muster.mesh.firing import Fire
from muster.mesh.service import Service


class Companion(Service):
    """What its host serves and notifies."""

    @property
    @abstractmethod
    def mounts(self) -> Mapping[str, App]:
        """The applications that it serves on the host's HTTP port, by the start of the path (`/hooks/`)."""

    @abstractmethod
    def renew(self) -> None:
        """Is called when the connection to NATS is back."""

    @abstractmethod
    def exposition(self) -> bytes:
        """Returns its metrics in the format of Prometheus."""


Beside = Callable[[Client, Fire], Companion]
"""Creates the part that runs in the broker's process: the trigger service of `muster up`."""
