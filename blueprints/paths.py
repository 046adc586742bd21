"""Places in a document: tuples inside, `tasks[1].with.url` for people."""

from __future__ import annotations

import re

Path = tuple[str | int, ...]

_PLAIN = re.compile(r"[A-Za-z0-9_-]+")
_PART = re.compile(r'\.?([A-Za-z0-9_-]+)|\[(\d+)\]|\["((?:[^"\\]|\\.)*)"\]')


def join(path: str, *parts: str | int) -> str:
    """The place `parts` further in than `path`."""
    for part in parts:
        if isinstance(part, int):
            path += f"[{part}]"
        elif _PLAIN.fullmatch(part):
            path += f".{part}" if path else part
        else:
            quoted = part.replace("\\", "\\\\").replace('"', '\\"')
            path += f'["{quoted}"]'
    return path


def split(path: str) -> Path:
    """The parts that `join` made the text from."""
    parts: list[str | int] = []
    for plain, number, quoted in _PART.findall(path):
        if number:
            parts.append(int(number))
        elif plain:
            parts.append(plain)
        else:
            parts.append(re.sub(r"\\(.)", r"\1", quoted))
    return tuple(parts)
