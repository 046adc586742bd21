"""The state machine: the whole state of a mesh, and `apply`, the one way to change it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, Final

from msgspec.structs import replace

from muster.broker.state import firing, loss, triggers
from muster.broker.state import order as transitions
from muster.broker.state.changes import Changes, Untold
from muster.broker.state.element import Element, StoredObject
from muster.broker.state.fleet import Fleet, is_element_kind
from muster.broker.state.kept import Kept
from muster.broker.state.lines import Triggers
from muster.broker.state.order import Refused, Stamp
from muster.broker.state.release import settled
from muster.broker.state.shelves import Shelves, element_shelf, pool_shelf
from muster.broker.state.standing import Standing
from muster.broker.state.transitions import BEGINNINGS, TRANSITIONS
from muster.mesh import records
from muster.mesh.caller import Caller, CallerKind
from muster.mesh.errors import InvalidError
from muster.mesh.model import Mode, Order, OrderState
from muster.mesh.names import is_name


class State:
    """Only what is alive: elements, objects, open orders.  History is the projection's."""

    def __init__(self) -> None:
        self.seq = 0
        """The last log sequence applied."""
        self.time: datetime | None = None
        """When the record there was stored."""
        self.told_after = 0
        """Records up to this sequence make no events: a replay need not make what nobody can read any more."""
        self.fleet = Fleet()
        self.orders: dict[str, Order] = {}
        self.shelves = Shelves()
        self.triggers = Triggers()
        self.timers: dict[str, datetime] = {}
        """Open orders that wait for a time."""
        self.endings: dict[str, datetime] = {}
        """Orders of which only the clean-up is still to be run, by nobody so far, and since when."""
        self.refused = 0
        """Records that changed nothing because they may not stand where they stand."""

    def load(self, kept: Kept) -> None:
        """Take up what a projection kept, as it was at its sequence; only on a new state."""
        self.seq, self.time = kept.seq, kept.time
        for element in kept.of("element", Element):
            self.fleet.elements[element.name] = element
        for standing in kept.of("standing", Standing):
            self.triggers.load(standing)
        for stored in sorted(kept.of("object", StoredObject), key=lambda it: it.kind in {"pool", "trigger"}):
            if stored.is_deleted:
                self.fleet.retire(stored)
                continue
            self.fleet.put(stored)
            if stored.kind == "trigger":
                triggers.heed(self, stored.name)
        for order in kept.orders:
            if order.where is not None and order.pool is not None:
                self.fleet.use_queue(order.pool, order.where)
            self._keep(None, order)
        self.fleet.queue_news.clear()
        self.triggers.touched.clear()

    def apply(self, seq: int, time: datetime, subject: str, data: bytes) -> Changes:
        """What one message of the log does."""
        self.seq, self.time = seq, time
        record, place = records.decode(subject, data)
        stamp = Stamp(seq, time, place.actor if place else "")
        changes = Changes(stamp) if seq > self.told_after else Untold(stamp)
        if isinstance(record, str):
            self._refuse(changes, subject, record)
            if place is not None and place.kind == "order":
                self.touch(changes, place.ident)
            return changes
        if isinstance(record, records.OrderRecord):
            self._apply_to_order(record, changes)
        else:
            OTHERS[type(record)](self, record, changes)
        if self.triggers.touched:
            triggers.let_in(self, changes)
        if self.fleet.queue_news:
            self._tell_of_queues(changes)
        return changes

    # -- orders ---------------------------------------------------------------------------------

    def _apply_to_order(self, record: records.OrderRecord, changes: Changes) -> None:
        before = self.orders.get(record.order)
        after = self._next(before, record, changes.stamp)
        if isinstance(after, Refused):
            changes.refused = after
            self.touch(changes, record.order)
            if isinstance(record, records.Claimed) and (before is None or before.agent != record.agent):
                changes.unclaimed.append((record.order, record.element))
            return
        if (jobs := getattr(record, "jobs", ())) and before is not None:
            changes.job_events(jobs, before)
        self.change(before, replace(after, rev=changes.stamp.seq), changes)
        if isinstance(record, records.Created) and record.agent:
            self.begin(record.order, record.agent, changes)
        kind = type(record)
        if kind is records.Due and after.awaited:
            for child in after.awaited:
                if child in after.children:  # an agent may cancel nobody else's
                    self.cancel(child, Caller(kind=CallerKind.ORDER, name=after.id), changes)
        if kind in _ALSO_TOLD:
            changes.order_event(_ALSO_TOLD[kind], after)

    def begin(self, ident: str, agent: str, changes: Changes) -> None:
        """An order that was just made runs at once: its record has told the agent so, if that lives."""
        before = self.orders[ident]
        after = transitions.begun(before, agent, changes.stamp)
        self.change(before, after, changes)
        element = self.fleet.elements.get(after.element or "")
        if element is not None and element.succeeds == agent:
            self._give_up(self.orders[ident], changes, ran=False)

    def cancel(self, ident: str, by: Caller, changes: Changes) -> None:
        """An order is to stop by a record that is not about it."""
        before = self.orders.get(ident)
        if before is None:
            return
        after = transitions.cancel_requested(before, records.CancelRequested(order=ident, by=by), changes.stamp)
        if isinstance(after, Refused):
            return
        self.change(before, after, changes)
        if after.is_final:
            changes.revoked[ident] = by

    def _next(self, before: Order | None, record: records.OrderRecord, stamp: Stamp) -> Order | Refused:
        transition = TRANSITIONS.get(type(record))
        if transition is not None:
            if before is None:
                return Refused("there is no such open order")
            if isinstance(record, records.Claimed) and (reason := self._may_not_claim(before, record)):
                return Refused(reason)
            return transition(before, record, stamp)
        if before is not None:
            return Refused("there is such an order already, and it is open")
        return BEGINNINGS[type(record)](record, stamp)

    def _may_not_claim(self, order: Order, record: records.Claimed) -> str:
        """Why a pool's order is not for who claims it; empty if it is.

        The compare-and-set lets anybody claim who writes one.  An agent that was silent for a while counts as it was:
        it claims what was offered to it, and would run that until it hears of a refusal.
        """
        if order.element is not None or order.pool is None:
            return ""  # whom it is for is checked with the rest
        element = self.fleet.elements.get(record.element)
        if element is None or not self.fleet.may_serve(order.pool, record.element):
            return f"{record.element} is not in pool {order.pool}"
        return "" if record.agent in {element.agent, element.last} else f"its agent does not act for {record.element}"

    def touch(self, changes: Changes, ident: str) -> None:
        """Anything on an order's subjects moves what a claim is compared with, even if it was refused."""
        order = self.orders.get(ident)
        if order is not None:
            self._keep(order, replace(order, rev=changes.stamp.seq))
            changes.orders[order.id] = self.orders[order.id]

    def change(self, before: Order | None, after: Order, changes: Changes) -> None:
        """Put an order where it is now, settle whether it may go, and tell."""
        if before is None and after.where is not None and after.pool is not None:
            self.fleet.use_queue(after.pool, after.where)
        if before is None and after.children:
            after = transitions.reunited(after, self.orders)
        if transitions.may_go_on(after):
            after = transitions.going_on(after)
        after = settled(after, self.fleet, self.triggers)
        self._keep(before, after)
        changes.orders[after.id] = after
        if before is None or before.state is not after.state:
            changes.order_event("order.created" if before is None else f"order.{after.state}", after)
            if after.parent is not None:
                self._tell_parent(after, changes)

    def _tell_parent(self, child: Order, changes: Changes) -> None:
        parent = self.orders.get(child.parent or "")
        if parent is None:
            return
        after = replace(parent, children={**parent.children, child.id: transitions.as_child(child)})
        if after.state is OrderState.CANCELLING and after.waits_for_children:
            after = transitions.stopped(after, after.reason, changes.stamp)
        self.change(parent, after, changes)

    def _keep(self, before: Order | None, after: Order) -> None:
        gone = after.is_final
        self.shelves.move(before, None if gone else after)
        if after.trigger is not None:
            self.triggers.move(before, after)
        if gone:
            self.orders.pop(after.id, None)
            if after.where is not None and after.pool is not None:
                self.fleet.leave_queue(after.pool)
        else:
            self.orders[after.id] = after
        time = None if gone else (after.not_before or after.wake_at)
        if time is not None:
            self.timers[after.id] = time
        elif self.timers:
            self.timers.pop(after.id, None)
        if after.ending_since is not None and after.state in _WAITING:
            self.endings[after.id] = after.ending_since
        elif self.endings:
            self.endings.pop(after.id, None)

    def _release(self, shelf: str, changes: Changes) -> None:
        """Look again at what waits on a shelf, the oldest first: all brokers have to let the same ones in."""
        waiting = [self.orders[ident] for ident in self.shelves.waiting(shelf)]
        for before in sorted(waiting, key=_age):
            after = settled(before, self.fleet, self.triggers)
            if after is not before:
                self.change(before, after, changes)

    # -- elements and objects -------------------------------------------------------------------

    def _joined(self, record: records.Joined, changes: Changes) -> None:
        element = self.fleet.elements.get(record.element)
        if element is None:
            changes.refused = Refused(f"there is no element {record.element}")
            return
        is_successor = bool(record.place) and record.place == element.place
        after = replace(
            element,
            agent=record.agent,
            place=record.place or element.place,
            last=record.agent,
            succeeds=element.last if is_successor and element.last != record.agent else None,
            since=changes.stamp.time,
        )
        self._stand(element, after, changes, "element.online", {"agent": record.agent})
        if is_successor:
            self._succeed(after, changes)

    def _succeed(self, element: Element, changes: Changes) -> None:
        """Only one daemon can run in a place, so those before it are dead, and nothing runs what they held.

        Of a daemon elsewhere nobody knows that: what it holds is given up when its leases are surely over.
        """
        held = [self.orders[ident] for ident in self.shelves.held(element.name)]
        for before in sorted(held, key=_age):  # a state that was loaded holds them in another order
            if before.agent != element.agent:
                self._give_up(before, changes)

    def _give_up(self, before: Order, changes: Changes, *, ran: bool = True) -> None:
        """The daemon that held it is dead."""
        reason = f"the agent on {before.element} was started anew"
        lost = records.Lost(order=before.id, attempt=before.attempt, reason=reason, ran=ran)
        after = loss.lost(before, lost, changes.stamp)
        if not isinstance(after, Refused):
            self.change(before, after, changes)
            changes.order_event("order.lost", after)

    def _left(self, record: records.Left, changes: Changes) -> None:
        element = self.fleet.elements.get(record.element)
        if element is None or element.agent != record.agent:
            changes.refused = Refused(f"agent {record.agent} does not act for {record.element}")
            return
        after = replace(element, agent=None, since=changes.stamp.time)
        data = {"agent": record.agent, "reason": record.reason}
        self._stand(element, after, changes, "element.offline", data)

    def _mode_changed(self, record: records.ModeChanged, changes: Changes) -> None:
        element = self.fleet.elements.get(record.element)
        if element is None or record.mode not in set(Mode):
            changes.refused = Refused(f"there is no element {record.element}, or no mode {record.mode}")
            return
        after = replace(element, mode=Mode(record.mode))
        self._stand(element, after, changes, "element.mode", {"mode": record.mode, "by": str(record.by)})

    def _drain_changed(self, record: records.DrainChanged, changes: Changes) -> None:
        element = self.fleet.elements.get(record.element)
        if element is None:
            changes.refused = Refused(f"there is no element {record.element}")
            return
        after = replace(element, drained=record.drained)
        kind = "element.drained" if record.drained else "element.undrained"
        self._stand(element, after, changes, kind, {"by": str(record.by)})

    def _stand(self, before: Element, after: Element, changes: Changes, kind: str, data: dict[str, Any]) -> None:
        changes.event(kind, after.name, data)
        self._put(before, after, changes)

    def _put(self, before: Element | None, after: Element, changes: Changes) -> None:
        """An element stands as `after` now; what waits for it or its pools may go, or waits otherwise."""
        self.fleet.elements[after.name] = after
        changes.things["element", after.name] = after
        self._reassign(after.name, changes)
        if before is None or (before.mode, before.drained) != (after.mode, after.drained):
            self._release(element_shelf(after.name), changes)
            for pool in self.fleet.pools_of(after.name):
                self._release(pool_shelf(pool), changes)

    def _reassign(self, element: str, changes: Changes) -> None:
        """An element changed: its pools may be others now, and orders there may go."""
        changes.assignments.add(element)
        for pool in sorted(self.fleet.regroup(element)):
            self._release(pool_shelf(pool), changes)

    def _tell_of_queues(self, changes: Changes) -> None:
        """Pools without a name came or went: consumers and assignments have to follow."""
        for pool, members in self.fleet.queue_news.items():
            changes.queues.add(pool)
            changes.assignments |= members
        self.fleet.queue_news.clear()

    def _applied(self, record: records.Applied, changes: Changes) -> None:
        if reason := self._taken(record.manifests):
            changes.refused = Refused(reason)
            return
        for manifest in record.manifests:
            try:
                self._apply_one(manifest, str(record.by), changes)
            except InvalidError as error:  # another version of Muster found it right: the others stand
                changes.refused = Refused(str(error))

    def _taken(self, manifests: Iterable[dict[str, Any]]) -> str:
        """Which element's name another kind has, if somebody was faster; else empty."""
        taken: dict[str, str] = {}
        for manifest in manifests:
            kind, name = str(manifest.get("kind")), str(manifest.get("name"))
            if not is_element_kind(kind):
                continue
            standing = self.fleet.elements.get(name)
            holder = standing.kind if standing is not None else taken.setdefault(name, kind)
            if holder != kind:
                return f"{name} is a {holder} already; element names are unique"
        return ""

    def _apply_one(self, manifest: dict[str, Any], by: str, changes: Changes) -> None:
        kind, name = str(manifest.get("kind")), str(manifest.get("name"))
        if not is_name(name):
            raise InvalidError(f"{name[:80]!r} is not a name")
        before = self.fleet.stored.get((kind, name))
        if before is not None and before.says(manifest):
            return
        stored = StoredObject(
            kind=kind,
            name=name,
            version=self.fleet.next_version(kind, name),
            manifest=manifest,
            created_at=before.created_at if before else changes.stamp.time,
            changed_at=changes.stamp.time,
            seq=changes.stamp.seq,
        )
        if kind == "trigger":
            stored = triggers.dated(stored, before)
        if is_element_kind(kind):
            standing = self.fleet.elements.get(name)
            self.fleet.put(stored)
            self._element_applied(stored, standing, changes)
        else:
            before_members = set(self.fleet.members.get(name, ()))
            self.fleet.put(stored)
            self._object_applied(kind, name, before_members, changes)
        changes.things["object", stored.key] = stored
        data = {"kind": kind, "version": stored.version, "by": by}
        changes.event("object.changed" if before else "object.created", name, data)

    def _element_applied(self, stored: StoredObject, standing: Element | None, changes: Changes) -> None:
        mode = stored.manifest.get("mode")
        after = standing or Element(name=stored.name, kind=stored.kind)
        self._put(standing, replace(after, mode=Mode(mode)) if mode else after, changes)

    def _object_applied(self, kind: str, name: str, before_members: set[str], changes: Changes) -> None:
        if kind == "pool":
            changes.assignments |= before_members ^ self.fleet.members[name]
            self._release(pool_shelf(name), changes)
        elif kind == "profile":
            for element in sorted(self.fleet.using(name)):
                self._reassign(element, changes)
        elif kind == "trigger":
            triggers.applied(self, name, changes)

    def _deleted(self, record: records.Deleted, changes: Changes) -> None:
        kind, name = record.object_kind, record.name
        if reason := self._why_kept(kind, name):
            changes.refused = Refused(reason)
            return
        pools = self.fleet.pools_of(name) if is_element_kind(kind) else ()
        if kind == "pool":
            changes.assignments |= self.fleet.members[name]
        last = self.fleet.stored[kind, name]
        self.fleet.drop(kind, name)
        if is_element_kind(kind):
            changes.assignments.add(name)
            changes.things["element", name] = None
            changes.things["object", last.key] = None
        else:
            self.fleet.retire(last)
            changes.things["object", last.key] = replace(last, manifest={}, is_deleted=True)
        if kind == "trigger":
            triggers.deleted(self, name, changes)
        for pool in pools:
            self._release(pool_shelf(pool), changes)
        changes.event("object.deleted", name, {"kind": kind, "by": str(record.by)})

    def _why_kept(self, kind: str, name: str) -> str:
        """Why an object cannot be deleted; empty if it can."""
        if (kind, name) not in self.fleet.stored:
            return f"there is no {kind} {name}"
        count = 0
        if is_element_kind(kind):
            count = self.shelves.count(element_shelf(name))
        elif kind == "pool":  # those that a member has claimed come back to it if they are lost
            count = sum(order.pool == name for order in self.orders.values())
        if count:
            return f"{kind} {name} has {count} open orders; wait for them or cancel them"
        if is_element_kind(kind) and self.fleet.elements[name].agent is not None:
            return f"an agent acts for {kind} {name}, and would make it anew; stop that agent, then delete {name}"
        needing = self.fleet.needing(kind, name)
        return f"{kind} {name} is used by {', '.join(needing[:5])}" if needing else ""

    def _rejected(self, record: records.Rejected, changes: Changes) -> None:
        data = {"subject": record.subject, "reason": record.reason, "body": record.body}
        changes.event("inbox.rejected", record.id, data)

    def _refuse(self, changes: Changes, subject: str, reason: str) -> None:
        self.refused += 1
        changes.refused = Refused(reason)
        changes.event("record.refused", subject.rpartition(".")[2], {"subject": subject, "reason": reason})


_WAITING: Final = frozenset({OrderState.QUEUED, OrderState.OFFERED})


def _age(order: Order) -> tuple[datetime, str]:
    return order.created_at, order.id


_ALSO_TOLD: Final[dict[type[records.Record], str]] = {
    records.Lost: "order.lost",
    records.Retried: "order.retried",
}

OTHERS: Final[dict[type[records.Record], Callable[[State, Any, Changes], None]]] = {
    records.Joined: State._joined,  # noqa: SLF001 - the registry stands beside its class
    records.Left: State._left,  # noqa: SLF001
    records.ModeChanged: State._mode_changed,  # noqa: SLF001
    records.DrainChanged: State._drain_changed,  # noqa: SLF001
    records.Applied: State._applied,  # noqa: SLF001
    records.Deleted: State._deleted,  # noqa: SLF001
    records.Rejected: State._rejected,  # noqa: SLF001
    records.Announced: firing.announced,
    records.Fired: firing.fired,
}
