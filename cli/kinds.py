"""What the tables of `muster get` show of each kind of object."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from muster.cli.output import Column, age

ELEMENTS: Final = ("machine", "cluster", "resource_broker")
"""Kinds that an agent acts for; `element` stands for all of them."""


def singular(kind: str) -> str:
    """`Machines`, `resource-brokers` as the kind they mean."""
    word = kind.lower().replace("-", "_")
    return word.removesuffix("s")


def plural(kind: str) -> str:
    """The kind as it stands in an address."""
    return f"{singular(kind)}s"


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
    "machine": _ELEMENT,
    "resource_broker": _ELEMENT,
    "cluster": (
        *_ELEMENT[:4],
        Column(title="MEMBERS", value=lambda item: item.get("members"), optional=1, flexible=True),
        *_ELEMENT[4:],
    ),
    "element": (_NAME, Column(title="KIND", value=lambda item: item["kind"]), *_ELEMENT[1:]),
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
    "profile": (_NAME, Column(title="PARAMS", value=lambda item: item.get("params"), flexible=True), _AGE),
    "param": (
        _NAME,
        Column(title="TYPE", value=lambda item: (item.get("schema") or {}).get("type"), optional=2),
        Column(title="DEFAULT", value=lambda item: item.get("default"), optional=3, flexible=True),
        _SUMMARY,
    ),
}


OWN: Final = frozenset(_COLUMNS)
"""The kinds that need no asking; a broker may have more, from plug-ins."""


def columns(kind: str, rows: Sequence[dict[str, Any]] = ()) -> tuple[Column, ...]:
    """The columns for a kind, for these rows; kinds that came with a plug-in have the common ones."""
    known = _COLUMNS.get(singular(kind), (_NAME, _VERSION, _SUMMARY, _LABELS, _AGE))
    return (*known, TROUBLE) if any(row.get("trouble") for row in rows) else known


def _count(running: Any) -> int:
    return len(running) if isinstance(running, list | dict) else int(running or 0)
