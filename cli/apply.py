"""`muster apply`: create or change objects, all or nothing; or show what that would change."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final

from cyclopts import Parameter

from muster.cli.files import STANDARD_INPUT, text
from muster.cli.options import COMMON, Common
from muster.cli.output import Column, document, say, table
from muster.mesh.errors import UsageError

SUFFIXES: Final = frozenset({".yaml", ".yml", ".json"})

_LINE_STYLES: Final = {"+": "green", "-": "red", "@": "cyan"}


def apply(
    *paths: Annotated[Path, Parameter(show=False)],
    file: Annotated[
        tuple[Path, ...],
        Parameter(
            name=("--file", "-f"),
            allow_leading_hyphen=True,
            help="A file, a folder (its .yaml, .yml and .json), or - for standard input; repeatable.",
        ),
    ] = (),
    dry_run: Annotated[bool, Parameter(help="Only show the difference.")] = False,
    common: Common = COMMON,
) -> None:
    """Create or change objects from manifests: all of them, or none."""
    given = (*file, *paths)  # `-f *.yaml` leaves all but the first as arguments of their own
    if not given:
        raise UsageError("which manifests? give files or folders: muster apply -f PATH")
    files = [{"name": name, "text": content} for name, content in read(given)]
    with common.connect() as api:
        answer = api.post("/api/v1/apply", {"files": files}, dry_run=dry_run or None)
    if common.output != "table":
        document(answer, common.output)
        return
    changes = answer["changes"]
    if dry_run:
        for change in changes:
            _show_difference(change)
    table(
        changes,
        (
            Column(title="KIND", value=lambda change: change["kind"]),
            Column(title="NAME", value=lambda change: change["name"]),
            Column(title="VERSION", value=lambda change: change["version"], optional=1),
            Column(title="ACTION", value=lambda change: change["action"]),
        ),
    )
    if dry_run:
        say(("nothing was changed: this was a dry run", "dim"), errors=True)


def read(paths: tuple[Path, ...]) -> Iterator[tuple[str, str]]:
    """Name and text of every file that `paths` name.

    Raises:
        UsageError: one is missing or not text, or a folder has no manifests.
    """
    for given in paths:
        if given == STANDARD_INPUT:
            yield "<stdin>", text(given)
        else:
            yield from ((str(path), text(path)) for path in _files(given))


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES and file.is_file())
    if not found:
        raise UsageError(f"the folder {path} has no manifests (*.yaml, *.yml, *.json)")
    return found


def _show_difference(change: dict[str, Any]) -> None:
    name = f"{change['kind']}/{change['name']}"
    for line in difference(change["before"], change["after"], name):
        say((line, _LINE_STYLES.get(line[:1], "")))


def difference(before: dict[str, Any] | None, after: dict[str, Any] | None, name: str) -> list[str]:
    """A unified diff of the two manifests as YAML; empty if they say the same."""
    old, new = _yaml(before), _yaml(after)
    lines = difflib.unified_diff(old, new, f"{name} (now)" if before else "/dev/null", f"{name} (then)", lineterm="")
    return list(lines)


def _yaml(manifest: dict[str, Any] | None) -> list[str]:
    import yaml

    if manifest is None:
        return []
    written: str = yaml.dump(manifest, Dumper=_dumper(), sort_keys=True, allow_unicode=True, width=100)
    return written.splitlines()


def _dumper() -> Any:
    """A YAML dumper that writes scripts as blocks, so that a change in one line is one line of the diff."""
    import yaml

    class Dumper(yaml.SafeDumper):
        pass

    def block(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)

    Dumper.add_representer(str, block)
    return Dumper
