"""What tasks print arrives as it was printed, in order, and never without bound."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from muster.agent.output import CHUNK, MOST_IN_FLIGHT, MOST_QUEUED, MOST_QUEUED_BEHIND, TAIL, Output, Outputs, Place
from muster.agent.settings import AgentSettings
from muster.mesh import names, records
from muster.mesh.errors import UnavailableError
from muster.mesh.jetstream import PubAck
from muster.mesh.model import OrderState
from tests.agent.broker_stand_in import StandIn
from tests.agent.conftest import running_agent
from tests.kit.waiting import eventually


async def test_output_arrives_byte_for_byte(broker: StandIn, agent: asyncio.Event, tmp_path: Path) -> None:
    data = bytes(range(256)) * 8192
    (tmp_path / "data").write_bytes(data)
    order = await broker.order([{"name": "a", "run": f"cat {tmp_path}/data"}])
    assert (await broker.done(order)).state is OrderState.FINISHED
    await eventually(lambda: len(broker.output[f"{order}.a"]) >= len(data))
    assert hashlib.sha256(broker.output[f"{order}.a"]).digest() == hashlib.sha256(data).digest()
    offsets = [int(headers["Muster-Offset"]) for headers in broker.output_headers]
    assert offsets == sorted(offsets)
    assert offsets[0] == 0


async def test_both_streams_arrive_in_the_order_in_which_they_were_written(
    broker: StandIn, agent: asyncio.Event
) -> None:
    order = await broker.order([{"name": "a", "run": "echo one; echo two >&2; echo three"}])
    await broker.done(order)
    assert broker.output[f"{order}.a"] == b"one\ntwo\nthree\n"


class Stream:
    """An output stream that acknowledges what it gets: all of it, or so many chunks."""

    def __init__(self, takes: int = 10**9) -> None:
        self.takes = takes
        self.chunks: list[tuple[str, int, bytes]] = []
        self.failures = 0
        self.in_flight = self.most_in_flight = 0
        self.taken = asyncio.Event()

    async def send(self, subject: str, data: bytes, headers: dict[str, str]) -> PubAck:
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            while self.takes <= len(self.chunks):
                await self.taken.wait()
            await asyncio.sleep(0)
            if self.failures:
                self.failures -= 1
                raise UnavailableError("not now")
            self.chunks.append((subject.rpartition(".")[2], int(headers["Muster-Offset"]), data))
            return PubAck(stream="x", seq=1)
        finally:
            self.in_flight -= 1

    def take(self) -> None:
        """All of it, from now on."""
        self.takes = 10**9
        self.taken.set()

    def bytes_of(self, job: str = "j") -> bytes:
        """What has arrived of a job's output, in the stream's order; the offsets say the same."""
        parts = [(offset, data) for name, offset, data in self.chunks if name == job]
        place = 0
        for offset, data in parts:
            assert offset == place
            place += len(data)
        return b"".join(data for _, data in parts)


def outputs(stream: Stream, limit: int = CHUNK * 100) -> Outputs:
    """The outputs of an agent with this stream."""
    return Outputs(stream, limit)  # type: ignore[arg-type]  # as much of a publisher as they need


def output(shared: Outputs, job: str = "j", behind: Output | None = None) -> Output:
    """The output of a job."""
    return Output(shared, Place("order", "e1", job), claim=1, attempt=1, behind=behind)


async def test_a_tasks_output_comes_behind_that_of_the_task_before() -> None:
    stream = Stream(takes=1)
    shared = outputs(stream)
    first = output(shared, "first")
    first.feed(b"x" * CHUNK)
    first.feed(b"x")
    first.finish()
    second = output(shared, "second", first)
    second.feed(b"word")
    second.finish()
    await eventually(lambda: stream.in_flight == 1)
    stream.take()
    await second.arrived()
    assert [(name, len(data)) for name, _, data in stream.chunks] == [("first", CHUNK), ("first", 1), ("second", 4)]


async def test_whoever_prints_waits_while_the_stream_takes_nothing() -> None:
    stream = Stream(takes=0)
    shared = outputs(stream)
    first = output(shared, "first")
    fed = 0
    while first.feed(b"x" * 1000):
        fed += 1000
        await asyncio.sleep(0)
    assert fed <= MOST_QUEUED + CHUNK
    second = output(shared, "second", first)
    assert not second.feed(b"y" * MOST_QUEUED_BEHIND), "one that waits for its predecessor queues little"
    waiting = asyncio.create_task(second.space())
    await asyncio.sleep(0)
    assert not waiting.done()
    stream.take()
    first.finish()
    await waiting
    assert not first.is_full
    await second.arrived()


async def test_few_chunks_of_all_outputs_are_in_flight() -> None:
    stream = Stream(takes=0)
    shared = outputs(stream)
    many = [output(shared, f"j{number}") for number in range(MOST_IN_FLIGHT + 50)]
    for each in many:
        each.feed(b"x")
        each.finish()
    await eventually(lambda: stream.in_flight == MOST_IN_FLIGHT)
    stream.take()
    for each in many:
        await each.arrived()
    assert stream.most_in_flight == MOST_IN_FLIGHT
    assert len(stream.chunks) == len(many)


async def test_what_the_stream_refuses_is_sent_again_in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("muster.agent.output.RETRY_DELAY", 0.0)
    stream = Stream()
    stream.failures = 3
    one = output(outputs(stream))
    data = bytes(range(256)) * 2048
    for start in range(0, len(data), CHUNK):
        await one.write(data[start : start + CHUNK])
    await one.arrived()
    assert stream.bytes_of() == data


async def test_a_dropped_output_holds_nobody_up() -> None:
    stream = Stream(takes=0)
    one = output(outputs(stream))
    while one.feed(b"x" * CHUNK):
        pass
    waiting = asyncio.create_task(one.space())
    await asyncio.sleep(0)
    assert await one.drop() > 0
    await waiting
    assert one.feed(b"x" * MOST_QUEUED * 2)
    await one.arrived()
    assert not stream.chunks


async def test_a_line_is_seen_while_the_task_goes_on(broker: StandIn, agent: asyncio.Event) -> None:
    order = await broker.order([{"name": "a", "run": "echo up; sleep 300"}])
    await eventually(lambda: broker.output[f"{order}.a"] == b"up\n")
    assert not broker.of(order, records.Done)
    await broker.cancel(order)
    await broker.done(order)


async def test_output_is_on_the_stream_before_the_order_is_done(broker: StandIn, agent: asyncio.Event) -> None:
    order = await broker.order([{"name": "a", "run": "echo x"}])
    await broker.done(order)
    assert (await broker.js.stream_info("MUSTER_OUTPUT")).state.messages == 1


async def test_a_flood_is_cut_at_the_limit_and_the_task_goes_on(broker: StandIn, agent_settings: AgentSettings) -> None:
    async with running_agent(agent_settings, output_limit=1024 * 1024):
        run = "seq 1000000; echo the end; echo ok=1 >> $MUSTER_OUTPUTS"
        order = await broker.order([{"name": "a", "run": run}, {"name": "b", "run": "echo next"}])
        done = await broker.done(order)
        assert done.outputs == {"ok": 1}
        await eventually(lambda: broker.output[f"{order}.a"].endswith(b"end\n"))
        printed = "".join(f"{number}\n" for number in range(1, 1_000_001)) + "the end\n"
        kept = broker.output[f"{order}.a"].decode()
        assert kept[: 1024 * 1024] == printed[: 1024 * 1024]
        note, missing, *rest = kept[1024 * 1024 + 1 :].splitlines()
        assert note == "[muster: the output limit of 1 MiB is reached; the last 64 KiB follow at the end]"
        assert len(rest) > 8000
        assert rest == printed.splitlines()[-len(rest) :]
        left_out = len(printed) - 1024 * 1024 - len("\n".join(rest)) - 1
        assert missing == f"[muster: {left_out:,} bytes are missing here]"
        assert list(broker.output) == [f"{order}.a", f"{order}.b"]


@given(st.lists(st.binary(max_size=3 * TAIL), max_size=6), st.integers(1, TAIL))
async def test_the_beginning_and_the_end_are_kept_of_any_output(parts: list[bytes], limit: int) -> None:
    stream = Stream()
    one = output(outputs(stream, limit))
    whole = b"".join(parts)
    for part in parts:
        await one.write(part)
    await one.arrived()
    kept = stream.bytes_of()
    assert kept.startswith(whole[:limit])
    if len(whole) <= limit:
        assert kept == whole
    else:
        end = kept.rpartition(b"are missing here]\n")[2] if b"are missing here]" in kept else whole[limit:]
        assert whole.endswith(end)
        assert kept.endswith(end)
        assert len(kept) <= limit + TAIL + 200


async def test_an_order_ends_though_the_output_stream_takes_nothing(
    broker: StandIn, agent: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("muster.agent.execute.OUTPUT_TIMEOUT", 0.3)
    monkeypatch.setattr("muster.agent.execute.LAST_OUTPUT_TIMEOUT", 0.1)
    await broker.js.delete_stream(names.OUTPUT_STREAM)
    with capture_logs() as logs:
        order = await broker.order([{"name": "a", "run": "echo x"}])
        assert (await broker.done(order)).state is OrderState.FINISHED
        await broker.settled()
    assert [line["order"] for line in logs if line["event"] == "output.lost"] == [order]


async def test_each_try_has_output_of_its_own(broker: StandIn, agent: asyncio.Event) -> None:
    order = await broker.order([{"name": "a", "run": "echo x; false", "retry": {"attempts": 2, "delay": "10ms"}}])
    await broker.done(order)
    tries = [headers["Muster-Attempt"] for headers in broker.output_headers]
    assert tries == ["1", "2"]


async def test_a_daemon_that_holds_the_output_does_not_hold_the_order(
    broker: StandIn, agent: asyncio.Event, tmp_path: Path
) -> None:
    order = await broker.order([{"name": "a", "run": f"setsid sleep 300 & echo $! > {tmp_path}/pid; echo up"}])
    done = await broker.done(order)
    assert done.state is OrderState.FINISHED
    assert broker.output[f"{order}.a"] == b"up\n"
    daemon = int((tmp_path / "pid").read_text())
    os.kill(daemon, signal.SIGKILL)


async def test_what_a_script_leaves_in_its_group_ends_with_it(
    broker: StandIn, agent: asyncio.Event, tmp_path: Path
) -> None:
    order = await broker.order([{"name": "a", "run": f"sleep 300 & echo $! > {tmp_path}/pid"}])
    await broker.done(order)
    child = Path("/proc") / (tmp_path / "pid").read_text().strip()
    await eventually(lambda: not child.exists() or "Z" in (child / "stat").read_text().split())


@pytest.mark.parametrize("size", [0, 1, 131072, 131073])
async def test_any_size_arrives_whole(broker: StandIn, agent: asyncio.Event, size: int) -> None:
    order = await broker.order([{"name": "a", "run": f"head -c {size} /dev/zero"}])
    await broker.done(order)
    await eventually(lambda: len(broker.output[f"{order}.a"]) == size)
