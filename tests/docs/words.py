"""The worst words of the glossary in CONTRIBUTING, and where they occur.

Prose is checked: pages without code, and in Python files the comments, the docstrings, and those text literals that
have a space in them, since they are messages.  Identifiers are checked only where this project defines them, so that
no name of a library is ever reported.  What stands in backquotes or in capitals is code.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from tests.docs.markdown import FENCE

REFUSED: Final[dict[str, str]] = {
    r"mends?|mended|mending": "hint, fix, resolve",
    r"tells?|told|telling": "report, notify, publish, emit; distinguish",
    r"patience|patient|patiently": "timeout, deadline",
    r"(?<!as )(?<!As )soon|sooner": "timeout, deadline; early",
    r"(?:ask|asks|asked|look|looks|looked) again": "retry delay, poll interval",
    r"owed?|owes|owing": "pending, unacknowledged",
    r"pays?|payable": "flush",
    r"heeds?|heeded|heeding|unheeded": "watch, observe; respect (a setting)",
    r"looks? at|looked at|looking at": "watch, observe, read, inspect",
    r"(?:go|goes|going|went|gone) on": "continue, resume",
    r"stands?(?!-)|stood|standing": "state, status, current; is",
    r"lets? in|letting in": "release, admit",
    r"room for|no room|has room|have room|room enough|make room": "capacity, free slot",
    r"(?:is|are|was|were) (?:over|through)(?! (?:the|a|an|all|its)\b)": "ended, completed, finished",
    r"(?:is|are|was|were) (?:not there|away)": "not found, missing; offline, unreachable",
    r"(?<!there )(?<!There )(?:is|are) no (?!longer|more)[a-z]+": "is invalid, malformed, not a duration",
    r"(?:what|which) is no\b(?! longer)": "invalid, malformed, not a duration",
    r"comes? again|twice over": "duplicate, already applied",
    r"the ones? before|turned round": "previous, replaced by, predecessor",
    r"for whom|whom": "target, assignee, eligible",
    r"(?:go|goes|going|went) off": "fires; firing",
    r"takes? up|taken up|lends?|lent|lending": "claim, lease, renew",
    r"how-manieth|manieth": "nth, ordinal",
    r"begins?|began|begun": "start, start with",
    r"(?:wind|winds|winding|wound) up": "shut down",
    r"but for": "unless, except",
    r"may not": "must not, or cannot",
    r"(?:has|have|had|having) to": "must, needs to",
    r"whatever": "every, each, any",
    r"as many as may be": "at most, at least",
}
"""A pattern of words, and what to write instead."""

REFUSED_NAMES: Final = {
    *("mend", "mends", "mended", "tell", "tells", "told", "patience", "owed", "owes"),
    *("heed", "heeds", "heeded", "standing", "standings", "manieth"),
}
"""Parts of names: between underscores, or a capital and the next."""

_CODE: Final = re.compile(r"``?[^`]*``?|(?<=\])\([^)\s]*\)|<!--.*?-->", re.DOTALL)
_INDENT: Final = re.compile(r"^[ \t#>*|]+", re.MULTILINE)
_FIRST: Final = re.compile(r"\b[A-Z](?=[a-z])")
_PARTS: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_REFUSED: Final = [(re.compile(rf"\b(?:{words})\b".replace(" ", r"\s")), advice) for words, advice in REFUSED.items()]


class Hit(msgspec.Struct, frozen=True, kw_only=True):
    """A word that is refused, and its place."""

    path: str
    line: int
    word: str
    write: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.word!r}: write {self.write}"


def in_text(text: str, path: str, line: int = 1) -> Iterator[Hit]:
    """Finds the refused words in prose, also across the end of a line."""
    prose = _CODE.sub(lambda code: "`" + "\n" * code[0].count("\n"), text)
    prose = _FIRST.sub(lambda letter: letter[0].lower(), _INDENT.sub("", prose))
    for words, advice in _REFUSED:
        for found in words.finditer(prose):
            place = line + prose.count("\n", 0, found.start())
            yield Hit(path=path, line=place, word=found[0].replace("\n", " "), write=advice)


def in_page(path: Path, name: str) -> Iterator[Hit]:
    """Finds them on a page, outside its fenced blocks."""
    kept, inside = list[str](), False
    for line in path.read_text().splitlines():
        if FENCE.match(line):
            inside = not inside
            kept.append("")
        else:
            kept.append("" if inside else line)
    yield from in_text("\n".join(kept), name)


def in_python(path: Path, name: str) -> Iterator[Hit]:
    """Finds them in a module's comments, docstrings, messages, and in the names that it defines."""
    text = path.read_text()
    yield from _in_comments(text, name)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield from in_text(node.value, name, node.lineno)
        for defined, line in _defined(node):
            for part in _PARTS.findall(defined):
                if part.lower() in REFUSED_NAMES:
                    yield Hit(path=name, line=line, word=defined, write="a name from the glossary in CONTRIBUTING")


def _in_comments(text: str, name: str) -> Iterator[Hit]:
    block, start, last = list[str](), 0, -1
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type != tokenize.COMMENT:
            continue
        if token.start[0] != last + 1 and block:
            yield from in_text("\n".join(block), name, start)
            block = []
        if not block:
            start = token.start[0]
        block.append(token.string)
        last = token.start[0]
    yield from in_text("\n".join(block), name, start)


def _defined(node: ast.AST) -> Iterator[tuple[str, int]]:
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            yield node.name, node.lineno
        case ast.arg():
            yield node.arg, node.lineno
        case ast.Name(ctx=ast.Store()):
            yield node.id, node.lineno
