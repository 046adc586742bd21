"""What people and agents may do with orders: create, cancel, retry, resume, explain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec
from msgspec.structs import replace

from muster.broker.accepted import accepted
from muster.broker.blueprint_store import BlueprintStore
from muster.broker.means import Means
from muster.broker.planning.blueprints import Blueprints
from muster.broker.planning.first import StartDirectly
from muster.broker.planning.orders import plan_orders
from muster.broker.state.changes import Changes
from muster.broker.state.order import as_child, is_held, runs_directly
from muster.broker.state.table import TABLE
from muster.broker.state.waiting import REASONS, words_of
from muster.mesh import names, records
from muster.mesh.caller import Caller
from muster.mesh.errors import ForbiddenError, MusterError, NotFoundError, RefusedError, UnavailableError
from muster.mesh.jetstream import LostRaceError
from muster.mesh.messages import ResumeReply, ResumeRequest
from muster.mesh.model import JobState, Order, OrderRequest, OrderState

IdOf = Callable[[int], str]
"""Gives the id of the nth order of a request."""


class Orders:
    """The write path of orders: plan, append, answer what the state machine decided."""

    def __init__(self, means: Means, blueprints: Blueprints, store: BlueprintStore, start: StartDirectly) -> None:
        self._world, self._log, self._query, self._ids = means
        self._blueprints, self._store, self._start_directly = blueprints, store, start

    async def create(self, request: OrderRequest, *, by: Caller, key: str | None = None) -> list[Order]:
        """Makes the orders that a request asks for: all of them, or none.

        Args:
            request: what, on which elements, with which inputs.
            by: who asks, for the record.
            key: makes it safe to repeat: the same key makes the same orders, once and for ever.

        Raises:
            NotFoundError: no such blueprint, element or pool.
            InvalidError: the inputs break the blueprint's schema; every problem is listed.
            RefusedError: nothing matches, too many elements match, or the parent has ended.
            UnavailableError: the log cannot be reached.
        """
        return await self._create(request, by, key, by.scope)

    async def create_children(self, request: OrderRequest, *, by: Caller, key: str | None) -> list[Order]:
        """Makes child orders of an order that the caller's element runs.

        Its keys are the parent's: whichever element runs that next finds the same orders by them.

        Raises:
            ForbiddenError: the element does not run their parent; and what `create` raises.
        """
        element, parent = by.name, request.parent or ""
        if not self._runs(element, parent):  # it may have claimed it before we have read of that
            await self._query.read_up_to(parent)
            if not self._runs(element, parent):
                which = f"the parent order {parent}" if parent else "any order: the request names no parent"
                raise ForbiddenError(f"{element} does not run {which}")
        return await self._create(request, by, key, f"order {parent}")

    def _runs(self, element: str, ident: str) -> bool:
        order = self._world.orders.get(ident)
        return order is not None and order.element == element and is_held(order)

    async def _create(self, request: OrderRequest, by: Caller, key: str | None, scope: str) -> list[Order]:
        if request.parent is not None and request.parent not in self._world.orders:
            await self._query.read_up_to(request.parent)  # another broker may have made it just now
        if key is not None:
            return await self._create_once(request, by, partial(self._ids.order, key, scope=scope))
        return await self._write(self._plan(request, by, _new_id))

    async def _create_once(self, request: OrderRequest, by: Caller, id_of: IdOf) -> list[Order]:
        """What a key made the first time is the answer, even if the request would make others by now."""
        try:
            return await self._write(self._plan(request, by, id_of), expect=0)
        except LostRaceError:
            has_read = await self._query.read_up_to(id_of(0))
            if made := await self._made(id_of):
                return made
            if has_read:
                raise RefusedError("another record has its orders' place on the log; use another key") from None
            raise UnavailableError("its orders are on the log, but this broker has not read so far") from None
        except MusterError:
            if made := await self._made(id_of):
                return made
            raise

    async def _made(self, id_of: IdOf) -> list[Order]:
        """The orders that a key has made."""
        made: list[Order] = []
        while True:
            try:
                made.append(await self._query.order(id_of(len(made))))
            except NotFoundError:
                return made

    def _plan(self, request: OrderRequest, by: Caller, id_of: IdOf) -> list[records.Created]:
        return plan_orders(self._world, self._blueprints, request, by=by, id_of=id_of)

    async def _write(self, planned: Sequence[records.Created], expect: int | None = None) -> list[Order]:
        created = [self._start_directly(record) for record in planned]
        if len(created) == 1:
            return [_order(await self._log.append(created[0], expect=expect), created[0].order)]
        outcomes = await self._log.append_all(created, expect=expect)
        return [_order(changes, record.order) for changes, record in zip(outcomes, created, strict=True)]

    async def preview(self, request: OrderRequest, *, by: Caller) -> list[dict[str, Any]]:
        """Returns what `create` would make, without making it."""
        return [
            {
                "blueprint": record.blueprint,
                "version": record.version,
                "element": record.element,
                "pool": record.pool,
                "where": record.where,
                "inputs": record.inputs,
                "sources": record.sources,
            }
            for record in self._plan(request, by, _new_id)
        ]

    async def cancel(self, order: str, *, by: Caller, key: str | None = None) -> Order:
        """Stops an order; a running one is `cancelling` until its agent has stopped it.

        Raises:
            RefusedError: it has ended already, or is being cancelled; not so if that was asked for with the same key.
        """
        found = await self._query.order(order)
        if key is not None and await self._was_asked(records.CancelRequested, found.id, key, by):
            return found
        if found.is_final:
            raise RefusedError(f"order {found.id} is {found.state} already; there is nothing to cancel")
        changes = await self._log.append(records.CancelRequested(order=found.id, by=by, key=key or ""))
        return _order(changes, found.id)

    async def retry(self, order: str, *, by: Caller, key: str | None = None) -> Order:
        """Continues a failed or cancelled order at its first unfinished task.

        Raises:
            RefusedError: it is open, or it finished; not so if this was asked for with the same key.
        """
        found = await self._query.order(order)
        if key is not None and await self._was_asked(records.Retried, found.id, key, by):
            return found
        if not found.is_final:
            raise RefusedError(f"order {found.id} is {found.state}; only a failed or cancelled order can be retried")
        if found.state is OrderState.FINISHED:
            raise RefusedError(f"order {found.id} finished well; run its blueprint again instead of retrying it")
        main = {task.name for task in (await self._store.blueprint_of(found)).tasks}
        kept = tuple(
            job for job in found.jobs if job.name in main and job.state in {JobState.FINISHED, JobState.SKIPPED}
        )
        children = {child: as_child(await self._query.order(child)) for child in found.children}
        record = records.Retried(
            order=found.id, snapshot=replace(found, jobs=kept, children=children), by=by, key=key or ""
        )
        try:
            changes = await self._log.append(record, expect=await self._log.last_of(found.id))
        except LostRaceError:
            if key is not None and await self._was_asked(records.Retried, found.id, key, by):
                return await self._query.order(found.id)
            raise RefusedError(f"somebody else changed order {found.id} just now; read it and try again") from None
        return _order(changes, found.id)

    async def _was_asked(self, what: type[records.OrderRecord], order: str, key: str, by: Caller) -> bool:
        """Whether the log has such a record about the order with this caller's key."""
        asked = what.__struct_config__.tag, key, by.scope
        return any(
            (it["type"], it["data"].get("key"), msgspec.convert(it["caller"], Caller).scope) == asked
            for it in await self._log.records_of("order", order)
        )

    async def resume(self, request: ResumeRequest, *, by: Caller) -> ResumeReply:
        """Answers an agent whose claim was refused, or that gave an order up: its copy is stale.

        Every change of an offered order publishes a fresh copy, so this one can always be dropped.  If the
        agent itself was the last holder, or the holder's daemon is gone, the order is given up first: that
        its copy came to another one shows that its lease has expired.  Not so if the order started without a copy.
        """
        order = self._world.orders.get(request.order)
        if order is not None and is_held(order) and order.element is not None and order.attempt == request.attempt:
            holder = self._world.elements.get(order.element)
            is_own = order.element == request.element
            is_peer = is_own or request.element in self._world.pools.members.get(order.pool or "", ())
            is_gone = is_peer and (holder is None or holder.agent != order.agent) and not runs_directly(order)
            if (is_own and order.agent == request.agent) or is_gone:
                gone = order.agent != request.agent
                reason = f"the agent on {order.element} {'is gone' if gone else 'gave it up'}"
                lost = records.Lost(
                    order=order.id, attempt=order.attempt, reason=reason, ran=gone or not request.declined, by=by
                )
                await self._log.append(lost)
        return ResumeReply(drop=True)

    async def explain(self, order: str) -> dict[str, Any]:
        """Returns where each input came from, why it waits or how it ended, and every record about it."""
        found = await self._query.order(order)
        return {
            "order": found,
            "meaning": TABLE[found.state].meaning,
            "waits": words_of(found.waiting) if found.waiting is not None else "",
            "ends": REASONS[type(found.waiting)].ends if found.waiting is not None else "",
            "inputs": [
                {"name": name, "value": value, "source": found.sources.get(name, "order")}
                for name, value in found.inputs.items()
            ],
            "history": await self._query.history(found),
        }


def _new_id(_: int) -> str:
    return names.new_id()


def _order(changes: Changes, ident: str) -> Order:
    """The order as the state machine left it.

    Raises:
        RefusedError: the state machine refused the record.
    """
    return accepted(changes, f"order {ident}").orders[ident]
