"""Waiting for orders to end, and saying meanwhile why one does not run."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from muster.cli.options import Format
from muster.cli.terminal import note, one_line
from muster.mesh.errors import MusterError, UnreachableError, WaitTimeoutError

if TYPE_CHECKING:
    from muster.cli.api import Api

RECONNECT_TIMEOUT: Final = 30.0
"""Seconds that the API may be unreachable in the middle."""
RECONNECT_DELAY: Final = 0.5
"""Seconds before the next try to reach it."""
REPORT_INTERVAL: Final = 1.0
"""Seconds after which a change of an order's state or reason is reported."""
ANSWER_TIMEOUT: Final = 30.0
"""Seconds that an answer may take that is not due before `REPORT_INTERVAL`."""
ANSWER_GRACE: Final = 0.5
"""Seconds that an answer may be late once the time limit has passed."""
MOST_REPORTED: Final = 5
"""Orders whose state is read in one interval."""
SHORT: Final = 10
"""Characters of an order's id in a note."""


class Limit:
    """How long somebody waits, from now on; None is without end."""

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds
        self._end = None if seconds is None else time.monotonic() + seconds

    def left(self, most: float) -> float:
        """Returns the seconds that are left, at most so many."""
        return most if self._end is None else max(0.0, min(most, self._end - time.monotonic()))

    @property
    def has_passed(self) -> bool:
        """Returns whether no time is left."""
        return self.left(1.0) == 0.0


class Watch:
    """Reports on standard error when an order stops running, and why it waits; each change once."""

    def __init__(self, api: Api, output: Format) -> None:
        self._api, self.output = api, output
        self._next = time.monotonic() + REPORT_INTERVAL
        self._known: dict[str, str] = {}
        self._waited: set[str] = set()
        self._losses: dict[str, int] = {}
        """The last attempt of each order that was lost."""

    @property
    def is_due(self) -> bool:
        """Returns whether the last check was long enough ago."""
        return time.monotonic() >= self._next

    def check(self, orders: Iterable[str], limit: Limit) -> None:
        """Reads the first of these orders, and reports what changed."""
        self._next = time.monotonic() + REPORT_INTERVAL
        for order in sorted(orders)[:MOST_REPORTED]:
            try:
                found = self._api.get(f"/api/v1/orders/{order}", within=ANSWER_GRACE + limit.left(REPORT_INTERVAL))
            except MusterError:  # whoever waits for the order reports that
                return
            self.report(found)

    def report(self, found: Mapping[str, Any]) -> None:
        """Reports a lost agent, and what the order waits for."""
        order = str(found["id"])
        for loss in found.get("losses") or ():
            if loss["attempt"] > self._losses.get(order, 0):
                self._losses[order] = loss["attempt"]
                self._note(order, f"lost its agent on {loss['element']}: {loss['reason']}")
        words = state(found)
        if words == self._known.get(order) or found.get("finished_at"):
            return
        self._known[order] = words
        if found["state"] != "running" or found.get("reason"):
            self._waited.add(order)
        if order in self._waited:
            self._note(order, f"is {words}")

    def _note(self, order: str, words: str) -> None:
        if self.output == "table":
            note(f"order {order[:SHORT]} {one_line(words)}")


def state(order: Mapping[str, Any]) -> str:
    """Returns an order's state in words, with why it waits or where it runs."""
    where = f"running on {order.get('element')}" if order["state"] == "running" else str(order["state"])
    return f"{where}: {order['reason']}" if order.get("reason") else where


def wait(api: Api, orders: Sequence[Mapping[str, Any]], limit: Limit, watch: Watch) -> list[dict[str, Any]]:
    """Returns all these orders, once each of them has ended; reports meanwhile what keeps one from running.

    Raises:
        WaitTimeoutError: the limit has passed.
        UnreachableError: the API stays unreachable.
    """
    return [_final(api, [one["id"] for one in orders[index:]], limit, watch) for index in range(len(orders))]


def _final(api: Api, orders: list[str], limit: Limit, watch: Watch) -> dict[str, Any]:
    unreachable: Limit | None = None
    while True:
        poll = round(limit.left(REPORT_INTERVAL), 3)
        try:
            within = limit.left(ANSWER_TIMEOUT) + ANSWER_GRACE
            found: dict[str, Any] = api.get(f"/api/v1/orders/{orders[0]}", wait=poll, within=within)
        except UnreachableError as error:
            if limit.has_passed:
                raise still_going(orders, limit) from error
            unreachable = unreachable or Limit(RECONNECT_TIMEOUT)
            if unreachable.has_passed:
                raise
            time.sleep(limit.left(RECONNECT_DELAY))
            continue
        watch.report(found)
        if found["finished_at"]:
            return found
        if limit.has_passed:
            raise still_going(orders, limit)
        watch.check(orders[1:MOST_REPORTED], limit)
        unreachable = None


def still_going(orders: Sequence[str], limit: Limit) -> WaitTimeoutError:
    """Returns the error for a limit that has passed."""
    return WaitTimeoutError(f"{limit.seconds:g} s have passed; {continues(orders)}")


def continues(orders: Sequence[str]) -> str:
    """Returns what to do with orders that nobody watches any more."""
    first = orders[0]
    which = f"order {first} continues" if len(orders) == 1 else f"{len(orders)} orders continue"
    return f"{which}: `muster logs {first} --follow` watches it, `muster cancel {first}` stops it"
