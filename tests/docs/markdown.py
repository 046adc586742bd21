"""Fenced blocks, links and headings of a Markdown file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from tests.kit.processes import ROOT

FENCE: Final = re.compile(r"^(?P<indent> *)```(?P<info>.*)$")
_HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """One fenced block."""

    page: str
    line: int
    language: str
    """The info string's first word."""
    options: dict[str, str]
    """The others: `word` or `word=value`."""
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line} ({self.language})"


def pages() -> list[Path]:
    """Every page that people read."""
    top = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "examples/README.md"]
    return [*(ROOT / name for name in top), *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path) -> Iterator[Block]:
    """A page's fenced blocks, in order."""
    opened: re.Match[str] | None = None
    start, lines = 0, list[str]()
    for number, line in enumerate(page.read_text().splitlines(), 1):
        fence = FENCE.match(line)
        if opened is None:
            if fence is not None:
                opened, start, lines = fence, number, []
        elif fence is not None and not fence["info"].strip():
            yield _block(page, start, opened["info"], lines)
            opened = None
        else:
            lines.append(line.removeprefix(opened["indent"]))
    assert opened is None, f"{page}:{start}: the block has no end"


def _block(page: Path, line: int, info: str, lines: list[str]) -> Block:
    language, *words = info.split() or [""]
    options = dict(word.partition("=")[::2] for word in words)
    name = str(page.relative_to(ROOT))
    return Block(page=name, line=line, language=language, options=options, text="\n".join(lines) + "\n")


def prose(page: Path) -> str:
    """A page without its blocks."""
    kept, inside = [], False
    for line in page.read_text().splitlines():
        if FENCE.match(line):
            inside = not inside
        elif not inside:
            kept.append(line)
    return "\n".join(kept)


def links(page: Path) -> list[str]:
    """Where a page points to."""
    return _LINK.findall(prose(page))


def anchors(page: Path) -> set[str]:
    """What `#…` may name on a page: what GitHub makes of headings, and names that are in the text."""
    found = set(re.findall(r'<a id="([\w-]+)">', prose(page)))
    for heading in _HEADING.findall(prose(page)):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        found.add(re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-"))
    return found
