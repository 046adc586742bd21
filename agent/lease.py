"""The right to work on a message: renewed in time, or given up before anybody else may have it.

JetStream redelivers a message that was not acknowledged for `ack_wait`: that is the lease.  One loop
renews all leases of an agent.  Each renewal is a request, so it counts only once the server has
confirmed it; two thirds of a lease without a confirmation, and the work is given up, while the
server still waits the last third.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from muster.mesh import names
from muster.mesh.errors import UnavailableError
from muster.mesh.model import Packet
from muster.mesh.service import Service
from muster.mesh.wire import post, subscribe, unsubscribe

log = structlog.get_logger()

RENEWALS: Final = 6
"""How often a lease is renewed while it would last."""

GIVE_UP: Final = 2 / 3
"""The part of a lease after which unconfirmed work is given up."""

_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now() -> float:
    """Seconds, counting those that the host slept: leases run on meanwhile."""
    return time.clock_gettime(_CLOCK)


class Delivery:
    """A message of the work stream in our hands, and until when.

    An order that begins with its first record has that for its message: nothing to acknowledge and nothing to
    renew, so its lease runs from the heartbeat by which the broker knew us, until a message of the work stream
    takes its place.
    """

    __slots__ = ("asked_at", "confirmed_at", "is_lost", "lease", "message", "on_lost", "packet")

    def __init__(self, message: Msg, lease: float, packet: Packet | None = None, beat: float | None = None) -> None:
        self.message = message
        self.lease = lease
        self.packet = packet
        """What the message says, if that is known already."""
        self.confirmed_at = self.asked_at = now() if beat is None else beat
        self.is_lost = False
        self.on_lost: Callable[[], None] | None = None
        """Called when the lease is given up."""

    @property
    def is_begun(self) -> bool:
        """Whether the order runs already, by its first record."""
        return self.packet is not None

    @property
    def is_overdue(self) -> bool:
        """Whether it was confirmed too long ago to go on."""
        return now() - self.confirmed_at > self.lease * GIVE_UP

    def lose(self) -> None:
        """The lease is over."""
        self.is_lost = True
        if self.on_lost is not None:
            self.on_lost()

    def acknowledge(self) -> None:
        """It is dealt with."""
        self._tell(b"+ACK")

    def give_back(self, delay: float = 0.0) -> None:
        """Somebody, perhaps we, shall have it again after `delay` seconds."""
        self._tell(b'-NAK {"delay": %d}' % int(delay * 1e9) if delay else b"-NAK")

    def _tell(self, verb: bytes) -> None:
        if self.is_begun:
            return
        try:
            post(self.message._client, self.message.reply, verb)  # noqa: SLF001 - Msg.ack() checks more than it needs to
        except UnavailableError as error:  # it comes again when its lease is over
            log.debug("work.untold", verb=verb.decode(), error=str(error))


class Lease(Service):
    """Renews every delivery that is held."""

    def __init__(self, client: Client) -> None:
        super().__init__()
        self._client = client
        self._inbox = client.new_inbox()
        self._held: set[Delivery] = set()
        self._unlent: Counter[str] = Counter()
        self._asked: dict[str, tuple[Delivery, float]] = {}
        self._count = 0
        self.on_look: Callable[[], None] = lambda: None
        """Called at each look: we move."""

    def hold(self, delivery: Delivery) -> None:
        """Renew it from now on."""
        self._held.add(delivery)
        if delivery.is_begun:
            self._unlent[delivery.message.subject] += 1

    def release(self, delivery: Delivery) -> None:
        """It needs no renewal any more."""
        if delivery in self._held:
            self._held.remove(delivery)
            if delivery.is_begun:
                self._unlent[delivery.message.subject] -= 1

    def change(self, lease: float) -> None:
        """Hold everything for so many seconds from now on: the lease of the mesh was changed."""
        for delivery in self._held:
            delivery.lease = lease

    def awaits_messages(self, element: str) -> bool:
        """Whether orders have begun on the element whose messages, which carry a lease, have not come yet."""
        return self._unlent[names.begin(element)] > 0

    async def run(self) -> None:
        """Renew until cancelled."""
        subscription = await subscribe(self._client, f"{self._inbox}.*", self._confirmed)
        self.ready.set()
        try:
            while True:
                shortest = min((delivery.lease for delivery in self._held), default=3.0)
                await asyncio.sleep(min(0.5, shortest / RENEWALS / 4))
                self.look()
        finally:
            await unsubscribe(subscription)

    def look(self) -> None:
        """Renew what is due, give up what is overdue."""
        at = now()
        for delivery in list(self._held):
            if delivery.is_overdue:
                self._give_up(delivery)
            elif at - delivery.asked_at > delivery.lease / RENEWALS:
                self._renew(delivery, at)
        self.on_look()
        for reply in [reply for reply, (held, asked_at) in self._asked.items() if at - asked_at > held.lease]:
            del self._asked[reply]

    def allowance(self) -> float | None:
        """Seconds from now until the first of what is held would be overdue; None: nothing is held."""
        at = now()
        return min((held.confirmed_at + held.lease * GIVE_UP - at for held in self._held), default=None)

    def renew_all(self) -> None:
        """Renew everything now (after a reconnect)."""
        at = now()
        for delivery in self._held:
            self._renew(delivery, at)

    def _renew(self, delivery: Delivery, at: float) -> None:
        if delivery.is_begun:
            return
        self._count += 1
        reply = f"{self._inbox}.{self._count}"
        try:
            post(self._client, delivery.message.reply, b"+WPI", reply)
        except UnavailableError:  # tried again at the next look
            return
        delivery.asked_at = at
        self._asked[reply] = delivery, at

    def _confirmed(self, message: Msg) -> None:
        delivery, at = self._asked.pop(message.subject, (None, 0.0))
        if delivery is not None and not message.headers:  # headers: "no responders", JetStream is away
            delivery.confirmed_at = max(delivery.confirmed_at, at)

    def _give_up(self, delivery: Delivery) -> None:
        self.release(delivery)
        log.warning("lease.lost", subject=delivery.message.subject, unconfirmed=round(now() - delivery.confirmed_at, 1))
        delivery.lose()
