"""What commands read: files and standard input, as strictly as manifests are read."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

from muster.mesh.errors import InvalidError, UsageError

STANDARD_INPUT: Final = Path("-")


def text(path: Path) -> str:
    """A file's text; `-` is standard input.

    Raises:
        UsageError: it cannot be read, or is not text.
    """
    try:
        content = _standard_input() if path == STANDARD_INPUT else path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {called(path)}: {error.strerror}") from error
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{called(path)} is not UTF-8 text: {error.reason} at byte {error.start}") from error


def _standard_input() -> bytes:
    if sys.stdin is None:
        raise UsageError("cannot read standard input: it is closed")
    return sys.stdin.buffer.read()


def value(path: Path) -> Any:
    """What a YAML or JSON file says; `-` is standard input.

    Raises:
        UsageError: it cannot be read, or says more than one thing.
        InvalidError: something in it is not as it should be; each with its place.
    """
    import msgspec

    from muster.blueprints.yaml_lines import parse

    documents = parse(text(path))
    problems = [problem for document in documents for problem in document.problems]
    if problems:
        placed = [msgspec.structs.replace(problem, file=called(path)) for problem in problems]
        raise InvalidError(f"{called(path)} cannot be taken", *placed)
    if len(documents) > 1:
        raise UsageError(f"{called(path)} has {len(documents)} documents; give one")
    return documents[0].value if documents else None


def called(path: Path) -> str:
    """The file in words."""
    return "standard input" if path == STANDARD_INPUT else str(path)
