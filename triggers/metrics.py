"""`/metrics` of a trigger service: its triggers, its sources, and the outcomes of events."""

from __future__ import annotations

from collections import Counter as Counts
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from muster.mesh.errors import MusterError
from muster.mesh.firing import FireReply, FireRequest
from muster.triggers.fire import Fire

if TYPE_CHECKING:
    from muster.triggers.service import Triggers


RESULTS: Final = ("fired", "skipped", "rejected", "duplicate", "ignored", "stale", "failed")
"""The outcomes of an event."""


class Meter:
    """Counts events; the counters start at zero with the service."""

    def __init__(self, service: Triggers) -> None:
        self._service = service
        self.registry = registry = CollectorRegistry(auto_describe=True)
        self._fired = Counter("muster_trigger_events", "Events by outcome.", ["result"], registry=registry)
        self._known = Gauge("muster_triggers", "Triggers that can fire.", ["provider"], registry=registry)
        self._unusable = Gauge("muster_triggers_unusable", "Enabled triggers that cannot run here.", registry=registry)
        self._sources = Gauge("muster_trigger_sources", "Triggers that listen.", registry=registry)
        self._failing = Gauge("muster_trigger_sources_failing", "Of these, waiting to retry.", registry=registry)
        self._hooks = Gauge("muster_trigger_deliveries", "Deliveries by status.", ["status"], registry=registry)
        self._results = Counts(dict.fromkeys(RESULTS, 0))
        """Counts since the last exposition, because each increment of a Prometheus counter takes a lock."""

    def counting(self, fire: Fire) -> Fire:
        """Wraps `fire` to count outcomes."""

        async def counted(request: FireRequest) -> FireReply:
            try:
                reply = await fire(request)
            except MusterError:
                self._results["failed"] += 1
                raise
            self._results[_result(reply)] += 1
            return reply

        return counted

    def exposition(self) -> bytes:
        """Returns the metrics in the text format of Prometheus."""
        service = self._service
        for result, count in self._results.items():
            self._fired.labels(result=result).inc(count)
            self._results[result] = 0
        triggers = list(service.definitions.all())
        _set(self._known, Counts(trigger.provider for trigger in triggers if trigger.is_active), "provider")
        self._unusable.set(sum(trigger.enabled and not trigger.is_active for trigger in triggers))
        self._sources.set(len(service.sources))
        self._failing.set(len(service.sources.trouble))
        _set(self._hooks, Counts({str(status): count for status, count in service.hooks.answered.items()}), "status")
        return generate_latest(self.registry)


def _result(reply: FireReply) -> str:
    if reply.stale:
        return "stale"
    if reply.ignored:
        return "ignored"
    if reply.duplicate:
        return "duplicate"
    return str(reply.state or "fired")


def _set(gauge: Gauge, counts: Counts[str], label: str) -> None:
    gauge.clear()
    for value, count in counts.items():
        gauge.labels(**{label: value}).set(count)
