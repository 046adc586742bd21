"""The whole mesh, started in the order in which its parts need each other, and stopped in reverse."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec
import structlog

from muster.cli import objects, shipped
from muster.cli.api import Api
from muster.cli.roles import url
from muster.cli.supervisor import Child, Kept, Nats
from muster.cli.task_options import NO_OPTIONS, TaskOptions
from muster.mesh import tokens
from muster.mesh.embedded_nats import NatsSettings, half_of_the_host
from muster.mesh.errors import MusterError
from muster.mesh.service import entered, until_stopped
from muster.mesh.settings import Durability
from muster.mesh.tokens import Token

log = structlog.get_logger()

BROKER_GRACE: Final = 10.0
POLL_INTERVAL: Final = 0.1
KILLED: Final = 130


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What `muster up` was asked for."""

    data: Path
    api: tuple[str, int]
    nats: tuple[str, int]
    element: str | None
    """None: no agent."""
    durability: Durability = "safe"
    log_level: str = "info"
    token: Token | None = None
    nats_token: Token | None = None
    open: bool = False
    """Ask for no token."""
    insecure: bool = False
    """Not even on an address that other machines reach."""
    tasks: TaskOptions = NO_OPTIONS
    """How the agent runs them."""


class Whole:
    """The parts, and what they pass to each other at the start."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        host, port = settings.nats
        self.nats = Nats(
            NatsSettings(
                folder=settings.data / "nats",
                host=host,
                port=port,
                durability=settings.durability,
                token=settings.nats_token.text if settings.nats_token else None,
                processors=half_of_the_host(),
            )
        )
        nats_token = tokens.environment(tokens.NATS, settings.nats_token)
        token = tokens.environment(tokens.API, settings.token)
        self.broker = Child(
            "broker", self._broker_options, self._broker_is_ready, env=nats_token | token, grace=BROKER_GRACE
        )
        self.agent = Child(
            "agent",
            self._agent_options,
            self._agent_is_ready,
            env=nats_token,
            grace=settings.tasks.shutdown.total_seconds(),
        )
        self._api_port = settings.api[1]

    @property
    def api_url(self) -> str:
        """Where this machine reaches the HTTP API."""
        return url(self.settings.api[0], self._api_port)

    @property
    def parts(self) -> list[Kept]:
        """In the order in which they start."""
        return [self.nats, self.broker] + ([self.agent] if self.settings.element is not None else [])

    @property
    def ready_line(self) -> str:
        """What scripts wait for."""
        settings = self.settings
        element, nats = settings.element or "-", self.nats.server.url
        return f"ready api={self.api_url} nats={nats} element={element} data={settings.data}"

    def _common(self) -> list[str]:
        settings = self.settings
        common = ["--server", self.nats.server.url, "--data", str(settings.data), "--log-level", settings.log_level]
        return [*common, "--open"] if settings.open else common

    def _broker_options(self) -> list[str]:
        host = self.settings.api[0]
        address = f"[{host}]:{self._api_port}" if ":" in host else f"{host}:{self._api_port}"
        insecure = ["--insecure"] if self.settings.insecure else []
        return [*self._common(), *insecure, "--http", address, "--durability", self.settings.durability, "--triggers"]

    def _agent_options(self) -> list[str]:
        return [*self._common(), "--element", self.settings.element or "", *self.settings.tasks.arguments()]

    async def _broker_is_ready(self, line: str) -> bool:
        if not line.startswith("ready broker "):
            return False
        facts = dict(word.partition("=")[::2] for word in line.split())
        self._api_port = int(facts["api"].rpartition(":")[2])  # a restart takes the same one
        return True

    async def _agent_is_ready(self, _: str) -> bool:
        while not await asyncio.to_thread(self._is_online):  # noqa: ASYNC110 - another process's state
            await asyncio.sleep(POLL_INTERVAL)
        return True

    def _is_online(self) -> bool:
        with self.client() as api:
            try:
                return bool(objects.one(api, "element", self.settings.element or "")["online"])
            except MusterError:
                return False

    def client(self) -> Api:
        """A client of the API."""
        return Api(self.api_url, token=self.settings.token)


async def run(settings: Settings) -> int:
    """Run the mesh until a signal; the exit code.

    Raises:
        MusterError: a part could not start.
    """
    whole = Whole(settings)
    async with _signals(whole) as signals:
        async with AsyncExitStack() as stack:
            for part in whole.parts:
                if await entered(stack, part, signals.stop) is None:
                    break
                log.info("part.ready", name=part.name)
                if part is whole.nats:
                    url = whole.nats.server.url
                    stack.enter_context(tokens.announced(tokens.NATS, settings.nats_token, settings.data, url))
                if part is whole.broker:
                    await asyncio.to_thread(shipped.apply, whole.client(), settings.data)
            else:
                sys.stdout.write(whole.ready_line + "\n")
                sys.stdout.flush()
                _hint(settings)
                await until_stopped(signals.stop, *whole.parts)
            log.info("up.stops")
        log.info("up.stopped")
        return KILLED if signals.count > 1 else 0


class _Signals:
    """The first one asks to end, the second one kills."""

    def __init__(self, whole: Whole) -> None:
        self.stop = asyncio.Event()
        self.count = 0
        self._whole = whole

    def heard(self) -> None:
        self.count += 1
        self.stop.set()
        if self.count > 1:
            log.warning("up.kills")
            for part in self._whole.parts:
                part.kill()


@asynccontextmanager
async def _signals(whole: Whole) -> AsyncIterator[_Signals]:
    loop = asyncio.get_running_loop()
    heard = _Signals(whole)
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, heard.heard)
    try:
        yield heard
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


def _hint(settings: Settings) -> None:
    """What a person at a terminal may want to do next."""
    if settings.element is not None and sys.stderr.isatty():
        sys.stderr.write(f"try, in another terminal: muster run host-report --on {settings.element} --follow\n")
