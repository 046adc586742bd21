"""The daemon: everything is started here, and stopped again in an order that loses nothing."""

from __future__ import annotations

import asyncio
import itertools
import os
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import structlog
from nats.aio.client import Client

from muster.agent.cgroups import Cgroups, sweep
from muster.agent.clock import Clock
from muster.agent.hosting import Host
from muster.agent.isolation import of_settings, outside
from muster.agent.lease import Lease
from muster.agent.leftovers import end_leftovers, open_ledger
from muster.agent.orders import Orders
from muster.agent.output import Outputs
from muster.agent.place import placed
from muster.agent.plan import Shelf
from muster.agent.report import Reporter
from muster.agent.resume import GivenUp
from muster.agent.settings import AgentSettings
from muster.agent.spawning import Spawner
from muster.agent.workshop import Workshop
from muster.blueprints.reach import Reach
from muster.mesh import names
from muster.mesh.connection import check_asks, connect
from muster.mesh.environment import passed
from muster.mesh.jetstream import Publisher
from muster.mesh.private import private_folder
from muster.mesh.service import Stop, entered, rest_the_collector, stop_signals, until_stopped

log = structlog.get_logger()

KILL_TIMEOUT = 5.0
"""Seconds for killed orders to leave, beyond the tasks' own grace."""


async def serve(settings: AgentSettings) -> None:
    """Acts for the elements until SIGTERM or SIGINT.

    It then takes no new work, and running orders may continue for `grace`.  After that their tasks are
    killed and their messages given back, so that the next attempt continues at the first unfinished task.

    Raises:
        UnreachableError: no NATS server answers.
        MusterError: the broker refuses an element.
    """
    async with stop_signals() as stop:
        await run_agent(settings, stop, asyncio.Event())


async def run_agent(settings: AgentSettings, stop: Stop, ready: asyncio.Event) -> None:
    """Acts for the elements until `stop` is set; `ready` is set once all of them are joined.

    Raises:
        UnreachableError: no NATS server answers.
        MusterError: the broker refuses an element.
    """
    reconnected = Reconnected()
    async with AsyncExitStack() as stack:
        stack.enter_context(stop.watching())
        connection = connect(
            settings.server,
            name=f"muster agent {', '.join(settings.elements)}"[:100],
            token=settings.token,
            on_reconnect=reconnected,
            on_closed=stop.fail,
            within=settings.connect_timeout.total_seconds(),
        )
        client = await entered(stack, connection, stop)
        if client is None:
            return
        if not settings.open:
            check_asks(client, settings.server)
        shop = await _open(settings, client, stack)
        given_up = await stack.enter_async_context(GivenUp(client, shop.agent))
        orders = await stack.enter_async_context(Orders(shop, given_up))
        await stack.enter_async_context(Reporter(orders.holds))
        hosts = [Host(shop, orders, element) for element in settings.elements]
        reconnected.notifies(shop, hosts)
        try:
            if await _started(hosts, stack, stop):
                ready.set()
                rest_the_collector()
                log.info("agent.ready", agent=shop.agent, elements=list(settings.elements))
                await until_stopped(stop)
        finally:
            await _shut_down(hosts, orders, settings)


class Reconnected:
    """What happens when NATS is back."""

    def __init__(self) -> None:
        self._shop: Workshop | None = None
        self._hosts: list[Host] = []

    def notifies(self, shop: Workshop, hosts: list[Host]) -> None:
        """Notifies these from now on."""
        self._shop, self._hosts = shop, hosts

    def __call__(self) -> None:
        if self._shop is not None:
            self._shop.publisher.renew()
            self._shop.lease.renew_all()
        for host in self._hosts:
            host.reconnected()


async def _open(settings: AgentSettings, client: Client, stack: AsyncExitStack) -> Workshop:
    agent = names.new_id()
    place = await stack.enter_async_context(placed(settings.data, settings.elements))
    spawner = await stack.enter_async_context(_spawner(settings.data / "sessions", agent, place.locks, stack))
    folder = private_folder(settings.data, "work") / agent
    folder.mkdir(mode=0o700)
    stack.callback(_remove, folder)
    stack.callback(_remove, outside(agent))
    await asyncio.to_thread(_sweep, settings.data)
    publisher = await stack.enter_async_context(Publisher(client))
    isolation, cgroups = of_settings(settings), Cgroups(agent)
    stack.callback(cgroups.close)
    cgroups.prepare(isolation)
    is_unconfined = isolation.is_none and os.geteuid() == 0
    if is_unconfined:
        log.warning("agent.unconfined", hint="tasks run as root; --run-as USER gives them a user of their own")
    counter = itertools.count()
    lease = await stack.enter_async_context(Lease(client))
    spawner.allowance, lease.on_check = lease.allowance, spawner.beat
    return Workshop(
        agent=agent,
        place=place.name,
        settings=settings,
        clock=Clock(),
        client=client,
        publisher=publisher,
        lease=lease,
        shelf=Shelf(client),
        outputs=Outputs(publisher, settings.output_limit),
        spawner=spawner,
        folder=folder,
        isolation=isolation,
        is_unconfined=is_unconfined,
        cgroups=cgroups,
        closing=asyncio.Event(),
        environment=passed(os.environ, settings.pass_env),
        reach=Reach.of(settings.http_allow, settings.http_deny),
        next_id=lambda: f"{agent}.{next(counter)}",
    )


def _spawner(folder: Path, agent: str, locks: tuple[int, ...], stack: AsyncExitStack) -> Spawner:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    end_leftovers(folder)
    path = folder / agent
    ledger = open_ledger(path)
    stack.callback(os.close, ledger)
    stack.callback(path.unlink, missing_ok=True)
    return Spawner(agent, ledger, locks)


def _sweep(data: Path) -> None:
    """Removes the working folders of agents that are gone; those that live have a ledger."""
    for folder in (data / "work").iterdir():
        if not (data / "sessions" / folder.name).exists():
            sweep(folder.name)
            _remove(outside(folder.name))
            _remove(folder)


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


async def _started(hosts: list[Host], stack: AsyncExitStack, stop: asyncio.Event) -> bool:
    """Joins for all elements, unless the signal to stop comes before a broker answers."""
    joining = asyncio.gather(*(stack.enter_async_context(host) for host in hosts))
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((joining, stopping), return_when=asyncio.FIRST_COMPLETED)
        if joining.done():
            joining.result()
            return True
        joining.cancel()
        with suppress(asyncio.CancelledError):
            await joining
        return False
    finally:
        stopping.cancel()


async def _shut_down(hosts: list[Host], orders: Orders, settings: AgentSettings) -> None:
    for host in hosts:
        host.close()
    if await _none_left(orders, settings.grace.total_seconds()):
        return
    log.warning("agent.stops_orders", orders=list(orders.holds))
    orders.stop()
    await _none_left(orders, settings.kill_grace.total_seconds() + KILL_TIMEOUT)
    await orders.end()  # before the last heartbeat, which says that nothing of ours runs any more


async def _none_left(orders: Orders, within: float) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(within):
            await orders.none_left.wait()
            return True
    return False
