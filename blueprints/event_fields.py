"""Which parts of `event` a trigger's manifest reads."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from muster.blueprints.objects.trigger import Trigger

_HEADERS = r"""event\s*(?:\.\s*\??\s*headers|\[\s*\??\s*["']headers["']\s*\])"""
_HEADER_READ = re.compile(
    rf"""\b{_HEADERS}\s*(?:\.\s*get\s*\(|\[\s*\??)\s*["']([\w-]+)["']|["']([\w-]+)["']\s+in\s+{_HEADERS}"""
)


def headers_read(trigger: Trigger) -> tuple[str, ...]:
    """The headers that a trigger names in its condition, inputs and the rest, in lower case and in order."""
    texts = _texts({**msgspec.to_builtins(trigger), "with": None})
    found = {name for text in texts for pair in _HEADER_READ.findall(text) for name in pair if name}
    return tuple(sorted(found))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)
