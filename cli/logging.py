"""How the roles log: lines for people on a terminal, JSON for programs otherwise; always on standard error."""

from __future__ import annotations

import logging
import os
import sys
from io import StringIO
from typing import Any, Final, TextIO

from muster.cli.options import LogLevel
from muster.cli.terminal import clean, one_line
from muster.mesh.lean import without

LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


def set_up(level: LogLevel, part: str) -> None:
    """Log from now on, each line naming the `part` of the mesh that says it."""
    with without("rich"):  # for tracebacks that show variables, which we do not want: 4 MB and 0.1 s
        import structlog

    human = sys.stderr.isatty()
    people = structlog.dev.ConsoleRenderer(
        colors=_coloured(),
        pad_event_to=0,
        pad_level=False,
        exception_formatter=_traceback,
    )
    render: list[Any] = (
        [_part_first, _without_controls, people]
        if human
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S" if human else "iso", utc=not human),
            *render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    structlog.contextvars.bind_contextvars(part=part)
    logging.basicConfig(level=max(LEVELS[level], logging.WARNING), stream=sys.stderr, format="%(name)s: %(message)s")


def _part_first(_: Any, __: str, event: dict[str, Any]) -> dict[str, Any]:
    """For people: `broker: leader.elected` says more in less room."""
    part = event.pop("part", None)
    return {**event, "event": f"{part}: {event['event']}"} if part else event


def _without_controls(_: Any, __: str, event: dict[str, Any]) -> dict[str, Any]:
    """For people: what others sent must not steer the terminal; JSON escapes it."""
    return {name: one_line(value) if isinstance(value, str) else value for name, value in event.items()}


def _traceback(out: TextIO, exc_info: Any) -> None:
    """The kind that prints no variables: secrets are among them."""
    import structlog

    structlog.dev.plain_traceback(written := StringIO(), exc_info)
    out.write(clean(written.getvalue()))


def _coloured() -> bool:
    return not os.environ.get("NO_COLOR")
