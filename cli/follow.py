"""Watching orders until they end: their output as it comes, any number at a time."""

from __future__ import annotations

import queue
import sys
import threading
import time
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from muster.cli.options import Format
from muster.cli.output import item
from muster.cli.terminal import PlainOutput, one_line
from muster.cli.watch import RECONNECT_DELAY, RECONNECT_TIMEOUT, REPORT_INTERVAL, Limit, Watch, still_going
from muster.mesh.errors import MusterError, UnavailableError, UnreachableError, UsageError

if TYPE_CHECKING:
    from muster.cli.api import Api

MOST_FOLLOWED: Final = 200
"""Orders to follow at once, each with a connection."""
PIECES_AHEAD: Final = 1000
"""Pieces of output that have come and are not printed yet."""


Place = tuple[int, int, int]
"""Attempt at the order, try of the task, offset: a later one is behind an earlier one."""


class Piece(msgspec.Struct, frozen=True, kw_only=True):
    """Something that a job printed."""

    order: str
    job: str
    claim: int
    attempt: int
    offset: int
    data: bytes


class End(msgspec.Struct, frozen=True, kw_only=True):
    """An order is final."""

    order: str


def pieces(api: Api, order: str, job: str | None = None) -> Iterator[Piece | End]:
    """What the order's jobs print, until it is final; continues where a broken connection ended.

    Raises:
        UnreachableError: the API stays unreachable.
    """
    from muster.cli.api import segment

    seen: dict[str, Place] = {}
    lost_at: float | None = None
    while True:
        try:
            with api.stream(f"/api/v1/orders/{segment(order)}/output", follow=True, job=job) as messages:
                for message in messages:
                    lost_at = None
                    if message.name == "end":
                        yield End(order=str(message.data.get("order", order)))
                        return
                    if (piece := _fresh(order, message.data, seen)) is not None:
                        yield piece
        except UnreachableError:
            if lost_at is None:
                lost_at = time.monotonic()
            elif time.monotonic() - lost_at > RECONNECT_TIMEOUT:
                raise
        time.sleep(RECONNECT_DELAY)


def _fresh(order: str, data: dict[str, Any], seen: dict[str, Place]) -> Piece | None:
    """Returns the part of a piece that had not come before the connection broke."""
    text = b64decode(data["data"]) if data.get("encoding") == "base64" else data["data"].encode()
    claim, attempt, start = int(data.get("claim", 0)), int(data["attempt"]), int(data["offset"])
    end = (claim, attempt, start + len(text))
    known = seen.get(data["job"], (-1, -1, -1))
    if end <= known:
        return None
    seen[data["job"]] = end
    if (claim, attempt) == known[:2] and start < known[2]:
        start, text = known[2], text[known[2] - start :]
    return Piece(order=order, job=data["job"], claim=claim, attempt=attempt, offset=start, data=text)


def as_json(name: str, data: bytes) -> dict[str, str]:
    """Output as a field of that name: text, or base64, as `encoding` says then, if it is not UTF-8."""
    try:
        return {name: data.decode()}
    except UnicodeDecodeError:
        return {name: b64encode(data).decode(), "encoding": "base64"}


class Printer:
    """Prints pieces of one order under job headings, of several with the element in front of each line."""

    def __init__(self, output: Format, labels: Mapping[str, str], *, plain: bool = False) -> None:
        self._output = output
        self._labels = {order: one_line(label) for order, label in labels.items()}
        self._plain = plain
        self._strippers: dict[str, tuple[tuple[str, int, int], PlainOutput]] = {}
        """Of each order, what strips the output of its present job."""
        self._several = len(labels) > 1
        self._width = max((len(label) for label in labels.values()), default=0)
        self._last: tuple[str, str, int, int] | None = None
        self._at_start = True
        self._rest: dict[str, tuple[tuple[str, int, int], bytes]] = {}
        """Of each order, the start of a line whose end has not come."""

    def piece(self, piece: Piece) -> None:
        """Print what came."""
        if self._output != "table":
            place = {"order": piece.order, "job": piece.job, "attempt": piece.attempt}
            item(place | as_json("data", piece.data), self._output)
            return
        if self._plain:
            piece = msgspec.structs.replace(piece, data=self._stripped(piece))
        if self._several:
            self._whole_lines(piece)
        else:
            self._heading((piece.order, piece.job, piece.attempt, piece.claim))
            self._write(piece.data)

    def heading(self, job: str) -> None:
        """Starts a job's output."""
        self._heading(("", job, 1, 1))

    def text(self, data: bytes) -> None:
        """Print all of a job's output."""
        self._write(PlainOutput().strip(data) if self._plain else data)

    def _stripped(self, piece: Piece) -> bytes:
        job = (piece.job, piece.claim, piece.attempt)
        before, stripper = self._strippers.get(piece.order, (None, PlainOutput()))
        if before != job:
            stripper = PlainOutput()
        self._strippers[piece.order] = job, stripper
        return stripper.strip(piece.data)

    def _heading(self, place: tuple[str, str, int, int]) -> None:
        if place == self._last:
            return
        self._last = place
        title = one_line(place[1]) + (f" (attempt {place[2]})" if place[2] > 1 else "")
        self.end_line()
        if _coloured():
            self._write(f"\033[1;36m▶ {title}\033[0m\n".encode())
        else:
            self._write(f"▶ {title}\n".encode())

    def _whole_lines(self, piece: Piece) -> None:
        job = (piece.job, piece.claim, piece.attempt)
        before, rest = self._rest.pop(piece.order, (job, b""))
        if rest and before != job:  # an order's jobs run one after the other: nothing more will come of that line
            self._line(piece.order, rest)
            rest = b""
        *whole, rest = (rest + piece.data).split(b"\n")
        for text in whole:
            self._line(piece.order, text)
        self._rest[piece.order] = (job, rest)

    def _line(self, order: str, text: bytes) -> None:
        self._write(self._prefix(order) + text + b"\n")

    def _prefix(self, order: str) -> bytes:
        label = self._labels.get(order, one_line(order)).ljust(self._width)
        return (f"\033[36m{label}\033[0m │ " if _coloured() else f"{label} │ ").encode()

    def ended(self, order: str) -> None:
        """Print what an order left without a line end."""
        _, rest = self._rest.pop(order, (None, b""))
        if rest:
            self._line(order, rest)
        self.end_line()

    def end_line(self) -> None:
        """Starts a new line if the last one was not ended."""
        if not self._at_start:
            self._write(b"\n")

    def _write(self, data: bytes) -> None:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        self._at_start = data.endswith(b"\n")


def _coloured() -> bool:
    import os

    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def follow(api: Api, orders: Sequence[Mapping[str, Any]], limit: Limit, watch: Watch, *, plain: bool = False) -> None:
    """Prints the output of all these orders until the last one has ended; reports meanwhile what one waits for.

    Raises:
        WaitTimeoutError: the limit has passed.
        UsageError: they are more than can be followed.
    """
    if len(orders) > MOST_FOLLOWED:
        raise UsageError(f"{len(orders)} orders are too many to follow (at most {MOST_FOLLOWED}); use --wait")
    names = {order["id"]: order.get("element") or order["id"][:10] for order in orders}
    printer = Printer(watch.output, names, plain=plain)
    arrived: queue.Queue[Piece | End | MusterError] = queue.Queue(PIECES_AHEAD)
    for order in names:
        threading.Thread(target=_listen, args=(api, order, arrived), daemon=True).start()
    left = set(names)
    while left:
        if watch.is_due:
            watch.check(left, limit)
        try:
            found = arrived.get(timeout=limit.left(REPORT_INTERVAL))
        except queue.Empty:
            if limit.has_passed:
                printer.end_line()
                raise still_going(sorted(left), limit) from None
            continue
        if isinstance(found, MusterError):
            raise found
        if isinstance(found, End):
            left.discard(found.order)
            printer.ended(found.order)
        else:
            printer.piece(found)


def _listen(api: Api, order: str, arrived: queue.Queue[Piece | End | MusterError]) -> None:
    try:
        for piece in pieces(api, order):
            arrived.put(piece)
    except MusterError as error:
        arrived.put(error)
    except Exception as error:  # noqa: BLE001 - the main thread reports it
        arrived.put(UnavailableError(f"following order {order} ended: {error!r}"))
