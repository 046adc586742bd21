"""`uses: order`: child orders, and waiting for them without holding a slot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from muster.blueprints.definition import Task
from muster.blueprints.expressions import check_filter
from muster.blueprints.kinds.fields import Fields, check_fields, read_fields
from muster.blueprints.paths import join
from muster.blueprints.task import OUTPUTS_LIMIT, Context, Done, Failed, Outcome, Suspended
from muster.blueprints.templates import is_template
from muster.mesh.errors import InvalidError, NotFoundError, Problem, RefusedError, TooLargeError, UsageError
from muster.mesh.model import FINAL_STATES, Child, OrderRequest, OrderState


class OrderFields(Fields):
    """What `with:` may say."""

    blueprint: str
    on: str | None = None
    """One element; without any target, the element of this order."""
    pool: str | None = None
    where: str | None = None
    """A filter (CEL): the first match, or `count` of them, or `all`."""
    count: int | None = None
    all: bool = False
    inputs: dict[str, Any] = {}
    labels: dict[str, str] = {}
    wait: bool = True
    """Continue only once the child orders have ended, and fail if one of them did."""


_NOT_FINISHED = {OrderState.FAILED, OrderState.CANCELLED, OrderState.CANCELLING}
_HOPELESS = (InvalidError, UsageError, NotFoundError, TooLargeError)


class ChildOrder:
    """Makes orders, waits for them, and takes over their outputs."""

    def check(self, task: Task, path: str) -> Iterator[Problem]:
        """Unknown fields, more than one target, a filter that does not compile."""
        yield from check_fields(OrderFields, task, path)
        inside = join(path, "with")
        targets = [name for name in ("on", "pool", "where") if task.with_.get(name) is not None]
        if len(targets) > 1:
            message = f"say one of `on`, `pool` and `where`, not {' and '.join(targets)}"
            yield Problem(path=inside, message=message)
        for name in ("count", "all"):
            if task.with_.get(name) and "where" not in task.with_:
                yield Problem(path=join(inside, name), message=f"`{name}` goes with `where`")
        if task.with_.get("count") is not None and task.with_.get("all"):
            yield Problem(path=join(inside, "count"), message="say `count` or `all`, not both")
        where = task.with_.get("where")
        if isinstance(where, str) and is_template(where):
            message = "a filter can be no template: what is filled in would become a part of the filter"
            yield Problem(
                path=join(inside, "where"), message=message, hint="target `on` or `pool`; these may be templates"
            )
        elif isinstance(where, str):
            yield from check_filter(where, join(inside, "where"))

    async def run(self, task: Task, context: Context) -> Outcome:
        """Make the orders, or find the ones that were made, and see how they are."""
        fields = read_fields(OrderFields, task)
        if isinstance(fields, str):
            return Failed(error=fields, final=True)
        try:
            orders = await _orders(fields, context)
        except (InvalidError, UsageError, RefusedError, TooLargeError) as error:
            return Failed(error=str(error), final=isinstance(error, _HOPELESS))
        if not fields.wait:
            return Done(outputs={"orders": [{"id": order} for order in orders]})
        children = {order: context.children.get(order) for order in orders}
        if any(child is None or child.state not in FINAL_STATES for child in children.values()):
            return Suspended(children=True, orders=tuple(orders), memo={"orders": orders})
        return _outcome({order: child for order, child in children.items() if child is not None})


async def _orders(fields: OrderFields, context: Context) -> list[str]:
    """Ids of the child orders.

    When the task starts anew, because of its `retry` or since its order was retried, orders that failed before are
    made again under another key: their old key would only find the failed ones.
    """
    if context.memo is not None:
        return [str(order) for order in context.memo["orders"]]
    request = OrderRequest(
        blueprint=fields.blueprint,
        on=fields.on if fields.on or fields.pool or fields.where else context.element,
        pool=fields.pool,
        where=fields.where,
        count=fields.count,
        all=fields.all,
        inputs=fields.inputs,
        labels=fields.labels,
        parent=context.order,
    )
    orders = await context.create_orders(request, key=context.job)
    again = 1
    while any(_failed(context.children.get(order)) for order in orders):  # new ones are not among the children yet
        again += 1
        orders = await context.create_orders(request, key=f"{context.job}#{again}")
    return orders


def _failed(child: Child | None) -> bool:
    return child is not None and child.state in _NOT_FINISHED


def _outcome(children: Mapping[str, Child]) -> Outcome:
    orders = [{"id": order, "state": str(child.state), "outputs": child.outputs} for order, child in children.items()]
    outputs: dict[str, Any] = {"orders": orders}
    if len(children) == 1:
        (only,) = children.values()
        outputs = {**only.outputs, "orders": orders}
    if len(msgspec.json.encode(outputs)) > OUTPUTS_LIMIT:  # each child still has its own
        outputs["orders"] = [{"id": order, "state": str(child.state)} for order, child in children.items()]
    failed = [(order, child) for order, child in children.items() if _failed(child)]
    if not failed:
        return Done(outputs=outputs)
    ended = "; ".join(f"{order} {child.state}{f': {child.reason}' if child.reason else ''}" for order, child in failed)
    return Failed(error=f"{len(failed)} of {len(children)} child orders did not finish: {ended}", outputs=outputs)
