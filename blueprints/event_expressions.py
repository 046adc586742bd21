"""CEL over an event: values taken from it (`key`, `id`, `each`), and filters over elements that name it.

Where `each` gives items, an expression may read `item` and `index` as well.  The library converts all that it is
given, so it is given only what an expression reads; and a plain path (`event.body.alerts`) never gets there.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from muster.blueprints.condition_cost import MAX_COST, Cost, size_of
from muster.blueprints.expressions import (
    CONDITION_LEAVES_OUT,
    ELEMENT_FIELDS,
    FILTER_LEAVES_OUT,
    FILTER_NAMES,
    EvaluationError,
    at,
    compiled,
    compiled_condition,
    element_data,
    environment,
    missing_key,
    reason,
    text_functions,
    words_of,
)
from muster.blueprints.paths import join
from muster.blueprints.references import EVENT_SCOPE, missing_in, only, path_of, reads
from muster.mesh.canonical import canonical
from muster.mesh.errors import InvalidError, Problem

MOST_ITEMS: Final = 1000
"""Items that `each` may give."""

LONGEST_KEY: Final = 255
"""Characters that `key` and `id` may give."""

_TYPES: Final = {"event": "map<string, dyn>", "item": "dyn", "index": "int"}


class _OverEvent:
    """What expressions over an event share."""

    def __init__(self, text: str, variables: tuple[str, ...]) -> None:
        self.text = text
        self._cost = Cost(text)
        self._variables = variables
        self._fields = {name: reads(text, name) for name in variables}

    @property
    def shown(self) -> str:
        """The expression as it is shown."""
        return f"`{self.text.strip()}`"

    def given(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """What it reads of the event and the item."""
        return {name: self._read(name, values[name]) for name in self._variables}

    def _read(self, name: str, value: Any) -> Any:
        fields = self._fields[name]
        return value if fields is None or not isinstance(value, Mapping) else only(value, fields)

    def check_cost(self, data: Mapping[str, Any]) -> None:
        """Refuse what could block everything else.

        Raises:
            EvaluationError: it could take too long on these values.
        """
        if self._cost.of(size_of(data)) > MAX_COST:
            raise EvaluationError(f"{self.shown} could take too long on the values that it reads")

    def failed(self, why: str, values: Mapping[str, Any]) -> EvaluationError:
        """It cannot be evaluated, in words."""
        seen = {name: values[name] for name in self._variables}
        return EvaluationError(f"{self.shown} cannot be evaluated: {reason(why, self.text, seen)}")


class EventValue(_OverEvent):
    """An expression whose value is taken from an event."""

    def __init__(self, text: str, variables: tuple[str, ...] = EVENT_SCOPE.variables) -> None:
        """Compile it.

        Raises:
            InvalidError: with line and column of each problem, counted in the text.
        """
        super().__init__(text, variables)
        self._expression = compiled(text, _value_environment(variables), variables, CONDITION_LEAVES_OUT - {"map"})
        self._path = path_of(text, variables)
        self.type: str = self._expression.return_type().name()
        """Its type in CEL; `DYN` where only the event says."""

    def of(self, values: Mapping[str, Any]) -> Any:
        """Its value, as JSON has it.

        Raises:
            EvaluationError: it reads something that is missing, or it gives something else than JSON has.
        """
        if self._path is not None:
            return self._looked_up(values, self._path)
        data = self.given(values)
        self.check_cost(data)
        try:
            result = self._expression.eval(data=data)
            error = str(result.value()) if result.type().name() == "ERROR" else ""
            value = None if error else result.plain_value()
        except (RuntimeError, ValueError, TypeError, OverflowError, RecursionError) as failure:
            raise self.failed(str(failure), values) from None
        if error:
            raise self.failed(error, values)
        if not _is_json(value):
            raise EvaluationError(f"{self.shown} gives {result.type().name().lower()}, which is not a JSON value")
        return value

    def _looked_up(self, values: Mapping[str, Any], path: tuple[str, ...]) -> Any:
        value: Any = values
        for place, name in enumerate(path):
            if not isinstance(value, Mapping):
                why = f"`{join('', *path[:place])}` is {words_of(value)}, which has no fields"
                raise EvaluationError(f"{self.shown} cannot be evaluated: {why}")
            if name not in value:
                raise EvaluationError(f"{self.shown} cannot be evaluated: there is no `{join('', *path[: place + 1])}`")
            value = value[name]
        return value

    def text_of(self, values: Mapping[str, Any]) -> str:
        """Its value as text: a number or a truth value as JSON writes it.

        Raises:
            EvaluationError: it cannot be evaluated, gives a list, a map or nothing, or more than `LONGEST_KEY`.
        """
        value = self.of(values)
        if isinstance(value, bool | int | float):
            value = canonical(value).decode()
        if not isinstance(value, str):
            raise EvaluationError(f"{self.shown} must give text, but gives {words_of(value)}")
        if len(value) > LONGEST_KEY:
            raise EvaluationError(f"{self.shown} gives {len(value)} characters; the most are {LONGEST_KEY}")
        return value

    def items_of(self, values: Mapping[str, Any]) -> list[Any]:
        """Its value as a list.

        Raises:
            EvaluationError: it cannot be evaluated, gives something else, or more than `MOST_ITEMS`.
        """
        value = self.of(values)
        if not isinstance(value, list):
            raise EvaluationError(f"{self.shown} must give a list, but gives {words_of(value)}")
        if len(value) > MOST_ITEMS:
            raise EvaluationError(f"{self.shown} gives {len(value)} items; the most are {MOST_ITEMS}")
        return value


class EventFilter(_OverEvent):
    """A condition over `element` that names the event, or the item."""

    def __init__(self, text: str, variables: tuple[str, ...] = EVENT_SCOPE.variables) -> None:
        """Compile it.

        Raises:
            InvalidError: with line and column of each problem, counted in the text.
        """
        super().__init__(text, variables)
        known = (*FILTER_NAMES, *variables)
        self._expression = compiled_condition(text, _filter_environment(variables), known, FILTER_LEAVES_OUT)

    def matches(self, view: Mapping[str, Any], given: Mapping[str, Any]) -> bool:
        """Whether it holds for an element; what it cannot be evaluated for does not match.

        Raises:
            EvaluationError: that is not the element's fault: the event has no such field.
        """
        data = {**element_data(view), **given}
        self.check_cost(data)
        try:
            value = self._expression.eval(data=data).value()
        except Exception:  # noqa: BLE001 - too many steps, or data that CEL has no form for
            return False
        if isinstance(value, str) and missing_in(self.text, given, missing_key(value)):
            raise self.failed(value, given)
        return value is True


def check_value(text: str, path: str, variables: tuple[str, ...], wanted: str) -> list[Problem]:
    """What is wrong with an expression at `path` and must give `wanted`: text, or a list."""
    try:
        value = EventValue(text, variables)
    except InvalidError as error:
        return [at(problem, path) for problem in error.problems]
    fitting = {"STRING", "INT", "UINT", "DOUBLE", "BOOL"} if wanted == "text" else {"LIST"}
    if value.type == "DYN" or value.type.partition("<")[0] in fitting:
        return []
    return [Problem(path=path, message=f"it must give {wanted}, but gives {value.type.lower()}", line=1, column=1)]


def check_event_filter(text: str, path: str, variables: tuple[str, ...]) -> list[Problem]:
    """What is wrong with a filter at `path` and may name the event."""
    try:
        EventFilter(text, variables)
    except InvalidError as error:
        return [at(problem, path) for problem in error.problems]
    return []


def _is_json(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_json, value))
    if isinstance(value, dict):
        return all(isinstance(name, str) and _is_json(inner) for name, inner in value.items())
    return value is None or isinstance(value, str | bool | int | float)


@lru_cache(maxsize=8)
def _value_environment(variables: tuple[str, ...]) -> Any:
    return environment({name: _TYPES[name] for name in variables}, text_functions())


@lru_cache(maxsize=8)
def _filter_environment(variables: tuple[str, ...]) -> Any:
    of_element = {f"element.{name}": type_ for name, type_ in ELEMENT_FIELDS.items()}
    return environment({**of_element, **{name: _TYPES[name] for name in variables}})
