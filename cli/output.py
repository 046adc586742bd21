"""How answers are printed: tables for people, one stable document for programs."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import msgspec

from muster.cli.options import Format
from muster.cli.terminal import clean

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

STYLES: Final[Mapping[str, str]] = {
    "queued": "yellow",
    "offered": "yellow",
    "running": "cyan",
    "suspended": "magenta",
    "cancelling": "yellow",
    "finished": "green",
    "failed": "bold red",
    "cancelled": "red",
    "skipped": "dim",
    "fired": "green",
    "rejected": "bold red",
    "online": "green",
    "offline": "red",
    "drained": "yellow",
    "created": "green",
    "changed": "yellow",
    "unchanged": "dim",
    "ok": "green",
    "warning": "yellow",
    "wrong": "bold red",
}
"""Words that mean the same everywhere."""

GAP: Final = 2
"""Blanks between columns."""
WIDE: Final = 100_000
"""Columns where nobody looks: a pipe gets whole lines."""

_UNESCAPED: Final = re.compile(r"[\x7f-\x9f]")
"""Control characters that JSON does not escape."""


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """One column of a table."""

    title: str
    value: Callable[[Any], Any]
    optional: int = 0
    """Left out on narrow terminals, the highest number first; 0 stays."""
    flexible: bool = False
    """Text that may be broken into lines."""


@cache
def console(*, errors: bool = False) -> Console:
    """Standard output (or error) with colour where a terminal wants it."""
    stream = sys.stderr if errors else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else WIDE
    return _console()(stderr=errors, width=width, highlight=False, markup=False, emoji=False, soft_wrap=False)


def page() -> Console:
    """Standard output for help."""
    return _console()()


@cache
def _console() -> type[Console]:
    from rich.console import Console

    class Unbroken(Console):
        def on_broken_pipe(self) -> None:
            """Leave it to the command to end well when its reader has gone; rich would exit with 1."""
            raise  # noqa: PLE0704 - called while the BrokenPipeError is handled

    return Unbroken


def show(value: Any, output: Format, as_table: Callable[[], None]) -> None:
    """Print `value` as the user wants it."""
    if output == "table":
        as_table()
    else:
        document(value, output)


def document(value: Any, output: Format) -> None:
    """Print one document."""
    if output == "yaml":
        sys.stdout.write(_yaml(msgspec.to_builtins(value)))
    else:
        sys.stdout.write(_json(value, indent=2) + "\n")
    sys.stdout.flush()


def line(value: Any) -> None:
    """Print one object on a line of its own (JSON Lines)."""
    sys.stdout.write(_json(value, separators=(",", ":")) + "\n")
    sys.stdout.flush()


def _json(value: Any, **form: Any) -> str:
    text = json.dumps(msgspec.to_builtins(value), ensure_ascii=False, **form)
    return _UNESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _yaml(value: Any) -> str:
    import yaml

    class Dumper(yaml.SafeDumper):
        """Quotes text with control characters: in quotes all of them are escaped, U+0085 too."""

    def quoted(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if clean(text) == text else '"')

    Dumper.add_representer(str, quoted)
    written: str = yaml.dump(value, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=100)
    return written


def item(value: Any, output: Format) -> None:
    """Print one object of those that come one after the other: a line of JSON, or a YAML document."""
    if output == "yaml":
        sys.stdout.write("---\n")
        document(value, output)
    else:
        line(value)


def say(*parts: str | tuple[str, str], errors: bool = False) -> None:
    """Print a line; a part may be `(text, style)`.  Control characters are taken out."""
    from rich.text import Text

    cleaned = (clean(part) if isinstance(part, str) else (clean(part[0]), part[1]) for part in parts)
    console(errors=errors).print(Text.assemble(*cleaned), soft_wrap=True)


def table(rows: Sequence[Any], columns: Sequence[Column], *, empty: str = "nothing") -> None:
    """Print a table that fits the terminal: optional columns go first, then text is broken and names are cut."""
    if not rows:
        say((empty, "dim"), errors=not sys.stdout.isatty())
        return
    from rich.table import Table

    cells = [[cell(column.value(row)) for column in columns] for row in rows]
    shown = _fitting(columns, cells, console().width)
    grid = Table(box=None, pad_edge=False, header_style="bold", padding=(0, GAP, 0, 0))
    for index, least in shown.items():
        column = columns[index]
        if column.flexible:
            grid.add_column(column.title, overflow="fold")
        else:
            grid.add_column(column.title, overflow="ellipsis", no_wrap=True, width=least)
    for row in cells:
        grid.add_row(*(row[index] for index in shown))
    _print(grid)


def _fitting(columns: Sequence[Column], cells: Sequence[Sequence[Text]], width: int) -> dict[int, int]:
    """Which columns are shown, and the least width of each."""
    widths = [max(len(column.title), *(row[index].cell_len for row in cells)) for index, column in enumerate(columns)]
    least = {
        index: min(12, wide) if column.flexible else wide
        for index, (column, wide) in enumerate(zip(columns, widths, strict=True))
    }
    while sum(least.values()) + GAP * (len(least) - 1) > width:
        spare = [index for index in least if columns[index].optional]
        if spare:
            del least[max(spare, key=lambda index: columns[index].optional)]
            continue
        widest = max(least, key=least.__getitem__)
        if least[widest] == 1:
            break
        least[widest] -= 1
    return least


def fields(pairs: Iterable[tuple[str, Any]]) -> None:
    """Print `name  value` lines; what is empty is left out."""
    from rich.table import Table

    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in pairs:
        if value not in (None, "", {}, [], ()):
            grid.add_row(clean(name), cell(value))
    _print(grid)


def _print(grid: Any) -> None:
    """Print a table without the blanks that fill its last column: they would wrap on a narrower terminal."""
    with console().capture() as captured:
        console().print(grid)
    sys.stdout.write("".join(f"{text.rstrip()}\n" for text in captured.get().splitlines()))
    sys.stdout.flush()


def cell(value: Any) -> Text:
    """Returns a value as tables show it: words of state coloured, control characters taken out."""
    from rich.text import Text

    if isinstance(value, Text):
        return value
    text = plain(value)
    return Text(clean(text), style=STYLES.get(text, ""))


def plain(value: Any) -> str:
    """A value in one line, as a person would write it; what is nested deeper is JSON."""
    match value:
        case dict():
            return ", ".join(f"{key}={_inner(item)}" for key, item in value.items()) or "-"
        case list() | tuple():
            return ", ".join(_inner(item) for item in value) or "-"
        case _:
            return _scalar(value)


def brief(value: Any, most: int = 60) -> str:
    """A value as `plain`, each of its parts cut where it gets long; `-o json` has all of it."""
    if isinstance(value, dict):
        return ", ".join(f"{key}={cut(_inner(item), most)}" for key, item in value.items()) or "-"
    return cut(plain(value), 3 * most)


def cut(text: str, most: int) -> str:
    """The text's start."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _inner(value: Any) -> str:
    if isinstance(value, dict | list | tuple):
        return json.dumps(msgspec.to_builtins(value), ensure_ascii=False)
    return _scalar(value)


def _scalar(value: Any) -> str:
    match value:
        case None | "":
            return "-"
        case bool():
            return "yes" if value else "no"
        case str():
            return value
        case _:
            return str(value)


def when(text: str | None) -> datetime | None:
    """A time of the API."""
    return datetime.fromisoformat(text) if text else None


def age(text: str | None, now: datetime | None = None) -> str:
    """How long ago: `12s`, `5m`, `3h`, `2d`."""
    at = when(text)
    return "-" if at is None else long((now or datetime.now(UTC)).timestamp() - at.timestamp())


def until(text: str | None, now: datetime | None = None) -> str:
    """How long until then."""
    at = when(text)
    return "-" if at is None else long(at.timestamp() - (now or datetime.now(UTC)).timestamp())


def took(start: str | None, end: str | None) -> str:
    """How long something took, or takes so far."""
    begun = when(start)
    if begun is None:
        return "-"
    until = when(end) or datetime.now(UTC)
    elapsed = max(0.0, (until - begun).total_seconds())
    return f"{elapsed:.2f}s" if elapsed < 10 else long(elapsed)  # noqa: PLR2004 - two digits are enough from here on


def long(elapsed: float) -> str:
    """A time span in its largest unit."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if elapsed >= 2 * size:
            return f"{int(elapsed // size)}{unit}"
    return f"{max(0, int(elapsed))}s"


def clock(text: str | None) -> str:
    """A time of day in this computer's zone, with the date if it is another day's."""
    at = when(text)
    if at is None:
        return "-"
    local = at.astimezone()
    same_day = local.date() == datetime.now(UTC).astimezone().date()
    return local.strftime("%H:%M:%S") if same_day else local.strftime("%Y-%m-%d %H:%M:%S")
