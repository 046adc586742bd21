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
from muster.mesh.service import Service
from muster.mesh.wire import post, subscribe, unsubscribe

log = structlog.get_logger()

RENEWALS: Final = 6
"""How often a lease is renewed while it would last."""

REVOKED_AFTER: Final = 2 / 3
"""The part of a lease after which unconfirmed work is given up."""

MOST_SECONDS_BETWEEN_CHECKS: Final = 0.5

IDLE_LEASE: Final = 3.0
"""Seconds of lease that the checks go by while nothing is held."""

_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now() -> float:
    """Seconds, counting those that the host slept: leases run on meanwhile."""
    return time.clock_gettime(_CLOCK)


class Delivery:
    """A message of the work stream that this agent holds, and until when.

    A direct start has its first record for a message: there is nothing to acknowledge.  Its lease runs from the
    heartbeat by which the broker knew us, until a message of the work stream takes its place; the agent asks for
    that message where a renewal would be due.
    """

    __slots__ = ("ask_for_message", "asked_at", "confirmed_at", "is_direct", "lease", "message", "on_lost")

    def __init__(self, message: Msg, lease: float, beat: float | None = None) -> None:
        self.message = message
        self.lease = lease
        self.is_direct = beat is not None
        self.confirmed_at = self.asked_at = now() if beat is None else beat
        self.on_lost: Callable[[], None] | None = None
        """Called when the lease is given up."""
        self.ask_for_message: Callable[[], None] | None = None
        """Publishes the message that carries the lease of a direct start."""

    @property
    def is_overdue(self) -> bool:
        """Whether it was confirmed too long ago to continue."""
        return now() - self.confirmed_at > self.lease * REVOKED_AFTER

    def acknowledge(self) -> None:
        """It is dealt with."""
        self._answer(b"+ACK")

    def give_back(self, delay: float = 0.0) -> None:
        """Has it delivered again after `delay` seconds, here or elsewhere."""
        self._answer(b'-NAK {"delay": %d}' % int(delay * 1e9) if delay else b"-NAK")

    def _answer(self, verb: bytes) -> None:
        if self.is_direct:
            return
        try:
            post(self.message._client, self.message.reply, verb)  # noqa: SLF001 - Msg.ack() checks more than it needs to
        except UnavailableError as error:  # it is delivered again when its lease has expired
            log.debug("work.unanswered", verb=verb.decode(), error=str(error))


class Lease(Service):
    """Renews every delivery that is held."""

    def __init__(self, client: Client) -> None:
        super().__init__()
        self._client = client
        self._inbox = client.new_inbox()
        self._held: set[Delivery] = set()
        self._without_message: Counter[str] = Counter()
        """Direct starts whose message has not come yet, by the subject of their record."""
        self._asked: dict[str, tuple[Delivery, float]] = {}
        self._count = 0
        self.on_check: Callable[[], None] = lambda: None
        """Called at each check: this process responds."""

    def hold(self, delivery: Delivery) -> None:
        """Renews it from now on."""
        self._held.add(delivery)
        if delivery.is_direct:
            self._without_message[delivery.message.subject] += 1

    def release(self, delivery: Delivery) -> None:
        """It needs no renewal any more."""
        if delivery in self._held:
            self._held.remove(delivery)
            if delivery.is_direct:
                self._without_message[delivery.message.subject] -= 1

    def change(self, lease: float) -> None:
        """Holds everything for so many seconds from now on: the lease of the mesh was changed."""
        for delivery in self._held:
            delivery.lease = lease

    def awaits_messages(self, element: str) -> bool:
        """Whether direct starts run on the element whose messages, which carry their leases, have not come yet."""
        return self._without_message[names.direct_start(element)] > 0

    async def run(self) -> None:
        """Renews until cancelled."""
        subscription = await subscribe(self._client, f"{self._inbox}.*", self._confirmed)
        self.ready.set()
        try:
            while True:
                shortest = min((delivery.lease for delivery in self._held), default=IDLE_LEASE)
                await asyncio.sleep(min(MOST_SECONDS_BETWEEN_CHECKS, shortest / RENEWALS / 4))
                self.check()
        finally:
            await unsubscribe(subscription)

    def check(self) -> None:
        """Renews what is due, gives up what is overdue."""
        at = now()
        for delivery in list(self._held):
            if delivery.is_overdue:
                self._give_up(delivery)
            elif at - delivery.asked_at > delivery.lease / RENEWALS:
                self._renew(delivery, at)
        self.on_check()
        for reply in [reply for reply, (held, asked_at) in self._asked.items() if at - asked_at > held.lease]:
            del self._asked[reply]

    def allowance(self) -> float | None:
        """Seconds from now until the first of what is held would be overdue; None: nothing is held."""
        at = now()
        return min((held.confirmed_at + held.lease * REVOKED_AFTER - at for held in self._held), default=None)

    def renew_all(self) -> None:
        """Renews everything now (after a reconnect)."""
        at = now()
        for delivery in self._held:
            self._renew(delivery, at)

    def _renew(self, delivery: Delivery, at: float) -> None:
        if delivery.is_direct:
            delivery.asked_at = at
            if delivery.ask_for_message is not None:
                delivery.ask_for_message()
            return
        self._count += 1
        reply = f"{self._inbox}.{self._count}"
        try:
            post(self._client, delivery.message.reply, b"+WPI", reply)
        except UnavailableError:  # tried again at the next check
            return
        delivery.asked_at = at
        self._asked[reply] = delivery, at

    def _confirmed(self, message: Msg) -> None:
        delivery, at = self._asked.pop(message.subject, (None, 0.0))
        if delivery is not None and not message.headers:  # headers: "no responders", JetStream is unavailable
            delivery.confirmed_at = max(delivery.confirmed_at, at)

    def _give_up(self, delivery: Delivery) -> None:
        self.release(delivery)
        log.warning("lease.lost", subject=delivery.message.subject, unconfirmed=round(now() - delivery.confirmed_at, 1))
        if delivery.on_lost is not None:
            delivery.on_lost()
