"""The limits of CONTRIBUTING: small files, short functions, no sleeping tests, an agent without a web server."""

from __future__ import annotations

import ast
import gc
import statistics
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

pytestmark = pytest.mark.xdist_group("limits")  # each file is parsed once

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("mesh", "blueprints", "broker", "agent", "triggers", "cli")
CHECKED = (*ROOMS, "tests", "bench", "examples")

MOST_LINES = 500
MOST_LINES_P90 = 300
MOST_FUNCTION_LINES = 60
EXCEPTIONS: dict[str, str] = {}
"""A file, and the reason why it may be longer."""

AGENT_MAY_NOT_IMPORT = {
    "litestar",
    "uvicorn",
    "rich",
    "httpx",
    "sqlite3",
    "muster.cli",
    "muster.broker",
    "muster.mesh.http",
}
NOT_FOR_AGENTS = {"mesh/http.py", "mesh/http_bounds.py"}
"""Modules that agents must not import, and that can import it."""
COMMANDS_MAY_IMPORT_LATE = {"httpx", "rich", "yaml", "asyncio", "structlog", "nats"}
"""Not at the top of a file that `muster --help` reads."""


def files(*rooms: str) -> Iterator[Path]:
    for room in rooms:
        yield from sorted((ROOT / room).rglob("*.py"))


@cache
def tree(path: Path) -> ast.Module:
    gc.disable()  # CPython 3.11 counts wrongly if a collection within the conversion parses something too
    try:
        return ast.parse(path.read_text(), str(path))
    finally:
        gc.enable()


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def length(path: Path) -> int:
    return len(path.read_text().splitlines())


def functions(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{name(path)}:{node.lineno} {node.name}", (node.end_lineno or 0) - node.lineno + 1


def imported(path: Path, *, top_only: bool = False) -> set[str]:
    nodes = tree(path).body if top_only else list(ast.walk(tree(path)))
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def is_within(module: str, forbidden: set[str]) -> bool:
    return any(module == one or module.startswith(f"{one}.") for one in forbidden)


def test_no_file_is_too_long() -> None:
    long = {name(path): length(path) for path in files(*CHECKED) if length(path) > MOST_LINES}
    assert not {path: lines for path, lines in long.items() if path not in EXCEPTIONS}


def test_most_files_are_short() -> None:
    lengths = [length(path) for path in files(*CHECKED)]
    assert statistics.median(lengths) <= 150
    assert statistics.quantiles(lengths, n=10)[-1] <= MOST_LINES_P90


def test_no_function_is_too_long() -> None:
    assert not [
        (where, lines) for path in files(*CHECKED) for where, lines in functions(path) if lines > MOST_FUNCTION_LINES
    ]


def test_no_test_sleeps() -> None:
    """Tests wait for events, with a deadline; `tests/kit` alone may poll."""
    sleepers = []
    for path in files("tests"):
        if (ROOT / "tests" / "kit") in path.parents:
            continue
        for node in ast.walk(tree(path)):
            called = node.func if isinstance(node, ast.Call) else None
            if isinstance(called, ast.Attribute) and called.attr == "sleep":
                argument = node.args[0] if isinstance(node, ast.Call) and node.args else None
                if not (isinstance(argument, ast.Constant) and argument.value == 0):  # sleep(0) only yields
                    sleepers.append(f"{name(path)}:{called.lineno}")
    assert not sleepers


@pytest.mark.parametrize("room", ["agent", "mesh"])
def test_what_an_agent_loads_is_small(room: str) -> None:
    wrong = [
        f"{name(path)}: {module}"
        for path in files(room)
        if name(path) not in NOT_FOR_AGENTS
        for module in imported(path)
        if is_within(module, AGENT_MAY_NOT_IMPORT)
    ]
    assert not wrong


def test_commands_import_late_what_takes_long() -> None:
    """`muster --help` reads every command's file; these hold no command, and are read when one runs."""
    late = {"api.py", "checks.py", "shipped.py", "supervisor.py", "whole.py"}
    wrong = [
        f"{name(path)}: {module}"
        for path in files("cli")
        if path.name not in late
        for module in imported(path, top_only=True)
        if is_within(module, COMMANDS_MAY_IMPORT_LATE)
    ]
    assert not wrong


def test_product_code_does_not_import_tests() -> None:
    assert not [name(path) for path in files(*ROOMS) for module in imported(path) if is_within(module, {"tests"})]


def test_rooms_are_imported_by_their_full_names() -> None:
    bare = {*ROOMS}
    assert not [
        f"{name(path)}: {module}" for path in files(*CHECKED) for module in imported(path) if is_within(module, bare)
    ]
