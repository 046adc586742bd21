"""`/metrics`: counters made from the table of events, and gauges from the broker's status."""

from __future__ import annotations

import asyncio
from collections import Counter as Counts
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from muster.broker.feed import Feed
from muster.mesh.events import KINDS, Event
from muster.mesh.model import FINAL_STATES, OrderState
from muster.mesh.service import Service

if TYPE_CHECKING:
    from muster.broker.status import Status

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Meter(Service):
    """Counts events as they happen; a counter starts at zero when its broker does."""

    def __init__(self, feed: Feed, others: Sequence[Callable[[], bytes]] = ()) -> None:
        """Count.

        Args:
            feed: what is counted.
            others: metrics of what else lives in this process.
        """
        super().__init__()
        self._feed = feed
        self._others = others
        self.registry = CollectorRegistry(auto_describe=True)
        self._events = {kind: _counter(kind, meaning, self.registry) for kind, meaning in KINDS.items()}
        self._orders = Gauge("muster_orders_open", "Open orders by state.", ["state"], registry=self.registry)
        self._elements = Gauge("muster_elements", "Elements.", registry=self.registry)
        self._online = Gauge("muster_elements_online", "Elements that an agent acts for.", registry=self.registry)
        self._lag = Gauge("muster_log_lag_records", "Records not applied yet.", registry=self.registry)
        self._sequence = Gauge("muster_log_sequence", "The last record applied.", registry=self.registry)
        self._ready = Gauge("muster_ready", "1 if this broker answers.", registry=self.registry)
        self._ignored = Counter(
            "muster_firing_ignored", "Events that did not concern their trigger (`when`).", registry=self.registry
        )
        self._duplicates = Counter("muster_firing_duplicate", "Events that had come before.", registry=self.registry)
        self._leader = Gauge("muster_leader", "1 if this broker does the side effects.", registry=self.registry)

    async def run(self) -> None:
        """Count until cancelled."""
        with self._feed.heard_by(self._count):
            self.ready.set()
            await asyncio.get_running_loop().create_future()

    def _count(self, events: Sequence[Event]) -> None:
        for kind, count in Counts(event.kind for event in events).items():
            if counter := self._events.get(kind):
                counter.inc(count)

    def exposition(self, status: Status) -> bytes:
        """All metrics as Prometheus reads them."""
        _set_states(self._orders, status.orders)
        self._elements.set(status.elements)
        self._online.set(status.online)
        self._lag.set(status.lag)
        self._sequence.set(status.sequence)
        self._ready.set(status.ready)
        _catch_up(self._ignored, status.ignored)
        _catch_up(self._duplicates, status.duplicates)
        self._leader.set(status.leader)
        return b"".join([generate_latest(self.registry), *(other() for other in self._others)])


def _catch_up(counter: Counter, total: int) -> None:
    """Let a counter say what somebody else has counted."""
    (counted,) = (
        sample.value for metric in counter.collect() for sample in metric.samples if sample.name.endswith("_total")
    )
    counter.inc(total - counted)


def _counter(kind: str, meaning: str, registry: CollectorRegistry) -> Counter:
    """`order.finished` as `muster_order_finished_total`."""
    return Counter(f"muster_{kind.replace('.', '_')}", f"Times that {meaning}.", registry=registry)


def _set_states(gauge: Gauge, orders: Mapping[str, int]) -> None:
    for state in OrderState:
        if state not in FINAL_STATES:
            gauge.labels(state=state.value).set(orders.get(state.value, 0))
