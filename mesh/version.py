"""Which processes fit together: those that speak one protocol.

A version is of a package; several versions may speak one protocol.  It is raised whenever a process of before would
misread, or not read, what is sent from now on.  Agents say theirs when they join and with each heartbeat; brokers
say theirs in `muster.api.info`.
"""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec
import nats.errors
from nats.aio.client import Client

import muster
from muster.mesh import names
from muster.mesh.errors import VersionError
from muster.mesh.service import Service

PROTOCOL: Final = 3

SILENT: Final = 1
"""The protocol of processes that do not say theirs."""

INTERVAL: Final = 60.0
"""Seconds between two questions of a process that has nothing else to say to brokers."""

TIMEOUT: Final = 2.0
"""Seconds for a broker to answer."""


class Speaker(msgspec.Struct, frozen=True, kw_only=True):
    """What any message that says it says of who sent it; other fields may be of any protocol."""

    protocol: int = SILENT
    version: str = ""

    @property
    def fits(self) -> bool:
        """Whether we understand each other."""
        return self.protocol == PROTOCOL

    def __str__(self) -> str:
        return f"version {self.version or 'unknown'} (protocol {self.protocol})"


OURS: Final = Speaker(protocol=PROTOCOL, version=muster.__version__)
_speaker = msgspec.json.Decoder(Speaker)


def speaker(data: bytes) -> Speaker:
    """Who sent a message.

    Raises:
        msgspec.MsgspecError: it cannot be read at all.
    """
    return _speaker.decode(data)


def agent_misfit(theirs: Speaker) -> str:
    """What a broker says of an agent that does not fit."""
    older = "agent" if theirs.protocol < PROTOCOL else "broker"
    return f"the agent is of {theirs}, the broker of {OURS}: they do not fit; upgrade the {older}"


async def broker_misfit(client: Client, role: str) -> str:
    """Why the broker that answers does not fit us, which are a `role`; empty if it does, or none answers."""
    try:
        answer = await client.request(names.api_info(), b"", timeout=TIMEOUT)
        theirs = speaker(answer.data)
    except (nats.errors.Error, TimeoutError, msgspec.MsgspecError):
        return ""
    if theirs.fits:
        return ""
    older = "broker" if theirs.protocol < PROTOCOL else role
    return f"the {role} is of {OURS}, the broker of {theirs}: they do not fit; upgrade the {older}"


class FittingBroker(Service):
    """Ends with an error as soon as a broker answers that does not fit."""

    def __init__(self, client: Client, role: str) -> None:
        super().__init__()
        self._client = client
        self._role = role

    async def run(self) -> None:
        """Ask now and then until cancelled.

        Raises:
            VersionError: a broker does not fit.
        """
        while True:
            if why := await broker_misfit(self._client, self._role):
                raise VersionError(why)
            self.ready.set()
            await asyncio.sleep(INTERVAL)
