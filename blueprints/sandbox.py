"""The Jinja2 environment of templates: what they may do, and nothing else.

Allowed: text, expressions, `if` and `for`.  Fields of values are read by key only, so
`inputs.items` is the input of that name, and no method of a Python object but a few harmless ones
of text and maps can be reached.  What could grow without bound is left out or limited.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache, partial
from itertools import islice
from typing import Any

import msgspec
from jinja2 import StrictUndefined, TemplateSyntaxError, UndefinedError, meta, nodes
from jinja2.exceptions import SecurityError
from jinja2.exceptions import TemplateError as JinjaError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import missing

from muster.blueprints import limits
from muster.blueprints.limits import must_be_there
from muster.blueprints.paths import join
from muster.blueprints.references import Scope, unknown
from muster.blueprints.steps import Counting, begin, compared, comparing, looped, spend, spend_text, working
from muster.blueprints.suggest import did_you_mean

FAILURES = (
    JinjaError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError,
    SyntaxError, MemoryError,
)  # fmt: skip
"""What compiling a template (Python's own limits) or evaluating it may raise."""

_MAX_TOKENS = 10_000
"""Of one template, a text between expressions counting as one; so many take about a second to compile."""

_MAX_LOOPS = 2
"""Loops inside each other."""
_MAX_POWER = 64

_NODES_LEFT_OUT = (
    nodes.Assign, nodes.AssignBlock, nodes.Macro, nodes.CallBlock, nodes.FilterBlock, nodes.With, nodes.Block,
    nodes.Extends, nodes.Include, nodes.Import, nodes.FromImport, nodes.ScopedEvalContextModifier,
)  # fmt: skip
_words = str.split  # a list this long reads best as words
_TEXT_METHODS = frozenset(
    _words(
        """
    capitalize casefold count endswith find index isalnum isalpha isdecimal isdigit islower isnumeric isspace istitle
    isupper lower lstrip partition removeprefix removesuffix rfind rindex rpartition rsplit rstrip split splitlines
    startswith strip swapcase title upper
        """
    )
)
_MAP_METHODS = frozenset({"get", "items", "keys", "values"})
_QUICK_FILTERS = frozenset(_words("abs count d default first float int items last length round safe"))
_FILTERS = _words(
    """
    capitalize dictsort e escape groupby list lower map max min reject rejectattr reverse select selectattr sort string
    striptags sum title trim truncate unique upper urlencode wordcount
    """
)
_COMPARING_TESTS = frozenset(_words("in eq == equalto ne != lt < lessthan le <= gt > greaterthan ge >="))
"""Tests that go through what they are given."""


class MissingError(UndefinedError):
    """Something that the template reads is missing."""

    def __init__(self, holder: Any, name: Any, message: str | None = None) -> None:
        super().__init__(message)
        self.holder, self.name = holder, name

    def shown(self, values: Mapping[str, Any]) -> str:
        """The message with the whole path of what is missing."""
        if self.name is None:
            return str(self)
        base = "" if self.holder is missing else _path_of(self.holder, values)
        if base is None:
            return f"there is no {self.name!r} in {type(self.holder).__name__} {str(self.holder)[:60]!r}"
        return f"there is no `{join(base, self.name)}`"


def _path_of(wanted: Any, value: Any, path: str = "", depth: int = 0) -> str | None:
    """Returns the path of an object in the values, found by identity."""
    if value is wanted:
        return path
    inner: Any = ()
    if isinstance(value, Mapping):
        inner = value.items()
    elif isinstance(value, list | tuple):
        inner = enumerate(value)
    if depth < 20:  # noqa: PLR2004 - deeper data gets a plainer message
        for key, each in inner:
            if isinstance(each, Mapping | list | tuple):
                found = _path_of(wanted, each, join(path, key), depth + 1)
                if found is not None:
                    return found
    return None


class Missing(StrictUndefined):
    """What a template gets for a name or field that is missing: any use of it raises `MissingError`."""

    __slots__ = ()

    def __init__(
        self, hint: str | None = None, obj: Any = missing, name: str | None = None, exc: Any = UndefinedError
    ) -> None:
        raising: Any = partial(MissingError, obj, name) if exc is UndefinedError else exc
        super().__init__(hint, obj, name, raising)


class Sandbox(ImmutableSandboxedEnvironment):
    """Jinja2's sandbox, closed further."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def getattr(self, obj: Any, attribute: str) -> Any:
        """`a.b`: the field `b` of a map; else one of the harmless methods."""
        must_be_there(obj)
        if isinstance(obj, Mapping):
            if attribute in obj:
                return obj[attribute]
            if attribute in _MAP_METHODS:
                return getattr(obj, attribute)
        elif isinstance(obj, str) and attribute in _TEXT_METHODS:
            spend_text(obj)
            return super().getattr(obj, attribute)
        elif isinstance(obj, _LOOP):
            return super().getattr(obj, attribute)
        return self.undefined(obj=obj, name=attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """`a["b"]`: a map's field, or an item of a list or text."""
        must_be_there(obj)
        if isinstance(obj, Mapping | list | tuple | str):
            try:
                return obj[argument]
            except (LookupError, TypeError):
                pass
        return self.undefined(obj=obj, name=argument)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Operators that could make something huge of something small."""
        must_be_there(left)
        must_be_there(right)
        if operator == "+":
            if isinstance(left, str) and isinstance(right, str):
                return limits.concat([left, right])
            if isinstance(left, list | tuple) and isinstance(right, list | tuple):
                spend(len(left) + len(right))
            return super().call_binop(context, operator, left, right)
        if not isinstance(left, int | float) or not isinstance(right, int | float):
            raise SecurityError(f"`{operator}` works on numbers only")
        if operator == "**" and (abs(right) > _MAX_POWER or abs(left) > 2**_MAX_POWER):
            raise SecurityError("the power is too large")
        return super().call_binop(context, operator, left, right)

    def _generate(self, source: nodes.Template, *rest: Any, **options: Any) -> str:
        """Compile, with `a ~ b` and loops held to the limits as well."""
        return super()._generate(Counting().visit(source), *rest, **options)

    def is_safe_callable(self, obj: Any) -> bool:
        """Methods that `getattr` gave, and `range`."""
        return super().is_safe_callable(obj) and not isinstance(obj, type)


def _loop_type() -> type:
    from jinja2.runtime import LoopContext

    return LoopContext


_LOOP = _loop_type()


def _as_json_writes_it(value: Any) -> Any:
    """A value between other text; Python's `True`, `None` and `{'a': 1}` would break the file that it is put into."""
    if value is None or isinstance(value, bool | float | dict | list | tuple):
        return msgspec.json.encode(value).decode()
    return value


@lru_cache(maxsize=1)
def _environment() -> Sandbox:
    made = Sandbox(
        undefined=Missing, autoescape=False, keep_trailing_newline=True, cache_size=0, finalize=_as_json_writes_it
    )
    made.globals = {"range": limits.number_range}
    filters = {**{name: made.filters[name] for name in (*_QUICK_FILTERS, *_FILTERS)}, **limits.FILTERS}
    made.filters = {name: run if name in _QUICK_FILTERS else working(run) for name, run in filters.items()}
    made.filters |= {"looped": looped, "compared": compared}
    tests: dict[str, Any] = made.tests
    made.tests = {name: comparing(test) if name in _COMPARING_TESTS else test for name, test in tests.items()}
    return made


def evaluate(text: str, values: dict[str, Any], limit: int) -> Any:
    """The template's text, or the value of the one expression that it is.

    Raises:
        MissingError: something is missing.
        FAILURES: anything else.
    """
    is_value, run = _compiled(text)
    begin()
    if is_value:
        return limits.plain(run(values))
    size, parts = 0, []
    for part in run(values):
        size += len(part)
        if size > limit:
            raise SecurityError(f"it gets longer than {limit // 1024} KB")
        parts.append(part)
    return "".join(parts)


def faults(text: str, scope: Scope | None) -> list[tuple[str, int, str]]:
    """What is wrong with a template: message, line (0 if unknown), hint."""
    try:
        _compiled(text)
    except TemplateSyntaxError as error:
        return [(f"not a template: {error.message}", error.lineno, "")]
    except FAILURES as error:
        return [(f"not a template: {error}", 0, "")]
    return [] if scope is None else list(_unknown_variables(text, scope))


def _unknown_variables(text: str, scope: Scope) -> Iterator[tuple[str, int, str]]:
    tree = _environment().parse(text)
    free = meta.find_undeclared_variables(tree) - {"range"}
    for name in tree.find_all(nodes.Name):
        if name.name in free and name.name not in scope.variables:
            free.discard(name.name)
            yield f"there is no `{name.name}`", name.lineno, did_you_mean(name.name, scope.variables)
    seen: set[int] = set()
    for node in tree.find_all((nodes.Getattr, nodes.Getitem)):  # outer ones first
        chain = _chain(node, seen)
        if len(chain) > 1 and chain[0] in scope.variables and chain[0] in free:
            problem = unknown(scope, chain[0], chain[1], chain[2] if len(chain) > 2 else None)  # noqa: PLR2004
            if problem is not None:
                yield problem[0], node.lineno, problem[1]


def _chain(node: nodes.Expr, seen: set[int]) -> list[str]:
    """`a.b["c"]` as its names; nothing if it is part of a longer one, or is computed."""
    parts: list[str] = []
    while isinstance(node, nodes.Getattr | nodes.Getitem):
        if id(node) in seen:
            return []
        seen.add(id(node))
        if isinstance(node, nodes.Getattr):
            parts.append(node.attr)
        elif isinstance(node.arg, nodes.Const) and isinstance(node.arg.value, str):
            parts.append(node.arg.value)
        else:
            parts.clear()  # what follows a computed index says nothing
        node = node.node
    return [node.name, *reversed(parts)] if isinstance(node, nodes.Name) else []


@lru_cache(maxsize=512)
def _compiled(text: str) -> tuple[bool, Callable[[dict[str, Any]], Any]]:
    """Whether it is one expression, and the function that evaluates it or generates its parts."""
    environment = _environment()
    if any(islice(environment.lex(text), _MAX_TOKENS, None)):
        raise TemplateSyntaxError("too many expressions for one template", 1)
    tree = environment.parse(text)
    _check_tree(tree, 0)
    body = tree.body
    output = body[0] if len(body) == 1 else None
    if isinstance(output, nodes.Output) and len(output.nodes) == 1:
        only = output.nodes[0]
        if not isinstance(only, nodes.TemplateData) and text.startswith("{{") and text.endswith("}}"):
            return True, _looked_up(only, _expression(environment, text[2:-2].strip("-+").strip()))
    template = environment.from_string(tree)
    return False, template.generate


def _expression(environment: Sandbox, source: str) -> Callable[[dict[str, Any]], Any]:
    compiled = environment.compile_expression(source, undefined_to_none=False)
    return lambda values: compiled(**values)


def _looked_up(node: nodes.Expr, run: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Any]], Any]:
    """The function itself, or for `a.b["c"]`, which is most of what people write, one that need not run Jinja2."""
    names = _chain(node, set())
    if not names or not _is_plain(node):
        return run

    def look_up(values: dict[str, Any]) -> Any:
        value: Any = values
        for name in names:
            if type(value) is not dict or name not in value:
                return run(values)  # it knows what to say of what is missing
            value = value[name]
        return value

    return look_up


def _is_plain(node: nodes.Expr) -> bool:
    """Whether nothing in `a.b["c"]` is worked out."""
    while isinstance(node, nodes.Getattr | nodes.Getitem):
        if isinstance(node, nodes.Getitem) and not (
            isinstance(node.arg, nodes.Const) and isinstance(node.arg.value, str)
        ):
            return False
        node = node.node
    return isinstance(node, nodes.Name)


def _check_tree(node: nodes.Node, loops: int) -> None:
    if isinstance(node, _NODES_LEFT_OUT):
        raise TemplateSyntaxError(f"{type(node).__name__.lower()} is not available here", node.lineno)
    if isinstance(node, nodes.For):
        loops += 1
        if node.recursive or loops > _MAX_LOOPS:
            raise TemplateSyntaxError(f"at most {_MAX_LOOPS} loops inside each other", node.lineno)
    for child in node.iter_child_nodes():
        _check_tree(child, loops)
