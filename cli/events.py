"""`muster events`: watch what happens, live; a broken connection continues where it ended."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any, Final

from cyclopts import Parameter

from muster.cli.options import COMMON, Common
from muster.cli.output import STYLES, clock, item, plain, say
from muster.cli.terminal import note, one_line
from muster.mesh.errors import GoneError, UnreachableError

if TYPE_CHECKING:
    from muster.cli.api import Api

BACKOFF: Final = (0.5, 1.0, 2.0, 5.0)
LAST: Final = 999_999
"""Behind all events of one record."""


def events(
    *,
    kind: Annotated[str | None, Parameter(help="Only this kind (order.failed), or all of a noun (order).")] = None,
    after: Annotated[
        str | None, Parameter(help="Start after this event's id instead of now; 0 is the first event that is kept.")
    ] = None,
    common: Common = COMMON,
) -> None:
    """Watch what happens, until interrupted.  With -o json, one event a line."""
    with common.connect() as api:
        _watch(api, kind, after, common)


def _watch(api: Api, kind: str | None, after: str | None, common: Common) -> None:
    misses, reached = 0, False
    if after is None:
        after = f"{api.get('/api/v1/info')['sequence']}.{LAST}"  # so that nothing is missed after a reconnect
    while True:
        try:
            with api.stream("/api/v1/events", after=after, kind=kind) as messages:
                if misses:
                    note("connected again")
                elif not reached and common.output == "table":
                    note(f"watching {api.url}; Ctrl-C ends it")
                misses, reached = 0, True
                for message in messages:
                    after = message.ident or after
                    _print(message.data, common)
        except GoneError as error:
            note(error.detail)
            after = error.after
            continue
        except UnreachableError as error:
            if not reached:
                raise
            if not misses:
                note(f"{error.detail}; trying again")
        time.sleep(BACKOFF[min(misses, len(BACKOFF) - 1)])
        misses += 1


def _print(event: dict[str, Any], common: Common) -> None:
    if common.output != "table":
        item(event, common.output)
        return
    noun, _, action = one_line(str(event["kind"])).partition(".")
    say(
        (clock(event.get("time")), "dim"),
        f" {noun}.",
        (action, STYLES.get(action, "")),
        f"{' ' * (18 - len(event['kind']))} {one_line(plain(event.get('subject')))}",
        (f" {one_line(plain(event['data']))}" if event.get("data") else "", "dim"),
    )
