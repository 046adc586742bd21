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
from muster.cli.terminal import PlainOutput, note, one_line
from muster.mesh.errors import MusterError, UnavailableError, UnreachableError, UsageError, WaitTimeoutError

if TYPE_CHECKING:
    from muster.cli.api import Api

MOST: Final = 200
"""Orders to follow at once, each with a connection."""
PATIENCE: Final = 30.0
"""Seconds that the API may be away in the middle."""
LONG_POLL: Final = 20.0
AWAIT: Final = 2.0
"""Seconds of silence after which we look why an order does not run."""
GRACE: Final = 0.5
"""Seconds that an answer may be late."""


class Limit:
    """How long somebody is willing to wait, from now on; None is for ever."""

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds
        self._end = None if seconds is None else time.monotonic() + seconds

    def left(self, most: float) -> float:
        """Seconds that are left, at most so many."""
        return most if self._end is None else max(0.0, min(most, self._end - time.monotonic()))

    @property
    def is_over(self) -> bool:
        """Whether it has passed."""
        return self.left(1.0) == 0.0


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
    """What the order's jobs print, until it is final; goes on where it was when the connection broke.

    Raises:
        UnreachableError: the API stays away.
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
            elif time.monotonic() - lost_at > PATIENCE:
                raise
        time.sleep(0.5)


def _fresh(order: str, data: dict[str, Any], seen: dict[str, Place]) -> Piece | None:
    """The part of a piece that was not there before the connection broke."""
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
        """Of each order, what its job began to print: a line without its end."""

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
        """Begin a job's output."""
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
        """Begin a new line if the last one was not ended."""
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


def follow(api: Api, orders: Sequence[Mapping[str, Any]], output: Format, limit: Limit, *, plain: bool = False) -> None:
    """Print the output of all these orders until the last one has ended.

    Raises:
        WaitTimeoutError: the limit has passed.
        UsageError: they are more than can be followed.
    """
    if len(orders) > MOST:
        raise UsageError(f"{len(orders)} orders are too many to follow (at most {MOST}); use --wait")
    names = {order["id"]: order.get("element") or order["id"][:10] for order in orders}
    printer = Printer(output, names, plain=plain)
    arrived: queue.Queue[Piece | End | MusterError] = queue.Queue(1000)
    for order in names:
        threading.Thread(target=_listen, args=(api, order, arrived), daemon=True).start()
    watch = _Watch(api, output)
    left = set(names)
    while left:
        try:
            found = arrived.get(timeout=limit.left(AWAIT))
        except queue.Empty:
            if limit.is_over:
                printer.end_line()
                raise still_going(sorted(left), limit) from None
            watch.look(left, limit)
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
    except Exception as error:  # noqa: BLE001 - the main thread tells it
        arrived.put(UnavailableError(f"following order {order} ended: {error!r}"))


class _Watch:
    """Says on standard error why an order that prints nothing does not run."""

    def __init__(self, api: Api, output: Format) -> None:
        self._api, self._quiet = api, output != "table"
        self._told: dict[str, str] = {}

    def look(self, orders: set[str], limit: Limit) -> None:
        for order in sorted(orders)[:5]:
            try:
                found = self._api.get(f"/api/v1/orders/{order}", within=GRACE + limit.left(AWAIT))
            except MusterError:
                return
            self.tell(found)

    def tell(self, found: Mapping[str, Any]) -> None:
        """Say how an order is, if that is news and it does not run."""
        order = str(found["id"])
        words = one_line(f"{found['state']}" + (f": {found['reason']}" if found.get("reason") else ""))
        if not self._quiet and found["state"] != "running" and self._told.get(order) != words:
            note(f"order {order[:10]} is {words}")
        self._told[order] = words


def wait(api: Api, orders: Sequence[Mapping[str, Any]], limit: Limit, output: Format = "table") -> list[dict[str, Any]]:
    """All these orders, once each of them has ended; what keeps one from running is said meanwhile.

    Raises:
        WaitTimeoutError: the limit has passed.
        UnreachableError: the API stays away.
    """
    watch = _Watch(api, output)
    return [_final(api, [one["id"] for one in orders[index:]], limit, watch) for index in range(len(orders))]


def _final(api: Api, orders: list[str], limit: Limit, watch: _Watch) -> dict[str, Any]:
    lost: Limit | None = None
    poll = AWAIT
    while True:
        room, patience = round(limit.left(poll), 3), limit.left(LONG_POLL + PATIENCE) + GRACE
        try:
            found: dict[str, Any] = api.get(f"/api/v1/orders/{orders[0]}", wait=room, within=patience)
        except UnreachableError as error:
            if limit.is_over:
                raise still_going(orders, limit) from error
            lost = lost or Limit(PATIENCE)
            if lost.is_over:
                raise
            time.sleep(limit.left(0.5))
            continue
        if found["finished_at"]:
            return found
        watch.tell(found)
        if limit.is_over:
            raise still_going(orders, limit)
        lost, poll = None, LONG_POLL


def still_going(orders: Sequence[str], limit: Limit) -> WaitTimeoutError:
    """What to say when the time to wait has passed."""
    return WaitTimeoutError(f"{limit.seconds:g} s have passed; {goes_on(orders)}")


def goes_on(orders: Sequence[str]) -> str:
    """What to say of orders that nobody watches any more."""
    first = orders[0]
    which = f"order {first} goes on" if len(orders) == 1 else f"{len(orders)} orders go on"
    return f"{which}: `muster logs {first} --follow` watches it, `muster cancel {first}` stops it"
