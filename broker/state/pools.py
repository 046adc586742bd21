"""Pools: who is a member, as elements and filters change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from muster.blueprints.objects.pool import Pool
from muster.blueprints.objects.trigger import Trigger
from muster.broker.state.aggregate import Aggregate
from muster.broker.state.step import Step
from muster.broker.state.topics import OBJECT, POOL, QUEUE, VIEW, WORK
from muster.mesh.names import queue_pool

if TYPE_CHECKING:
    from muster.broker.state.world import World


def object_changed(step: Step, key: str) -> None:
    """A pool has another filter, or a trigger another queue."""
    kind, _, name = key.partition("/")
    world = step.world
    if kind == "pool":
        found = world.objects.get("pool", name)
        if isinstance(found, Pool):
            moved = world.pools.group(name, found.where, world.elements, world.fleet.view)
        else:
            moved = world.pools.drop(name)
        step.changes.assignments |= moved
        step.enqueue(POOL, name)
    elif kind == "trigger":
        for pool in _use_by_trigger(world, name):
            step.enqueue(QUEUE, pool)


def _use_by_trigger(world: World, name: str) -> list[str]:
    trigger = world.objects.get("trigger", name)
    where = trigger.target.where if isinstance(trigger, Trigger) and trigger.target.queue else None
    return world.pools.use_by(name, queue_pool(where) if where is not None else None, where or "")


def queue_changed(step: Step, pool: str) -> None:
    """A pool without a name came or went."""
    world = step.world
    where = world.pools.where(pool)
    if (where is not None) == (pool in world.pools.members):
        return
    if where is not None:
        moved = world.pools.group(pool, where, world.elements, world.fleet.view)
    else:
        moved = world.pools.drop(pool)
    step.changes.queues.add(pool)
    step.changes.assignments |= moved
    step.enqueue(POOL, pool)


def view_changed(step: Step, element: str) -> None:
    """Filters see something else of an element: it may be in other pools."""
    world = step.world
    view = world.fleet.view(element) if element in world.elements else None
    for pool in world.pools.regroup(element, view):
        step.enqueue(POOL, pool)


def work_changed(step: Step, element: str) -> None:
    """An element takes work, or does not any more: so do its pools."""
    for pool in step.world.pools.of(element):
        step.enqueue(POOL, pool)


def why_kept(world: World, kind: str, name: str) -> Iterator[str]:
    """Yields why a pool must not be deleted; orders that a member has claimed come back to it if they are lost."""
    if kind == "pool" and (count := sum(order.pool == name for order in world.orders.values())):
        yield f"pool {name} has {count} open orders; wait for them or cancel them"


def shown(world: World, kind: str, name: str) -> Mapping[str, Any]:
    """Returns the members of a pool."""
    return {"members": sorted(world.pools.members.get(name, ()))} if kind == "pool" else {}


def restore(world: World) -> None:
    """Works out all pools of a world that was loaded."""
    for kind, name in world.objects.stored:
        found = world.objects.get(kind, name)
        if isinstance(found, Pool):
            world.pools.group(name, found.where, world.elements, world.fleet.view)
        elif isinstance(found, Trigger):
            _use_by_trigger(world, name)
    for order in world.orders.values():
        if order.where is not None and order.pool is not None:
            world.pools.use(order.pool, order.where)
    for pool in world.pools.queues():
        world.pools.group(pool, world.pools.where(pool) or "", world.elements, world.fleet.view)


AGGREGATE: Final = Aggregate(
    name="pools",
    rules={OBJECT: object_changed, QUEUE: queue_changed, VIEW: view_changed, WORK: work_changed},
    why_kept=why_kept,
    shown=shown,
    restore=restore,
)
