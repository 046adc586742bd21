"""Somebody who reads a page and does what it says: files are written, commands run, output compared.

`127.0.0.1:8642` and `:4222` become the mesh that is running; any other port of 127.0.0.1 becomes a
free one, the same throughout the page.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
import tomllib
from collections.abc import Awaitable, Callable
from configparser import ConfigParser
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any, Final, Self

import pytest
import yaml

from muster.blueprints.definition import Blueprint
from muster.blueprints.manifest import Loaded, check_all, load
from muster.blueprints.objects.base import Manifest
from muster.mesh.errors import InvalidError
from tests.docs.expected import missing
from tests.docs.markdown import Block
from tests.kit.meshes import Mesh
from tests.kit.ports import free_port
from tests.kit.processes import ROOT, Program
from tests.kit.waiting import eventually

WITHIN: Final = 60.0
"""Seconds for a block."""

_ADDRESS = re.compile(r"127\.0\.0\.1:([1-9]\d*)")
_HERE = Path(__file__).parent


class Shelf:
    """The objects that a page has shown so far; a catalog."""

    def __init__(self, loaded: list[Loaded]) -> None:
        self._known = {(one.kind, one.name): one.manifest for one in loaded}

    def add(self, loaded: list[Loaded]) -> None:
        self._known |= {(one.kind, one.name): one.manifest for one in loaded}

    def get(self, kind: str, name: str) -> Manifest | None:
        return self._known.get((kind, name))

    def all(self, kind: str) -> list[Manifest]:
        return [manifest for (its_kind, _), manifest in self._known.items() if its_kind == kind]


class Reader:
    """Reads one page, in a folder of its own."""

    def __init__(self, mesh: Mesh, folder: Path, shelf: Shelf) -> None:
        self.mesh = mesh
        self.folder = folder
        self.shelf = shelf
        self.env = mesh.env | {"PATH": f"{_HERE / 'programs'}:{mesh.env['PATH']}", "DOCS_PYTHON": sys.executable}
        self.env |= {"PYTHONPATH": f"{ROOT}:{folder / 'site'}", "COLUMNS": "200"}
        self._ports = {"8642": mesh.api.rpartition(":")[2], "4222": mesh.nats.rpartition(":")[2]}
        self._stack = AsyncExitStack()
        self._daemons: list[tuple[Block, Program, str]] = []

    async def __aenter__(self) -> Self:
        await self._stack.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def do(self, block: Block) -> None:
        """What the block is for."""
        action = _ACTIONS.get(block.language)
        assert action is not None, f"{block}: nobody knows what a block of this kind is for; say text if it cannot run"
        unknown = set(block.options) - _OPTIONS[block.language]
        assert not unknown, f"{block}: unknown words {unknown}"
        await action(self, block)
        if name := block.options.get("file"):
            place = self.folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(self._here(block.text))

    async def daemons_said_it(self) -> None:
        """What the page shows of programs that run on."""
        for block, program, shown in self._daemons:
            await eventually(partial(_has_said, program, shown), what=f"{block}: {shown!r} from {program}")

    def _here(self, text: str) -> str:
        return _ADDRESS.sub(lambda found: f"127.0.0.1:{self._port(found[1])}", text)

    def _port(self, shown: str) -> str:
        if shown not in self._ports:
            self._ports[shown] = str(free_port())
        return self._ports[shown]

    # -- commands ---------------------------------------------------------------------------------

    async def _sh(self, block: Block) -> None:
        if block.options.get("by") == "ci":
            ran = (ROOT / ".ci" / "run").read_text().splitlines()
            assert set(block.text.splitlines()) <= set(ran), f"{block}: .ci/run does not run this"
            return
        await self._bash(block, f"set -euo pipefail\n{self._here(block.text)}")

    async def _console(self, block: Block) -> None:
        commands, shown = _session(block)
        if "daemon" in block.options:
            await self._daemon(block, commands, shown)
            return
        printed = await self._bash(block, f"exec 2>&1\nset -e\n{self._here(commands)}")
        line = missing(self._here(shown), printed)
        if line is not None:
            pytest.fail(f"{block}: this was not printed: {line!r}\n--- but this was:\n{printed}", pytrace=False)

    async def _bash(self, block: Block, script: str) -> str:
        """In one shell a block; what was exported is there in the next one."""
        state = self.folder / ".exported"
        keep = f"trap 'code=$?; export -p > {shlex.quote(str(state))}; exit $code' EXIT\n"
        start = f"[ ! -f {shlex.quote(str(state))} ] || . {shlex.quote(str(state))}\n"
        argv = ["bash", "-c", start + keep + script]
        async with Program.start(argv, env=self.env, cwd=self.folder) as program:
            program.feed(b"")
            code = await program.ended(WITHIN)
        wanted = int(block.options.get("exit", "0"))
        if code != wanted:
            pytest.fail(f"{block}: exit code {code}, not {wanted}\n{program.stdout}\n{program.stderr}", pytrace=False)
        return program.stdout

    async def _daemon(self, block: Block, commands: str, shown: str) -> None:
        """A program that stays: it is started, and ended with the page."""
        argv = shlex.split(self._here(commands), comments=True)
        if argv[:2] in (["muster", "up"], [".venv/bin/muster", "up"]) and set(argv[2:]) <= {"--element", "web01"}:
            line = missing(self._here(shown).replace("data=…", f"data={self.mesh.data}"), _ready_line(self.mesh))
            assert line is None, f"{block}: {line!r} is not what the mesh said: {_ready_line(self.mesh)!r}"
            return  # it runs already: one mesh for all pages
        script = f"[ ! -f .exported ] || . ./.exported\nexec {self._here(commands)}"
        program = await self._stack.enter_async_context(
            Program.start(["bash", "-c", script], env=self.env, cwd=self.folder)
        )
        self._daemons.append((block, program, self._here(shown)))
        ready = next((line for line in self._here(shown).splitlines() if line.startswith("ready ")), None)
        is_ready = partial(_has_said, program, ready) if ready else partial(_has_logged, program, "agent.ready")
        await eventually(is_ready, WITHIN, f"{block}: ready, from {program}")

    # -- data -------------------------------------------------------------------------------------

    async def _yaml(self, block: Block) -> None:
        """Manifests; a part of a blueprint; or, said so, plain data."""
        if "data" in block.options:
            assert list(yaml.safe_load_all(block.text)), block
            return
        text = block.text if re.search(r"^kind:", block.text, re.MULTILINE) else _whole(block)
        problems = ""
        try:
            loaded = load(text, str(block))
            check_all(loaded, self.shelf)
            self.shelf.add(loaded)
        except InvalidError as error:
            problems = str(error)
        if bool(problems) != ("invalid" in block.options):
            pytest.fail(f"{block}: {problems or 'it is valid'}", pytrace=False)

    async def _json(self, block: Block) -> None:
        json.loads(block.text)

    async def _toml(self, block: Block) -> None:
        tomllib.loads(block.text)

    async def _ini(self, block: Block) -> None:
        parser = ConfigParser(strict=False, interpolation=None)
        parser.read_string(block.text)
        assert parser.sections(), block

    async def _python(self, block: Block) -> None:
        """A file is only written (and compiled); anything else is run."""
        compile(block.text, str(block), "exec")
        if "file" in block.options:
            return
        argv = [sys.executable, "-c", self._here(block.text)]
        async with Program.start(argv, env=self.env, cwd=self.folder) as program:
            program.feed(b"")
            code = await program.ended(WITHIN)
            assert code == 0, f"{block}: {program}"

    async def _nothing(self, block: Block) -> None:
        """For people only."""


_ACTIONS: Final[dict[str, Callable[[Reader, Block], Awaitable[None]]]] = {
    "sh": Reader._sh,
    "console": Reader._console,
    "yaml": Reader._yaml,
    "json": Reader._json,
    "toml": Reader._toml,
    "ini": Reader._ini,
    "python": Reader._python,
    "text": Reader._nothing,
    "mermaid": Reader._nothing,
}
_OPTIONS: Final[dict[str, set[str]]] = {
    "sh": {"by", "exit"},
    "console": {"daemon", "exit"},
    "yaml": {"file", "invalid", "data"},
    "json": {"file"},
    "toml": {"file"},
    "ini": {"file"},
    "python": {"file"},
    "text": set(),
    "mermaid": set(),
}


def _has_said(program: Program, shown: str) -> bool:
    return missing(shown, program.stdout + program.stderr) is None


def _has_logged(program: Program, event: str) -> bool:
    return event in program.stderr


def _ready_line(mesh: Mesh) -> str:
    return f"ready api={mesh.api} nats={mesh.nats} element={mesh.element} data={mesh.data}"


def _session(block: Block) -> tuple[str, str]:
    """The commands of a console block (`$ …`, a backslash continues), and what is shown of their output."""
    commands, shown, goes_on = list[str](), list[str](), False
    for line in block.text.splitlines():
        if goes_on or line.startswith("$ "):
            commands.append(line if goes_on else line.removeprefix("$ "))
            goes_on = line.endswith("\\")
        else:
            shown.append(line)
    assert commands, f"{block}: it has no line that starts with `$ `"
    return "\n".join(commands), "\n".join(shown)


def _whole(block: Block) -> str:
    """A blueprint around a part of one: some of its fields, a list of tasks."""
    found: Any = yaml.safe_load(block.text)
    if isinstance(found, list):
        found = {"tasks": found}
    assert isinstance(found, dict), f"{block}: neither a manifest nor a part of a blueprint"
    assert set(found) <= set(Blueprint.__struct_fields__), f"{block}: neither a manifest nor a part of a blueprint"
    whole = {"kind": "blueprint", "name": "part", "tasks": [{"name": "nothing", "uses": "noop"}]} | found
    return yaml.safe_dump(whole, sort_keys=False)
