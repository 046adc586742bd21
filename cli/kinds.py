"""What the tables of `muster get` show of each kind of object."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from muster.cli.output import Column, age

BY_THE_CLI: Final = {
    "element": "Elements of every kind.",
    "kind": "The kinds themselves.",
    "order": "Work orders.",
    "firing": "What came of a trigger.",
}
"""Kinds that commands read like objects, besides those of the mesh."""


def singular(kind: str) -> str:
    """`Machines`, `resource-brokers` as the kind they mean."""
    word = kind.lower().replace("-", "_")
    return word.removesuffix("s")


def plural(kind: str) -> str:
    """Returns the kind as addresses spell it."""
    return f"{singular(kind)}s"


def is_element(found: dict[str, Any]) -> bool:
    """Returns whether an agent acts for this object: those alone are on or off line."""
    return "online" in found


def state(element: dict[str, Any]) -> str:
    """An element's state in a word."""
    if not element.get("online"):
        return "offline"
    return "drained" if element.get("drained") else "online"


_NAME: Final = Column(title="NAME", value=lambda item: item["name"])
_LABELS: Final = Column(title="LABELS", value=lambda item: item.get("labels"), optional=2, flexible=True)
_VERSION: Final = Column(title="VERSION", value=lambda item: item.get("version"), optional=3)
_AGE: Final = Column(title="AGE", value=lambda item: age(item.get("created_at")), optional=3)
_SUMMARY: Final = Column(title="SUMMARY", value=lambda item: item.get("summary"), optional=1, flexible=True)

_MEMBERS: Final = Column(title="MEMBERS", value=lambda item: item.get("members"), optional=1, flexible=True)

_ELEMENT: Final = (
    _NAME,
    Column(title="STATE", value=state),
    Column(title="MODE", value=lambda item: item.get("mode")),
    Column(
        title="RUNNING",
        value=lambda item: f"{_count(item.get('running'))}/{item.get('slots', 1)}",
        optional=1,
    ),
    Column(title="POOLS", value=lambda item: item.get("pools"), optional=3, flexible=True),
    Column(title="PROFILES", value=lambda item: item.get("profiles"), optional=4, flexible=True),
    _LABELS,
    Column(title="AGE", value=lambda item: age(item.get("created_at")), optional=5),
)

TROUBLE: Final = Column(title="TROUBLE", value=lambda item: item.get("trouble"), flexible=True)
"""What is wrong with an element's agent; shown where there is any."""


def _trigger_state(trigger: dict[str, Any]) -> str:
    """Whether a trigger may fire, and whether it can."""
    if trigger.get("enabled") is False:
        return "disabled"
    return "failing" if trigger.get("trouble") else "enabled"


_COLUMNS: Final[dict[str, tuple[Column, ...]]] = {
    "kind": (
        _NAME,
        Column(title="ELEMENT", value=lambda item: "yes" if item.get("is_element") else "no"),
        _SUMMARY,
    ),
    "blueprint": (
        _NAME,
        Column(title="VERSION", value=lambda item: item.get("version")),
        Column(title="TASKS", value=lambda item: len(item.get("tasks") or ())),
        Column(title="INPUTS", value=lambda item: list(item.get("inputs") or ()), optional=2, flexible=True),
        _SUMMARY,
    ),
    "pool": (_NAME, Column(title="WHERE", value=lambda item: item.get("where"), flexible=True), _AGE),
    "trigger": (
        _NAME,
        Column(title="PROVIDER", value=lambda item: item.get("provider")),
        Column(title="STATE", value=_trigger_state),
        Column(title="BLUEPRINT", value=lambda item: item.get("blueprint")),
        Column(title="TARGET", value=lambda item: item.get("target"), optional=1, flexible=True),
        Column(title="FIRED", value=lambda item: age(item.get("last_fired")), optional=2),
        _AGE,
    ),
    "mesh": (
        _NAME,
        Column(title="LEASE", value=lambda item: item.get("lease")),
        Column(title="REPLICAS", value=lambda item: item.get("replicas")),
        Column(title="RETENTION", value=lambda item: item.get("retention"), flexible=True),
        _VERSION,
    ),
    "profile": (_NAME, Column(title="PARAMS", value=lambda item: item.get("params"), flexible=True), _AGE),
    "param": (
        _NAME,
        Column(title="TYPE", value=lambda item: (item.get("schema") or {}).get("type"), optional=2),
        Column(title="DEFAULT", value=lambda item: item.get("default"), optional=3, flexible=True),
        _SUMMARY,
    ),
}


def columns(kind: str, rows: Sequence[dict[str, Any]] = ()) -> tuple[Column, ...]:
    """Returns the columns for a kind and its rows; kinds that came with a plug-in have the common ones."""
    if any(is_element(row) for row in rows):
        known = _of_elements(kind, rows)
    else:
        known = _COLUMNS.get(singular(kind), (_NAME, _VERSION, _SUMMARY, _LABELS, _AGE))
    return (*known, TROUBLE) if any(row.get("trouble") for row in rows) else known


def _of_elements(kind: str, rows: Sequence[dict[str, Any]]) -> tuple[Column, ...]:
    if singular(kind) == "element":
        return (_NAME, Column(title="KIND", value=lambda item: item["kind"]), *_ELEMENT[1:])
    if any("members" in row for row in rows):
        return (*_ELEMENT[:4], _MEMBERS, *_ELEMENT[4:])
    return _ELEMENT


def _count(running: Any) -> int:
    return len(running) if isinstance(running, list | dict) else int(running or 0)
