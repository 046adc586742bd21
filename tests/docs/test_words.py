"""Docs, messages and comments are written in the words of the glossary."""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from tests.docs.words import Hit, in_page, in_python, in_text
from tests.kit.processes import ROOT

ROOMS: Final = (
    *("mesh", "blueprints", "broker", "agent", "triggers", "cli"),
    *("bench", "examples", "deploy", "docs", "tests"),
)


@cache
def hits(room: str) -> list[Hit]:
    """Returns what is refused in a room; the pages at the top are of the room `docs`."""
    paths = [*(ROOT / room).rglob("*"), *(ROOT.glob("*.md") if room == "docs" else ())]
    return [hit for path in sorted(paths) for hit in in_file(path)]


def in_file(path: Path) -> list[Hit]:
    name = str(path.relative_to(ROOT))
    match path.suffix:
        case ".md":
            return list(in_page(path, name))
        case ".py" if name not in {"tests/docs/words.py", "tests/docs/test_words.py"}:
            return list(in_python(path, name))
    return []


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_uses_the_words_of_the_glossary(room: str) -> None:
    found = hits(room)
    assert not found, f"{len(found)} refused words:\n" + "\n".join(map(str, found))


@pytest.mark.parametrize(
    "text",
    [
        "the broker tells the agent",
        "Tell it what to do",
        "as many as\n    may be",
        "`auth` is no duration",
        "# it goes\n# on where it was",
        "what it is for, and for whom",
        "must not begin",
    ],
)
def test_a_refused_word_is_found(text: str) -> None:
    assert list(in_text(text, "page"))


@pytest.mark.parametrize(
    "text",
    [
        "as soon as there is no leader",
        "this is no longer true",
        "`BEGIN IMMEDIATE`, and BEGIN",
        "a stand-in for a standard",
        "the field `mend` has a hint",
        "[a page](tell.md)",
        "it may take a while",
    ],
)
def test_other_words_are_not_refused(text: str) -> None:
    assert not list(in_text(text, "page"))


if __name__ == "__main__":
    for name in ROOMS:
        print(f"{name:12} {len(hits(name)):5}  {Counter(hit.word for hit in hits(name)).most_common(12)}")  # noqa: T201
