"""What people and agents may do with orders: create, cancel, retry, resume, explain."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any, Final, Protocol, TypeVar

import msgspec
from msgspec.structs import replace
from nats.js.errors import KeyNotFoundError

from muster.blueprints.definition import Blueprint, decode_blueprint
from muster.blueprints.resolve import Resolved, given, resolve, validate
from muster.broker.log import MOST_AT_ONCE
from muster.broker.means import Means
from muster.broker.state.changes import Changes
from muster.broker.state.order import as_child, is_held, was_begun
from muster.broker.state.table import TABLE, WAITING
from muster.broker.targets import Target, chosen, suggestion
from muster.mesh import names, records
from muster.mesh.errors import (
    ForbiddenError,
    InvalidError,
    MusterError,
    NotFoundError,
    Problem,
    RefusedError,
    UnavailableError,
)
from muster.mesh.jetstream import LostRaceError
from muster.mesh.model import JobState, Order, OrderRequest, OrderState, ResumeReply, ResumeRequest
from muster.mesh.moment import in_utc

MAX_DEPTH: Final = 16
"""Orders above one another; a blueprint that orders itself in a roundabout way ends here."""

T = TypeVar("T")
First = TypeVar("First", records.Created, records.Fired)


class Begun(Protocol):
    """See `Beginnings.begun`."""

    def __call__(self, record: First) -> First:
        """The record, with the agent or as it is."""


def _as_it_is(record: First) -> First:
    return record


_WAITS: Final = frozenset({OrderState.QUEUED, OrderState.OFFERED, OrderState.SUSPENDED})

_NO_INPUTS: Final = Resolved(inputs={}, sources={})


class Pinned(msgspec.Struct, frozen=True):
    """The version of a blueprint that a new order starts with."""

    blueprint: Blueprint
    version: int
    digest: str


class Orders:
    """The write path of orders: check against the state, append, answer what the state machine decided."""

    def __init__(self, means: Means) -> None:
        self._client, self._state, self._log, self._query, self._ids = means
        self.begun: Begun = _as_it_is
        """Names the agent in the first record of an order that can begin at once; must not block."""
        self._pinned: dict[str, Pinned] = {}

    def create_orders(self, request: OrderRequest, *, by: str, key: str | None = None) -> Awaitable[list[Order]]:
        """Make the orders that a request asks for: all of them, or none.

        Args:
            request: what, for whom, with which inputs.
            by: who asks, for the record.
            key: makes it safe to repeat: the same key makes the same orders, once and for ever.

        Raises:
            NotFoundError: no such blueprint, element or pool.
            InvalidError: the inputs break the blueprint's schema; all errors are told.
            RefusedError: nothing matches, or more than one batch of records holds, or the parent is over.
            UnavailableError: the log cannot be reached; raised where the orders are awaited.
        """
        if request.parent is not None and request.parent not in self._state.orders:
            return self._create_for_late_parent(request, request.parent, by, key)
        if key is not None:
            return self._create_once(request, by, key)
        created = self._prepare(request, by, key)
        if len(created) == 1:  # the hot path: a future, so that nobody needs a task for it
            record = self.begun(created[0])
            return _then(self._log.append(record), lambda changes: [_order(changes, record.order)])
        return self._create_all([self.begun(record) for record in created])

    async def create_children(self, request: OrderRequest, element: str, *, by: str, key: str | None) -> list[Order]:
        """Make child orders of an order that an element runs: nobody else may.

        Raises:
            ForbiddenError: it does not run their parent; and what `create_orders` raises.
        """
        parent = request.parent or ""
        if not self._runs(element, parent):  # it may have claimed it before we have read of that
            await self._query.read_up_to(parent)
            if not self._runs(element, parent):
                which = f"the parent order {parent}" if parent else "any order: the request names no parent"
                raise ForbiddenError(f"{element} does not run {which}")
        return await self.create_orders(request, by=by, key=key)

    def _runs(self, element: str, ident: str) -> bool:
        order = self._state.orders.get(ident)
        return order is not None and order.element == element and is_held(order)

    async def _create_for_late_parent(
        self, request: OrderRequest, parent: str, by: str, key: str | None
    ) -> list[Order]:
        """Offers run ahead of their records: an order may run, and make others, before we have read of it."""
        await self._query.read_up_to(parent)
        if key is not None:
            return await self._create_once(request, by, key)
        return await self._create_all([self.begun(record) for record in self._prepare(request, by, key)])

    async def _create_once(self, request: OrderRequest, by: str, key: str) -> list[Order]:
        """What the key made the first time is the answer, whatever the request would make by now."""
        try:
            return await self._create_all([self.begun(each) for each in self._prepare(request, by, key)], expect=0)
        except LostRaceError:
            has_read = await self._query.read_up_to(self._ids.order(key, 0))
            if made := await self._made(key):
                return made
            if has_read:
                raise RefusedError("something else stands on the log where its orders would; use another key") from None
            raise UnavailableError("its orders are on the log, but this broker has not read so far") from None
        except MusterError:
            if made := await self._made(key):
                return made
            raise

    async def _made(self, key: str) -> list[Order]:
        """The orders that a key has made."""
        made: list[Order] = []
        while True:
            try:
                made.append(await self._query.order(self._ids.order(key, len(made))))
            except NotFoundError:
                return made

    async def _create_all(self, created: list[records.Created], expect: int | None = None) -> list[Order]:
        if len(created) == 1:
            outcomes = [await self._log.append(created[0], expect=expect)]
        else:
            outcomes = await self._log.append_all(created, expect=expect)
        return [_order(changes, record.order) for changes, record in zip(outcomes, created, strict=True)]

    async def preview(self, request: OrderRequest) -> list[dict[str, Any]]:
        """What `create_orders` would make, without making it."""
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
            for record in self._prepare(request, "preview", None)
        ]

    async def cancel(self, order: str, by: str, key: str | None = None) -> Order:
        """Stop an order; a running one is `cancelling` until its agent has stopped it.

        Raises:
            RefusedError: it has ended already, or is being cancelled; not so if that was asked for with the same key.
        """
        found = await self._query.order(order)
        if key is not None and await self._was_asked(records.CancelRequested, found.id, key):
            return found
        if found.is_final:
            raise RefusedError(f"order {found.id} is {found.state} already; there is nothing to cancel")
        changes = await self._log.append(records.CancelRequested(order=found.id, by=by, key=key or ""))
        return _order(changes, found.id)

    async def retry(self, order: str, by: str, key: str | None = None) -> Order:
        """Let a failed or cancelled order go on at its first unfinished task.

        Raises:
            RefusedError: it is open, or it finished; not so if this was asked for with the same key.
        """
        found = await self._query.order(order)
        if key is not None and await self._was_asked(records.Retried, found.id, key):
            return found
        if not found.is_final:
            raise RefusedError(f"order {found.id} is {found.state}; only a failed or cancelled order can be retried")
        if found.state is OrderState.FINISHED:
            raise RefusedError(f"order {found.id} finished well; run its blueprint again instead of retrying it")
        main = {task.name for task in (await self._blueprint_of(found)).tasks}
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
            if key is not None and await self._was_asked(records.Retried, found.id, key):
                return await self._query.order(found.id)
            raise RefusedError(f"somebody else changed order {found.id} just now; look at it again") from None
        return _order(changes, found.id)

    async def _was_asked(self, what: type[records.OrderRecord], order: str, key: str) -> bool:
        """Whether the log has such a record about the order with this key."""
        asked = what.__struct_config__.tag, key
        return any((it["type"], it["data"].get("key")) == asked for it in await self._log.records_of("order", order))

    async def resume(self, request: ResumeRequest) -> ResumeReply:
        """An agent's claim was refused, or it gave an order up: the copy it has is stale.

        Every change of an offered order publishes a fresh copy, so this one can always be dropped.  If the
        agent itself was the last holder, or the holder's daemon is gone, the order is given up first: that
        its copy came to another one shows that its lease is over.  Not so if the order began without a copy.
        """
        order = self._state.orders.get(request.order)
        if order is not None and is_held(order) and order.element is not None and order.attempt == request.attempt:
            holder = self._state.fleet.elements.get(order.element)
            is_own = order.element == request.element
            is_peer = is_own or request.element in self._state.fleet.members.get(order.pool or "", ())
            is_gone = is_peer and (holder is None or holder.agent != order.agent) and not was_begun(order)
            if (is_own and order.agent == request.agent) or is_gone:
                gone = order.agent != request.agent
                reason = f"the agent on {order.element} {'is gone' if gone else 'gave it up'}"
                lost = records.Lost(
                    order=order.id, attempt=order.attempt, reason=reason, ran=gone or not request.declined
                )
                await self._log.append(lost)
        return ResumeReply(drop=True)

    async def explain(self, order: str) -> dict[str, Any]:
        """Where each input came from, why it waits or how it ended, and every record about it."""
        found = await self._query.order(order)
        return {
            "order": found,
            "meaning": TABLE[found.state].meaning,
            "waits": WAITING.get(found.reason, found.reason) if found.state in _WAITS else "",
            "inputs": [
                {"name": name, "value": value, "source": found.sources.get(name, "order")}
                for name, value in found.inputs.items()
            ],
            "history": await self._query.history(found),
        }

    # -- inside ---------------------------------------------------------------------------------

    def _prepare(self, request: OrderRequest, by: str, key: str | None) -> list[records.Created]:
        pinned = self._pin(request.blueprint)
        targets = chosen(request, self._state)
        if len(targets) > MOST_AT_ONCE:
            raise RefusedError(
                f"{len(targets)} elements match, and one request makes at most {MOST_AT_ONCE} orders, all or none; "
                "ask for parts by narrower filters, or let a trigger with this target go off, which has no limit"
            )
        depth, chain = self._depth(request)
        not_before = request.not_before and _in_utc(request.not_before)
        inputs_given = given(pinned.blueprint, request.inputs, request.texts, from_templates=request.parent is not None)
        prepared = []
        for place, target in enumerate(targets):
            inputs = self._inputs(pinned, inputs_given, target)
            prepared.append(
                records.Created(
                    order=names.new_id() if key is None else self._ids.order(key, place),
                    blueprint=request.blueprint,
                    version=pinned.version,
                    digest=pinned.digest,
                    element=target.element,
                    pool=target.pool,
                    inputs=inputs.inputs,
                    sources=inputs.sources,
                    not_before=not_before,
                    labels=request.labels,
                    parent=request.parent,
                    depth=depth,
                    chain=chain,
                    where=target.where,
                    has_on_failure=bool(pinned.blueprint.on_failure),
                    has_always=bool(pinned.blueprint.always),
                    by=by,
                )
            )
        return prepared

    def _pin(self, name: str) -> Pinned:
        stored = self._state.fleet.stored.get(("blueprint", name))
        blueprint = self._state.fleet.get("blueprint", name)
        if stored is None or not isinstance(blueprint, Blueprint):
            known = [its_name for kind, its_name in self._state.fleet.stored if kind == "blueprint"]
            raise NotFoundError(f"there is no blueprint {name!r}{suggestion(name, known)}")
        pinned = self._pinned.get(name)
        if pinned is None or pinned.blueprint is not blueprint:
            pinned = self._pinned[name] = Pinned(blueprint, stored.version, blueprint.digest())
        return pinned

    def _depth(self, request: OrderRequest) -> tuple[int, int]:
        """How many orders stand above it, and how many firings."""
        if request.parent is None:
            return 0, 0
        parent = self._state.orders.get(request.parent)
        if parent is None or parent.state is OrderState.CANCELLING:
            raise RefusedError(f"the parent order {request.parent} is over or being cancelled")
        if parent.depth >= MAX_DEPTH:
            raise RefusedError(f"{MAX_DEPTH} orders stand above one another already; do blueprints order each other?")
        return parent.depth + 1, parent.chain

    def _inputs(self, pinned: Pinned, wanted: Mapping[str, Any], target: Target, source: str = "order") -> Resolved:
        if not pinned.blueprint.inputs and not wanted:
            return _NO_INPUTS
        params, sources = self._state.fleet.params(target.element) if target.element is not None else ({}, {})
        resolved = resolve(pinned.blueprint, wanted, params, sources, source)
        problems = validate(pinned.blueprint, resolved.inputs)
        if target.pool is not None:
            missing_yet = {f"inputs.{name}" for name in pinned.blueprint.inputs if name not in resolved.inputs}
            problems = [problem for problem in problems if problem.path not in missing_yet]
        if problems:
            raise InvalidError(f"the inputs do not fit blueprint {pinned.blueprint.name}", *problems)
        return resolved

    async def _blueprint_of(self, order: Order) -> Blueprint:
        bucket = await self._client.jetstream().key_value(names.BLUEPRINT_BUCKET)
        try:
            entry = await bucket.get(order.digest)
        except KeyNotFoundError:
            raise RefusedError(
                f"version {order.version} of blueprint {order.blueprint} is not in the mesh any more"
            ) from None
        return decode_blueprint(entry.value or b"")


def _in_utc(not_before: datetime) -> datetime:
    try:
        return in_utc(not_before)
    except ValueError as error:
        raise InvalidError("the request is not valid", Problem(message=str(error), path="not_before")) from None


def _order(changes: Changes, ident: str) -> Order:
    """The order as the state machine left it.

    Raises:
        RefusedError: the state machine did not take the record.
    """
    if changes.refused is not None:
        raise RefusedError(f"order {ident}: {changes.refused.reason}")
    return changes.orders[ident]


def _then(outcome: asyncio.Future[Changes], read: Callable[[Changes], T]) -> asyncio.Future[T]:
    """A future of what `read` makes of the outcome."""
    later: asyncio.Future[T] = outcome.get_loop().create_future()

    def settle(_: object) -> None:
        if later.done():  # whoever waited has gone
            return
        try:
            later.set_result(read(outcome.result()))
        except Exception as error:  # noqa: BLE001 - it is raised where the future is awaited
            later.set_exception(error)

    outcome.add_done_callback(settle)
    return later
