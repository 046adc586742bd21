"""Our shorter way to take messages in reads exactly what nats-py's own parser reads."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from nats.protocol.parser import Parser

from muster.mesh.wire import Connection, _Parser

SUBJECTS = st.sampled_from([b"a", b"muster.log.order.x.broker", b"$JS.ACK.S.c.1.2.3.4.5"])
PAYLOADS = st.one_of(st.binary(max_size=40), st.sampled_from([b"\r\n", b"MSG a 1 2\r\n", b"PING\r\n", b"x" * 70_000]))
HEADERS = st.sampled_from([b"", b"NATS/1.0\r\nNats-Msg-Id: 7\r\n\r\n", b"NATS/1.0 100 Idle Heartbeat\r\n\r\n"])


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """What a server sends with a message."""
    reply = draw(st.one_of(st.just(b""), SUBJECTS))
    headers, payload = draw(HEADERS), draw(PAYLOADS)
    words = [b"HMSG" if headers else b"MSG", draw(SUBJECTS), b"%d" % draw(st.integers(1, 3)), *filter(None, [reply])]
    words += [b"%d" % len(headers)] if headers else []
    words += [b"%d" % (len(headers) + len(payload))]
    return b" ".join(words) + b"\r\n" + headers + payload + b"\r\n"


STREAMS = st.lists(
    st.one_of(messages(), messages(), st.sampled_from([b"PING\r\n", b"PONG\r\n", b"+OK\r\n"])), max_size=12
)


class Listener(Connection):
    """Notes down what a parser finds."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[Any, ...]] = []

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes | None) -> None:
        self.found.append((sid, subject, reply, data, headers or b""))

    async def _process_ping(self) -> None:
        self.found.append(("ping",))

    async def _process_pong(self) -> None:
        self.found.append(("pong",))


def read(kind: type[Parser], parts: list[bytes]) -> tuple[list[tuple[Any, ...]], bytes]:
    """What a parser makes of the parts, and what it keeps for the next one."""
    listener = Listener()
    parser = kind(listener)
    for part in parts:
        reading = parser.parse(part)
        try:
            while True:
                reading.send(None)
        except StopIteration:
            continue
    return listener.found, bytes(parser.buf)


@given(stream=STREAMS, cuts=st.lists(st.integers(0, 200_000), max_size=8))
@settings(max_examples=300, deadline=None)
def test_wherever_the_reads_end_no_message_is_lost_or_changed(stream: list[bytes], cuts: list[int]) -> None:
    whole = b"".join(stream)
    places = sorted({0, *(cut % (len(whole) + 1) for cut in cuts), len(whole)})
    parts = [whole[start:end] for start, end in pairwise(places)]
    assert read(_Parser, parts) == read(Parser, [whole])
    assert read(_Parser, [*parts, whole[:-1], whole[-1:]])[0] == read(Parser, [whole, whole])[0]
