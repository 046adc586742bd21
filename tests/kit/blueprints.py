"""Blueprints for tests with real processes, as plain dictionaries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

WEB = 'element.labels.role == "web"'
"""A filter."""

WITNESS = """\
say() { echo "$1 $MUSTER_ORDER $MUSTER_JOB $MUSTER_ATTEMPT $$ $(date +%s.%N)" >> "$INPUT_FILE"; }
say start
"""
"""Starts a script that reports about itself, for `record.check_lines`."""

GATE = """\
until [ -e "$INPUT_GATE" ]; do say tick; sleep 0.05; done
"""
"""Continues once the file exists; reports that it lives until then."""


def blueprint(name: str, *tasks: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A blueprint's manifest."""
    return {"kind": "blueprint", "name": name, "tasks": list(tasks), **more}


def script(name: str, text: str, **more: Any) -> dict[str, Any]:
    """A script task."""
    return {"name": name, "run": text, **more}


def machine(name: str, **more: Any) -> dict[str, Any]:
    """A machine's manifest."""
    return {"kind": "machine", "name": name, **more}


def trigger(name: str, provider: str, blueprint: str = "work", **more: Any) -> dict[str, Any]:
    """A trigger's manifest; for `e1` if it says no target.  `with_` is its `with`."""
    return {
        "kind": "trigger",
        "name": name,
        "provider": provider,
        "with": more.pop("with_", {}),
        "blueprint": blueprint,
        "target": {"on": "e1"},
        **more,
    }


def witness(name: str, *tasks: str, gated: str = "", **more: Any) -> dict[str, Any]:
    """A blueprint whose tasks report when they start, live and end; the one named `gated` waits for its gate."""
    steps = [script(task, WITNESS + (GATE if task == gated else "") + "say end\n", **more) for task in tasks]
    inputs = {"file": {"type": "string"}, "gate": {"type": "string", "default": "/nowhere"}}
    return blueprint(name, *steps, inputs=inputs)


def words(path: Path) -> list[str]:
    """The lines of a file; none if it is missing."""
    return path.read_text().splitlines() if path.exists() else []
