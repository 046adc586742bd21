"""The steps of a template are counted: what would take seconds ends, for nothing else runs meanwhile.

A step is an expression in a loop, an item that a filter goes through, or a piece of text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from functools import wraps
from typing import Any

from jinja2 import nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.visitor import NodeTransformer

from muster.blueprints import inner_texts

MAX_STEPS = 400_000
"""Of one evaluation; they take about a second."""

_PIECE = 256
"""Characters of text that take about as long as one step."""

_left: ContextVar[int] = ContextVar("_left", default=MAX_STEPS)


def begin() -> None:
    """Starts an evaluation."""
    _left.set(MAX_STEPS)
    inner_texts.begin()


def spend(steps: int) -> None:
    """Count steps, before they are made where that is possible."""
    left = _left.get() - steps
    if left < 0:
        raise SecurityError(f"it takes more than {MAX_STEPS:,} steps")
    _left.set(left)


def spend_text(text: str) -> None:
    """Count going through a text."""
    spend(len(text) // _PIECE)


def _counted(value: Any, weight: int) -> Any:
    """What will be gone through, `weight` steps an item."""
    if isinstance(value, list | tuple | range | Mapping):
        spend(len(value) * weight)
    elif isinstance(value, Iterator):
        return _each(value, weight)
    return value


def _each(values: Iterator[Any], weight: int) -> Iterator[Any]:
    for value in values:
        spend(weight)
        yield value


_GIVEN: dict[str, Callable[[Context], tuple[Any, ...]]] = {
    "": lambda _: (),
    "context": lambda context: (context,),
    "environment": lambda context: (context.environment,),
    "eval_context": lambda context: (context.eval_ctx,),
}
"""What a filter of Jinja2 wants before the value."""


def working(function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter whose steps are counted; as it takes the context, compiling a template does not work it out."""
    given = _GIVEN[getattr(getattr(function, "jinja_pass_arg", None), "name", "")]

    @pass_context
    @wraps(function)
    def run(context: Context, value: Any, *rest: Any, **options: Any) -> Any:
        if isinstance(value, str):
            spend_text(value)
        result = function(*given(context), _counted(value, 1), *rest, **options)
        if isinstance(result, str):
            spend_text(result)
        return result

    return run


@pass_context
def looped(_: Context, value: Any, weight: int) -> Any:
    """The filter that `Counting` gives each loop."""
    return _counted(list(value) if isinstance(value, str) else value, weight)


def spend_all(value: Any) -> None:
    """Count going through a value and all that is in it."""
    todo = [value]
    while todo:
        one = todo.pop()
        if isinstance(one, str):
            spend_text(one)
        elif isinstance(one, Mapping):
            spend(len(one))
            todo += one.values()
        elif isinstance(one, list | tuple):
            spend(len(one))
            todo += one


@pass_context
def compared(_: Context, value: Any) -> Any:
    """The filter that `Counting` gives what is compared with something that is not written out."""
    spend_all(value)
    return value


def comparing(function: Callable[..., Any]) -> Callable[..., Any]:
    """A test of Jinja2 (`is in`, `is eq`) whose steps are counted."""

    @wraps(function)
    def run(*values: Any) -> Any:
        for value in values:
            spend_all(value)
        return function(*values)

    return run


class Counting(NodeTransformer):
    """Makes filters of what cannot be intercepted: `a ~ b`, what each loop goes through, what is compared."""

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802 - named by Jinja2
        self.generic_visit(node)
        return nodes.Filter(nodes.List(node.nodes), "concat", [], [], None, None, lineno=node.lineno)

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:  # noqa: N802 - named by Jinja2
        self.generic_visit(node)
        operands = [node.expr, *(operand.expr for operand in node.ops)]
        if not any(isinstance(operand, nodes.Const) for operand in operands) or _searches(node):
            node.expr = _compared(node.expr)
            for operand in node.ops:
                operand.expr = _compared(operand.expr)
        return node

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802 - named by Jinja2
        weight = nodes.Const(1 + sum(1 for _ in node.find_all(nodes.Node)))
        self.generic_visit(node)
        node.iter = nodes.Filter(node.iter, "looped", [weight], [], None, None, lineno=node.lineno)
        return node


def _searches(node: nodes.Compare) -> bool:
    return any(operand.op in {"in", "notin"} for operand in node.ops)


def _compared(node: nodes.Expr) -> nodes.Expr:
    if isinstance(node, nodes.Const):
        return node
    return nodes.Filter(node, "compared", [], [], None, None, lineno=node.lineno)
