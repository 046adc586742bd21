"""Which parts of `event` a trigger's manifest reads; a field that no event of its provider has is reported.

Fields beside the body are known for certain.  Those of a body are the sender's, and it may send more than is known
here: of them only a likely slip of the pen is reported, and `event.body["reff"]` is taken as it is written.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final

import msgspec

from muster.blueprints.paths import join
from muster.blueprints.provider import Provider
from muster.blueprints.references import Read, place_of, reads_of
from muster.blueprints.suggest import did_you_mean
from muster.mesh.errors import Problem

if TYPE_CHECKING:
    from muster.blueprints.objects.trigger import Trigger

_HEADERS = r"""event\s*(?:\.\s*\??\s*headers|\[\s*\??\s*["']headers["']\s*\])"""
_HEADER_READ = re.compile(
    rf"""\b{_HEADERS}\s*(?:\.\s*get\s*\(|\[\s*\??)\s*["']([\w-]+)["']|["']([\w-]+)["']\s+in\s+{_HEADERS}"""
)


def headers_read(trigger: Trigger) -> tuple[str, ...]:
    """The headers that a trigger names in its condition, inputs and the rest, in lower case and in order."""
    texts = _placed({**msgspec.to_builtins(trigger), "with": None}, "")
    found = {name for _, text in texts for pair in _HEADER_READ.findall(text) for name in pair if name}
    return tuple(sorted(found))


COMMON: Final = frozenset({"provider", "kind", "id", "time", "headers", "body"})
"""What every event has."""

CLOSE: Final = 0.8
"""How like a known field one must be to be taken for it: `reff` for `ref`."""

_EXPRESSIONS: Final = ("when", "target", "inputs", "id", "each", "key")
"""Fields of a manifest that read the event."""

_CODE = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)


def event_field_problems(trigger: Trigger, settings: Provider) -> Iterator[Problem]:
    """Fields of the event that are misspelt."""
    known = settings.event_fields
    manifest = msgspec.to_builtins(trigger)
    for name in _EXPRESSIONS:
        for path, text in _placed(manifest.get(name), name):
            for read in _reads(text, is_template=name == "inputs"):
                if problem := _problem(read, known, settings.body_fields):
                    line, column = place_of(text, read.start)
                    yield msgspec.structs.replace(problem, path=path, line=line, column=column)


def _reads(text: str, *, is_template: bool) -> Iterator[Read]:
    """Each `event.…` in CEL, or in the expressions of a template."""
    codes = list(_CODE.finditer(text))
    if not codes and not is_template:
        yield from reads_of(text, "event")
    for code in codes:
        for read in reads_of(code.group(), "event"):
            yield read._replace(start=code.start() + read.start)


def _problem(read: Read, known: Collection[str] | None, body: Collection[str]) -> Problem | None:
    if not read.names:
        return None
    first = read.names[0]
    if known is not None and first not in COMMON and first not in known:
        hint = did_you_mean(first, [*COMMON, *known])
        return Problem(message=f"no event of this provider has `{join('event', first)}`", hint=hint)
    if first != "body" or len(read.names) == 1 or not read.is_dotted or read.names[1] in body:
        return None
    second = read.names[1]
    if near := get_close_matches(second, body, n=1, cutoff=CLOSE):
        hint = (
            f"did you mean {near[0]!r}? If your sender has it, write event.body[{msgspec.json.encode(second).decode()}]"
        )
        return Problem(message=f"no event of these has `event.body.{second}`", hint=hint)
    return None


def _placed(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Each text in a value, and its path."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _placed(inner, join(path, name))
    elif isinstance(value, list | tuple):
        for place, inner in enumerate(value):
            yield from _placed(inner, join(path, place))
