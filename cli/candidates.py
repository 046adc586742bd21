"""What the Tab key offers where only the mesh knows the words: kinds, and the names of objects."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Final

from muster.mesh.errors import MusterError

if TYPE_CHECKING:
    from cyclopts.completion import CompletionContext

ANSWER_TIMEOUT: Final = 1.0
"""Seconds; somebody waits at the prompt."""

LONGEST_LIST: Final = 500
"""The most candidates that are offered."""


def of_kinds(_: CompletionContext) -> dict[str, str]:
    """Returns the kinds that the mesh has; those installed here if it does not answer."""
    from muster.cli.kinds import BY_THE_CLI

    found = _objects("kinds") or [{"name": name} for name in entry_points(group="muster.objects").names]
    return {str(kind["name"]): str(kind.get("summary", "")) for kind in found} | BY_THE_CLI


def of_objects(context: CompletionContext) -> list[str]:
    """Returns the names of the objects of the kind that was typed before."""
    from muster.cli.kinds import plural

    kind = context["kind"].raw
    return [] if kind is None else [str(found.get("name", found.get("id"))) for found in _objects(plural(kind))]


def of_elements(_: CompletionContext) -> list[str]:
    """Returns the names of the elements of every kind."""
    return [str(element["name"]) for element in _objects("elements")]


def _objects(plural: str) -> list[dict[str, Any]]:
    from muster.cli.api import segment
    from muster.cli.options import COMMON

    try:
        with COMMON.connect() as api:
            page = api.get(f"/api/v1/{segment(plural)}", within=ANSWER_TIMEOUT, limit=LONGEST_LIST)
    except MusterError:  # a prompt cannot show an error
        return []
    items: list[dict[str, Any]] = page["items"]
    return items
