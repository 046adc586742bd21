"""What is checked on a blueprint when it is applied."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import timedelta

from muster.blueprints.child_orders import check_children
from muster.blueprints.definition import Blueprint, Retry, Task, duration, size
from muster.blueprints.expressions import check_condition, check_template
from muster.blueprints.kinds import task_kinds
from muster.blueprints.kinds.script_values import variable
from muster.blueprints.objects.base import Catalog
from muster.blueprints.paths import join
from muster.blueprints.references import Scope
from muster.blueprints.schemas import check_schema, schema_problems
from muster.blueprints.suggest import did_you_mean
from muster.mesh import names
from muster.mesh.errors import Problem

_INPUT = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,62}")
_USER = re.compile(r"[a-z_][a-z0-9_.-]{0,31}")
_LEAST_MEMORY = 1024**2
_MAX_ATTEMPTS = 1000
_MAX_TASKS = 1000


def check_blueprint(blueprint: Blueprint, catalog: Catalog) -> Iterator[Problem]:
    """Everything beyond types."""
    yield from _check_inputs(blueprint)
    yield from _check_duration(blueprint.timeout, "timeout")
    yield from _check_isolation(blueprint)
    if not blueprint.tasks:
        yield Problem(path="tasks" if blueprint.on_failure or blueprint.always else "", message="there are no tasks")
    if sum(1 for _ in blueprint.every_task()) > _MAX_TASKS:
        yield Problem(path="tasks", message=f"more than {_MAX_TASKS} tasks", hint="split it with `uses: order`")
    for path, task, scope, is_repeated in _tasks(blueprint):
        if is_repeated:
            message = f"there are two tasks named {task.name!r}; names are unique over all three lists"
            yield Problem(path=join(path, "name"), message=message)
        yield from _check_task(task, path, scope)
    yield from check_children(blueprint, catalog)


def _check_isolation(blueprint: Blueprint) -> Iterator[Problem]:
    if blueprint.memory is not None:
        try:
            too_little = size(blueprint.memory) < _LEAST_MEMORY
        except ValueError as error:
            yield Problem(path="memory", message=str(error))
        else:
            if too_little:
                yield Problem(path="memory", message="no shell starts with less than 1MB")
    if blueprint.processes is not None and blueprint.processes < 1:
        yield Problem(path="processes", message="an order has at least one process")
    if blueprint.run_as is not None and not _USER.fullmatch(blueprint.run_as):
        yield Problem(path="run_as", message=f"{blueprint.run_as!r} is not a user's name")


def _tasks(blueprint: Blueprint) -> Iterator[tuple[str, Task, Scope, bool]]:
    """Each task with its place, what it may read, and whether its name was there before."""
    every = [task.name for task in blueprint.every_task()]
    before: set[str] = set()
    for section in ("tasks", "on_failure", "always"):
        for place, task in enumerate(getattr(blueprint, section)):
            scope = Scope(inputs=frozenset(blueprint.inputs), tasks=frozenset(before), later=frozenset(every) - before)
            yield join(section, place), task, scope, task.name in before
            before.add(task.name)


def _check_inputs(blueprint: Blueprint) -> Iterator[Problem]:
    variables: dict[str, str] = {}
    for name, schema in blueprint.inputs.items():
        path = join("inputs", name)
        if not _INPUT.fullmatch(name):
            yield Problem(path=path, message=f"{name!r} is not an input's name", hint="letters, digits, '_' and '-'")
        other = variables.setdefault(variable(name), name)
        if other != name:
            message = f"a script could not distinguish it from input {other!r}: both are {variable(name)}"
            yield Problem(path=path, message=message)
        found = list(check_schema(schema, path))
        yield from found
        if not found and "default" in schema:
            yield from schema_problems(schema, schema["default"], join(path, "default"))


def _check_task(task: Task, path: str, scope: Scope) -> Iterator[Problem]:
    if not names.is_name(task.name):
        yield Problem(path=join(path, "name"), message=f"{task.name[:80]!r} is not a name", hint=names.NAME_RULE)
    yield from _check_duration(task.timeout, join(path, "timeout"))
    if task.retry is not None:
        yield from _check_retry(task.retry, join(path, "retry"))
    if task.when is not None:
        yield from check_condition(task.when, join(path, "when"), scope)
    yield from check_template(task.with_, join(path, "with"), scope)
    yield from check_template(task.files, join(path, "files"), scope)
    yield from check_template(task.env, join(path, "env"), scope)
    kinds = task_kinds()
    if task.uses not in kinds:
        message = f"there is no kind of task {task.uses!r}"
        yield Problem(path=join(path, "uses"), message=message, hint=did_you_mean(task.uses, kinds))
    else:
        yield from kinds[task.uses].check(task, path)


def _check_retry(retry: Retry, path: str) -> Iterator[Problem]:
    yield from _check_duration(retry.delay, join(path, "delay"), zero=True)
    yield from _check_duration(retry.max_delay, join(path, "max_delay"), zero=True)
    if not 1 <= retry.attempts <= _MAX_ATTEMPTS:
        yield Problem(path=join(path, "attempts"), message=f"{retry.attempts} is not from 1 to {_MAX_ATTEMPTS}")
    if not 1 <= retry.backoff <= 100:  # noqa: PLR2004 - more would jump to max_delay at once
        yield Problem(path=join(path, "backoff"), message=f"{retry.backoff} is not from 1 to 100")


def _check_duration(text: str | None, path: str, *, zero: bool = False) -> Iterable[Problem]:
    if text is None:
        return
    try:
        span = duration(text)
    except ValueError as error:
        yield Problem(path=path, message=str(error))
        return
    if span == timedelta(0) and not zero:
        yield Problem(path=path, message="it must be longer than nothing")
