"""Templates: Jinja2 in a sandbox, for text in `with:` and `files:`.

Data never becomes code: only the blueprint's text is a template, values are put in as they are.  A
template can neither reach attributes of Python objects nor grow without bound, and everything that is
missing is an error that names its path.  Jinja2 is imported with the first text that needs it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from muster.blueprints.paths import join
from muster.blueprints.references import Scope
from muster.mesh.errors import MusterError, Problem

MAX_RENDERED = 1024 * 1024
"""Characters of one rendered text, or bytes of one value as JSON."""

MAX_TEMPLATE = 256 * 1024
"""Characters of one template."""

_TOO_LONG = f"the template is longer than {MAX_TEMPLATE // 1024} KB"


class TemplateError(MusterError):
    """A template cannot be filled in."""

    status = 422
    code = "template"


def is_template(text: str) -> bool:
    """Whether there is anything to fill in."""
    return "{{" in text or "{%" in text or "{#" in text


def has_template(value: Any) -> bool:
    """Whether `render` would change anything in it."""
    if isinstance(value, str):
        return is_template(value)
    if isinstance(value, Mapping):
        return any(map(has_template, value.values()))
    return isinstance(value, list | tuple) and any(map(has_template, value))


def render(value: Any, values: Mapping[str, Any], path: str = "") -> Any:
    """The value with every text in it filled in; a text that is just `{{ expression }}` keeps the value's type.

    Raises:
        TemplateError: with the path of the text, and of what is missing.
    """
    if isinstance(value, str):
        if not is_template(value):
            return value
        return _render_text(value, values, path)
    if isinstance(value, Mapping):
        return {key: render(inner, values, join(path, key)) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [render(inner, values, join(path, place)) for place, inner in enumerate(value)]
    return value


def as_text(value: Any) -> str:
    """A rendered value where only text can be, in a file or an environment: what is not text is JSON."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def check_template(value: Any, path: str, scope: Scope | None = None) -> list[Problem]:
    """What is wrong with the templates in a value at `path`.

    That is syntax, what the sandbox has not, and, with a `scope`, variables that it has not.
    """
    if isinstance(value, str):
        if not is_template(value):
            return []
        if len(value) > MAX_TEMPLATE:
            return [Problem(message=_TOO_LONG, path=path)]
        from muster.blueprints import sandbox

        return [
            Problem(message=message, path=path, line=line, column=1 if line else 0, hint=hint)
            for message, line, hint in sandbox.faults(value, scope)
        ]
    if isinstance(value, Mapping):
        return [problem for key, inner in value.items() for problem in check_template(inner, join(path, key), scope)]
    if isinstance(value, list | tuple):
        return [problem for at, inner in enumerate(value) for problem in check_template(inner, join(path, at), scope)]
    return []


def _render_text(text: str, values: Mapping[str, Any], path: str) -> Any:
    from muster.blueprints import sandbox

    where = f"{path}: " if path else ""
    if len(text) > MAX_TEMPLATE:
        raise TemplateError(f"{where}{_TOO_LONG}")
    try:
        result = sandbox.evaluate(text, dict(values), MAX_RENDERED)
    except sandbox.MissingError as error:
        raise TemplateError(f"{where}{error.shown(values)}") from None
    except sandbox.FAILURES as error:
        raise TemplateError(f"{where}{_first_line(error)}") from None
    if isinstance(result, str):
        if len(result) > MAX_RENDERED:
            raise TemplateError(f"{where}it gets longer than {MAX_RENDERED // 1024} KB")
        return result
    try:
        encoded = msgspec.json.encode(result)
    except (TypeError, ValueError, RecursionError):
        raise TemplateError(f"{where}it gives a {type(result).__name__}, which is not a JSON value") from None
    if len(encoded) > MAX_RENDERED:
        raise TemplateError(f"{where}it gives more than {MAX_RENDERED // 1024} KB")
    return msgspec.json.decode(encoded)


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).split("\n", 1)[0]
