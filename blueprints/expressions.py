"""CEL: filters over elements and conditions of tasks, checked when they are applied, not when they run.

The checker knows every variable by its dotted name, so `element.kidn` is refused with its place.
The CEL library is imported when the first expression is compiled.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar

from muster.blueprints import inner_texts
from muster.blueprints.condition_cost import MAX_COST, Cost, size_of
from muster.blueprints.references import (
    EVENT_SCOPE,
    VARIABLES,
    Fields,
    Scope,
    calls,
    check_references,
    fieldless_in,
    missing_in,
    only,
    reads,
)
from muster.blueprints.suggest import did_you_mean
from muster.blueprints.templates import TemplateError, check_template, render
from muster.mesh.errors import InvalidError, MusterError, Problem

__all__ = [
    "Condition",
    "EvaluationError",
    "EventCondition",
    "Filter",
    "Scope",
    "TemplateError",
    "check_condition",
    "check_filter",
    "check_template",
    "render",
]

MAX_LENGTH = 10_000
"""Characters of one expression."""

ELEMENT_FIELDS = {
    "kind": "string",
    "name": "string",
    "labels": "map<string, string>",
    "params": "map<string, dyn>",
    "profiles": "list<string>",
    "mode": "string",
    "online": "bool",
    "drained": "bool",
    "slots": "int",
}
"""What a filter may read of an element, and its type in CEL."""

CONDITION_LEAVES_OUT = frozenset({"format", "join", "map", "optFlatMap", "optMap", "quote"})
"""What makes something of any size out of a few characters: filters and conditions decide, and make nothing.

The compiler writes optMap and optFlatMap out twice: twenty behind each other took it half a minute and 4 GB.
"""

FILTER_LEAVES_OUT = CONDITION_LEAVES_OUT | {"replace"}

_ASK = "ask with has, exists, all, contains or matches"


class EvaluationError(MusterError):
    """A condition cannot be evaluated."""

    status = 422
    code = "evaluation"


class Filter:
    """A condition over `element`."""

    def __init__(self, text: str) -> None:
        """Compile it.

        Raises:
            InvalidError: with line and column of each problem, counted in the text.
        """
        self.text = text
        self._expression = compiled_condition(text, _filter_environment(), FILTER_NAMES, FILTER_LEAVES_OUT)
        self._cost = Cost(text)

    def matches(self, view: Mapping[str, Any]) -> bool:
        """Whether an element matches; one for which it cannot be evaluated (a missing label) does not."""
        if self._cost.of(size_of(view)) > MAX_COST:
            return False
        try:
            return self._expression.eval(data=element_data(view)).value() is True
        except Exception:  # noqa: BLE001 - too many steps, or data that CEL has no form for
            return False  # asked while the log is applied: what is raised there would end every broker for good


class Condition:
    """A task's `when`."""

    variables: ClassVar[tuple[str, ...]] = VARIABLES

    def __init__(self, text: str) -> None:
        """Compile it.

        Raises:
            InvalidError: with line and column of each problem, counted in the text.
        """
        self.text = text
        self._expression = compiled_condition(text, self._environment(), self.variables, CONDITION_LEAVES_OUT)
        self._cost = Cost(text)
        self._fields = {name: reads(text, name) for name in self.variables}

    def _environment(self) -> Any:
        return _condition_environment()

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Whether it holds.

        Raises:
            EvaluationError: it reads something that is missing, or compares what cannot be compared.
        """
        inner_texts.begin()
        result = self._evaluated(values)
        value = result.value()
        if isinstance(value, bool):
            return value
        if result.type().name() == "ERROR":
            raise EvaluationError(f"`{self.text.strip()}` cannot be evaluated: {reason(str(value), self.text, values)}")
        raise EvaluationError(f"`{self.text.strip()}` must be true or false, but gives {words_of(value)}")

    def _evaluated(self, values: Mapping[str, Any]) -> Any:
        data = {name: _read(values.get(name, {}), fields) for name, fields in self._fields.items()}
        if self._cost.of(size_of(data)) > MAX_COST:
            raise EvaluationError(
                f"`{self.text.strip()}` could take too long on the values that it reads; read fewer or smaller ones"
            )
        try:
            return self._expression.eval(data=data)
        except (RuntimeError, ValueError, OverflowError, RecursionError) as error:  # data that CEL has no form for
            raise EvaluationError(f"`{self.text.strip()}` cannot be evaluated: {error}") from None


class EventCondition(Condition):
    """A trigger's `when`, over `event`."""

    variables = EVENT_SCOPE.variables

    def _environment(self) -> Any:
        return _event_environment()


def _read(value: Any, fields: Fields | None) -> Any:
    """What is read of a value: the library converts all that it is given."""
    return value if fields is None or not isinstance(value, Mapping) else only(value, fields)


def element_data(view: Mapping[str, Any]) -> dict[str, Any]:
    """An element as an expression gets it."""
    return {f"element.{name}": list(value) if type(value) is tuple else value for name, value in view.items()}


def check_filter(text: str, path: str) -> list[Problem]:
    """What is wrong with a filter at `path`."""
    try:
        Filter(text)
    except InvalidError as error:
        return [at(problem, path) for problem in error.problems]
    return []


def check_condition(text: str, path: str, scope: Scope) -> list[Problem]:
    """What is wrong with a `when` at `path` and may read what `scope` says."""
    try:
        (EventCondition if scope.variables == EVENT_SCOPE.variables else Condition)(text)
    except InvalidError as error:
        return [at(problem, path) for problem in error.problems]
    return [at(problem, path) for problem in check_references(text, scope)]


def at(problem: Problem, path: str) -> Problem:
    """The problem of an expression at `path`."""
    return Problem(message=problem.message, path=path, line=problem.line, column=problem.column, hint=problem.hint)


FILTER_NAMES = tuple(f"element.{name}" for name in ELEMENT_FIELDS)


@lru_cache(maxsize=1)
def _filter_environment() -> Any:
    return environment({f"element.{name}": type_ for name, type_ in ELEMENT_FIELDS.items()})


@lru_cache(maxsize=1)
def _condition_environment() -> Any:
    any_map = "map<string, dyn>"
    variables = {"inputs": any_map, "tasks": f"map<string, {any_map}>", "element": any_map, "order": any_map}
    return environment(variables, text_functions())


@lru_cache(maxsize=1)
def _event_environment() -> Any:
    return environment({"event": "map<string, dyn>"}, text_functions())


def text_functions() -> list[Any]:
    """`from_json(text)` and `base64.decode(text)`: the library's own decodes without a bound, and makes base64 too."""
    from cel_expr_python import cel

    string, data = cel.Type.STRING, cel.Type.BYTES
    reads_text = cel.Overload("from_json_string", cel.Type.DYN, [string], False, inner_texts.from_json)
    reads_bytes = cel.Overload("from_json_bytes", cel.Type.DYN, [data], False, inner_texts.from_json)
    decodes = cel.Overload("base64_decode", data, [string], False, inner_texts.bytes_of_base64)
    return [
        cel.FunctionDecl("from_json", [reads_text, reads_bytes]),
        cel.FunctionDecl("base64.decode", [decodes]),
    ]


def environment(variables: Mapping[str, str], functions: Sequence[Any] = ()) -> Any:
    """What an expression may read: names, and their types in CEL; and what it may call beside what CEL has."""
    from cel_expr_python import cel
    from cel_expr_python.ext import ext_optional, ext_strings

    string, dyn = cel.Type.STRING, cel.Type.DYN
    any_map = cel.Type.Map(string, dyn)
    types = {
        "string": string,
        "dyn": dyn,
        "bool": cel.Type.BOOL,
        "int": cel.Type.INT,
        "list<string>": cel.Type.List(string),
        "map<string, string>": cel.Type.Map(string, string),
        "map<string, dyn>": any_map,
        "map<string, map<string, dyn>>": cel.Type.Map(string, any_map),
    }
    return cel.NewEnv(
        variables={name: types[type_] for name, type_ in variables.items()},
        extensions=[ext_optional.ExtOptional(), ext_strings.ExtStrings()],
        functions=list(functions),
    )


def compiled(text: str, environment: Any, known: tuple[str, ...], left_out: frozenset[str]) -> Any:
    """An expression, ready to be evaluated.

    Raises:
        InvalidError: with line and column of each problem, counted in the text.
    """
    if len(text) > MAX_LENGTH:
        raise InvalidError("the expression is too long", Problem(message=f"longer than {MAX_LENGTH} characters"))
    if not text.strip():
        raise InvalidError("the expression is empty", Problem(message="the expression is empty", line=1, column=1))
    if refused := [
        Problem(message=f"`{call.name}` is not available here", line=call.line, column=call.column, hint=_ASK)
        for call in calls(text)
        if call.name in left_out
    ]:
        raise InvalidError(f"`{text.strip()}` is not a valid expression", *refused)
    try:
        expression = environment.compile(text)
    except RuntimeError as error:
        problems = list(_problems(text, str(error), known))
        raise InvalidError(f"`{text.strip()}` is not a valid expression", *problems) from None
    return expression


def compiled_condition(text: str, environment: Any, known: tuple[str, ...], left_out: frozenset[str]) -> Any:
    """A condition or filter, ready to be evaluated.

    Raises:
        InvalidError: as `compiled`, or it gives neither true nor false.
    """
    expression = compiled(text, environment, known, left_out)
    result = expression.return_type().name()
    if result not in {"BOOL", "DYN"}:
        message = f"it must be true or false, but is {_type_words(result)}"
        raise InvalidError(
            f"`{text.strip()}` is not a condition",
            Problem(message=message, line=1, column=1, hint="compare it with something: == != < > in"),
        )
    return expression


def missing_key(error: str) -> str:
    """The key that an expression did not find in a map, if that is what its error says."""
    found = _MISSING.search(error)
    return found[1] if found else ""


def reason(error: str, text: str, values: Mapping[str, Any]) -> str:
    """Why an expression cannot be evaluated on these values, in words."""
    if missing := missing_key(error):
        return f"there is no `{missing_in(text, values, missing) or missing}`"
    if _FIELDLESS.search(error) and (found := fieldless_in(text, values)):
        return f"`{found[0]}` is {words_of(found[1])}, which has no fields"
    return in_words(error)


def words_of(value: Any) -> str:
    """What kind of JSON a value is."""
    if isinstance(value, bool):
        return str(value).lower()
    kinds = {Mapping: "a map", list | tuple: "a list", str: "text", bytes: "bytes", int | float: "a number"}
    return next((words for kind, words in kinds.items() if isinstance(value, kind)), "nothing")


_MISSING = re.compile(r'Key not found in map : "(.*)"')
_FIELDLESS = re.compile(r"Applying SELECT to non-message type|Invalid container type: ")
_ERROR = re.compile(r"^(?:[A-Z_]+: )?ERROR: <input>:(\d+):(\d+): (.*)$", re.MULTILINE)
_UNDECLARED = re.compile(r"undeclared reference to '([^']*)'")
_OVERLOAD = re.compile(
    r"(?:found no matching overload for '|No matching overloads found : )([^'(]*)(?:' applied to ')?(\(.*\))"
)
_IN_WORDS = tuple(
    (re.compile(pattern), words)
    for pattern, words in (
        (r"Applying SELECT to non-message type", "it reads a field of something that has none"),
        (r"No matching overloads found : <iter_range>", "it goes through something that is neither a list nor a map"),
        (r"No matching overloads found : @in", "`in` searches something that is neither a list nor a map"),
        (r"No matching overloads found : (\(.*\))\.(\w+)\(.*\)", r"`\2` cannot be used on \1"),
        (r"Index error: index=(-?\d+) size=(\d+)", r"a list of \2 has no item \1"),
        (r"Key not found in map : (.*)", r"a map has no key \1"),
    )
)


def _problems(text: str, error: str, known: tuple[str, ...]) -> Iterator[Problem]:
    """The compiler's message as problems in our words, in the order of the text."""
    lines = text.split("\n")
    found = [(int(line), int(column), message) for line, column, message in _ERROR.findall(error)]
    if not found:
        message = error.partition(": ")[2].rpartition(" [")[0] or error
        yield Problem(message=message, line=1, column=1)
    root = [each for each in found if "*error*" not in each[2]] or found
    for line, column, message in sorted(root):
        if name := _UNDECLARED.match(message):
            reference = name[1]
            start = lines[line - 1].rfind(reference.partition(".")[0], 0, column) if line <= len(lines) else -1
            hint = _hint(reference, known)
            at = start + 1 or column
            yield Problem(message=f"there is no `{reference}`", line=line, column=at, hint=hint)
        else:
            yield Problem(message=in_words(message), line=line, column=column)


def _hint(reference: str, known: tuple[str, ...]) -> str:
    if reference == "element":
        return "read one of its fields: " + ", ".join(known)
    return did_you_mean(reference if "." in known[0] else reference.partition(".")[0], known)


_OPERATORS = re.compile(r"^_?([^_]+)_?$")


def in_words(message: str) -> str:
    """The library's message in words."""
    message = re.sub(r"^[A-Z_]+: ", "", message)
    for pattern, words in _IN_WORDS:
        if known := pattern.fullmatch(message):
            return known.expand(words)
    if overload := _OVERLOAD.match(message):
        operator = _OPERATORS.sub(r"\1", overload[1])
        return f"`{operator}` cannot be used on {overload[2]}"
    if select := re.match(r"expression of type '(.*)' cannot be the operand of a select", message):
        return f"{_type_words(select[1].upper())} has no fields"
    return message.replace(" (in container '')", "").replace("mismatched input '<EOF>'", "the end comes too early;")


def _type_words(name: str) -> str:
    words = {"STRING": "text", "INT": "a whole number", "DOUBLE": "a number", "MAP": "a map", "LIST": "a list"}
    return words.get(name, name.lower())
