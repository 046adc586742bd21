"""The blueprint of a new order: which version it starts with, and its inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from muster.blueprints.definition import Blueprint
from muster.blueprints.resolve import Resolved, resolve, validate
from muster.broker.planning.targets import Target, suggestion
from muster.broker.state.world import World
from muster.mesh.errors import InvalidError, NotFoundError

_NO_INPUTS: Final = Resolved(inputs={}, sources={})


class Pinned(msgspec.Struct, frozen=True):
    """The version of a blueprint that a new order starts with."""

    blueprint: Blueprint
    version: int
    digest: str


class Blueprints:
    """Pins blueprints; it remembers the digest of each current version."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._pinned: dict[str, Pinned] = {}

    def pin(self, name: str) -> Pinned:
        """Returns the current version of a blueprint.

        Raises:
            NotFoundError: no such blueprint.
        """
        objects = self._world.objects
        stored, blueprint = objects.stored.get(("blueprint", name)), objects.get("blueprint", name)
        if stored is None or not isinstance(blueprint, Blueprint):
            self._pinned.pop(name, None)
            known = [its_name for kind, its_name in objects.stored if kind == "blueprint"]
            raise NotFoundError(f"there is no blueprint {name!r}{suggestion(name, known)}")
        pinned = self._pinned.get(name)
        if pinned is None or pinned.blueprint is not blueprint:
            pinned = self._pinned[name] = Pinned(blueprint, stored.version, blueprint.digest())
        return pinned


def resolve_inputs(
    world: World, pinned: Pinned, wanted: Mapping[str, Any], target: Target, source: str = "order"
) -> Resolved:
    """Returns the inputs of one order, each with its source.

    A pool's order may lack inputs: the element that claims it has a say in them.

    Args:
        world: knows the params of the target.
        pinned: says which inputs there are.
        wanted: what the request or the trigger gives.
        target: the element or pool of the order.
        source: what to record as the source of `wanted`.

    Raises:
        InvalidError: they do not fit the blueprint's schema; every problem is listed.
    """
    if not pinned.blueprint.inputs and not wanted:
        return _NO_INPUTS
    params, sources = world.fleet.params(target.element) if target.element is not None else ({}, {})
    resolved = resolve(pinned.blueprint, wanted, params, sources, source)
    problems = validate(pinned.blueprint, resolved.inputs)
    if target.pool is not None:
        missing_yet = {f"inputs.{name}" for name in pinned.blueprint.inputs if name not in resolved.inputs}
        problems = [problem for problem in problems if problem.path not in missing_yet]
    if problems:
        raise InvalidError(f"the inputs do not fit blueprint {pinned.blueprint.name}", *problems)
    return resolved
