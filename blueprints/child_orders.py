"""Child orders, as far as they can be seen before they run: unknown blueprints and cycles."""

from __future__ import annotations

from collections.abc import Iterator

from muster.blueprints.definition import Blueprint, Task
from muster.blueprints.objects.base import Catalog
from muster.blueprints.paths import join
from muster.blueprints.suggest import did_you_mean
from muster.blueprints.templates import is_template
from muster.mesh.errors import Problem


def check_children(blueprint: Blueprint, catalog: Catalog) -> Iterator[Problem]:
    """Child orders of blueprints that do not exist, with inputs that they do not have, or that lead back here."""
    for path, task in _child_tasks(blueprint):
        name = _child(task)
        if name is None:
            continue
        place = join(path, "with", "blueprint")
        child = blueprint if name == blueprint.name else catalog.get("blueprint", name)
        if not isinstance(child, Blueprint):
            known = [other.name for other in catalog.all("blueprint")]
            yield Problem(path=place, message=f"there is no blueprint {name!r}", hint=did_you_mean(name, known))
            continue
        cycle = _way_back(blueprint, child, catalog)
        if cycle:
            yield Problem(path=place, message=f"child orders would never end: {' → '.join(cycle)}")
        yield from _check_inputs(task, child, join(path, "with"))


def child_blueprints(blueprint: Blueprint) -> set[str]:
    """The blueprints that its child orders are made from, as far as they are written and not worked out."""
    return {name for _, task in _child_tasks(blueprint) if (name := _child(task)) is not None}


def _check_inputs(task: Task, child: Blueprint, path: str) -> Iterator[Problem]:
    given = task.with_.get("inputs", {})
    if not isinstance(given, dict):
        return
    for name in given:
        if name not in child.inputs:
            message = f"blueprint {child.name!r} has no input {name!r}"
            yield Problem(path=join(path, "inputs", name), message=message, hint=did_you_mean(name, child.inputs))


def _child_tasks(blueprint: Blueprint) -> Iterator[tuple[str, Task]]:
    for section in ("tasks", "on_failure", "always"):
        for place, task in enumerate(getattr(blueprint, section)):
            if task.uses == "order":
                yield join(section, place), task


def _child(task: Task) -> str | None:
    """The blueprint of a child order, where it is written and not worked out."""
    name = task.with_.get("blueprint")
    return name if isinstance(name, str) and not is_template(name) else None


def _way_back(start: Blueprint, child: Blueprint, catalog: Catalog) -> list[str]:
    """The names from `start` over `child` to `start` again, if there is such a way."""
    came_from: dict[str, str] = {child.name: start.name}
    waiting = [child]
    while waiting:
        current = waiting.pop()
        if current.name == start.name:
            way = [start.name]
            while len(way) == 1 or way[-1] != start.name:
                way.append(came_from[way[-1]])
            return way[::-1]
        for _, task in _child_tasks(current):
            name = _child(task)
            if name is None or name in came_from:
                continue
            came_from[name] = current.name
            found = start if name == start.name else catalog.get("blueprint", name)
            if isinstance(found, Blueprint):
                waiting.append(found)
    return []
