"""Manifests as requests carry them: YAML or JSON text, or several files at once."""

from __future__ import annotations

import asyncio

import msgspec

from muster.blueprints.manifest import Loaded, load
from muster.broker.objects import ObjectChange, Objects
from muster.broker.operations.decode import decode
from muster.mesh.caller import Caller
from muster.mesh.errors import MALFORMED, InvalidError, Problem, UsageError
from muster.mesh.nesting import TOO_DEEP, check_levels
from muster.mesh.structs import Wire


class File(Wire):
    """One file of manifests."""

    name: str
    """What problems call it."""
    text: str
    """YAML or JSON, one or many documents."""


class Files(Wire):
    """Several files, applied together: all or nothing."""

    files: tuple[File, ...]
    dry_run: bool = False


class _Shape(msgspec.Struct):
    files: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    kind: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """What applying did, or would do."""

    changes: list[ObjectChange]
    dry_run: bool = False


def files(body: bytes, name: str = "") -> Files:
    """The files in a body: `{"files": [{"name", "text"}]}`, or the text of one.

    Raises:
        UsageError: the body is empty or no text.
        InvalidError: the list of files is not right.
    """
    if _is_list_of_files(body):
        return decode(Files, body)
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"the manifests are not UTF-8: {error.reason} at byte {error.start}") from None
    if not text.strip():
        raise UsageError("the body is empty; send manifests, as YAML or JSON")
    return Files(files=(File(name=name, text=text),))


def _is_list_of_files(body: bytes) -> bool:
    if not body.lstrip().startswith(b"{"):
        return False
    try:
        shape = msgspec.json.decode(body, type=_Shape)
    except MALFORMED:
        return False
    return shape.files is not msgspec.UNSET and shape.kind is msgspec.UNSET


async def load_all(given: Files) -> list[Loaded]:
    """Every manifest of every file.  Reads in a thread: megabytes of YAML take seconds.

    Raises:
        InvalidError: with the problems of all files.
    """
    return await asyncio.to_thread(_load_all, given)


def _load_all(given: Files) -> list[Loaded]:
    loaded: list[Loaded] = []
    problems: list[Problem] = []
    for file in given.files:
        try:
            if file.text.lstrip()[:1] in {"{", "["}:
                check_levels(file.text.encode())
            loaded += load(file.text, file.name)
        except InvalidError as error:
            problems += error.problems or (Problem(message=error.detail, file=file.name),)
        except RecursionError:
            problems.append(Problem(message=TOO_DEEP, file=file.name))
    if problems:
        count = f"{len(problems)} things are" if len(problems) > 1 else "something is"
        raise InvalidError(f"{count} wrong with the manifests", *problems)
    return loaded


async def apply(objects: Objects, given: Files, by: Caller) -> Changes:
    """Apply all manifests of all files, or report what that would do."""
    loaded = await load_all(given)
    if not loaded:
        raise UsageError("there is no manifest in the body")
    changes = await objects.apply(loaded, by=by, dry_run=given.dry_run)
    return Changes(changes=list(changes), dry_run=given.dry_run)
