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

from muster.agent.output import AGENT_WINDOW, CHUNK, DELAY, JOB_WINDOW, TAIL, Output, Outputs, Place
from muster.agent.settings import AgentSettings
from muster.mesh import records
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


class Slow:
    """A stream that acknowledges nothing until it is asked to."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.unanswered: list[asyncio.Future[PubAck]] = []

    def send(self, subject: str, data: bytes, headers: dict[str, str]) -> asyncio.Future[PubAck]:
        self.sent.append(subject.rpartition(".")[2])
        future = asyncio.get_running_loop().create_future()
        self.unanswered.append(future)
        return future

    def answer(self) -> None:
        """Acknowledge all that was sent."""
        for future in self.unanswered:
            future.set_result(PubAck(stream="x", seq=1))
        self.unanswered = []


async def test_a_tasks_output_comes_behind_that_of_the_task_before() -> None:
    slow = Slow()
    outputs = Outputs(slow, CHUNK * 100)  # type: ignore[arg-type]  # as much of a publisher as they need
    first = Output(outputs, Place("order", "e1", "first"), claim=1, attempt=1)
    second = Output(outputs, Place("order", "e1", "second"), claim=1, attempt=1, behind=first)
    first.feed(b"x" * (CHUNK * JOB_WINDOW + 1))
    second.feed(b"word")
    asyncio.get_running_loop().call_later(3 * DELAY, slow.answer)  # by then it would have been sent
    await eventually(lambda: "second" in slow.sent)
    assert slow.sent == ["first"] * (JOB_WINDOW + 1) + ["second"]


async def test_a_line_is_seen_while_the_task_goes_on(broker: StandIn, agent: asyncio.Event) -> None:
    order = await broker.order([{"name": "a", "run": "echo soon; sleep 300"}])
    await eventually(lambda: broker.output[f"{order}.a"] == b"soon\n", within=3)
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
    outputs = Outputs(Slow(), limit)  # type: ignore[arg-type]
    outputs.unacknowledged = AGENT_WINDOW  # nothing is sent, so all of it stays in the buffer
    output = Output(outputs, Place("o", "e1", "j"), claim=1, attempt=1)
    whole = b"".join(parts)
    for part in parts:
        output.feed(part)
    output.finish()
    kept = bytes(output._buffer)
    assert kept.startswith(whole[:limit])
    if len(whole) <= limit:
        assert kept == whole
    else:
        end = kept.rpartition(b"are missing here]\n")[2] if b"are missing here]" in kept else whole[limit:]
        assert whole.endswith(end)
        assert kept.endswith(end)
        assert len(kept) <= limit + TAIL + 200


async def test_each_try_has_output_of_its_own(broker: StandIn, agent: asyncio.Event) -> None:
    order = await broker.order([{"name": "a", "run": "echo x; false", "retry": {"attempts": 2, "delay": "10ms"}}])
    await broker.done(order)
    tries = [headers["Muster-Attempt"] for headers in broker.output_headers]
    assert tries == ["1", "2"]


async def test_a_daemon_that_holds_the_output_does_not_hold_the_order(
    broker: StandIn, agent: asyncio.Event, tmp_path: Path
) -> None:
    order = await broker.order([{"name": "a", "run": f"setsid sleep 300 & echo $! > {tmp_path}/pid; echo up"}])
    done = await broker.done(order, within=4)
    assert done.state is OrderState.FINISHED
    assert broker.output[f"{order}.a"] == b"up\n"
    daemon = int((tmp_path / "pid").read_text())
    os.kill(daemon, signal.SIGKILL)


async def test_what_a_script_leaves_in_its_group_ends_with_it(
    broker: StandIn, agent: asyncio.Event, tmp_path: Path
) -> None:
    order = await broker.order([{"name": "a", "run": f"sleep 300 & echo $! > {tmp_path}/pid"}])
    await broker.done(order, within=4)
    child = Path("/proc") / (tmp_path / "pid").read_text().strip()
    await eventually(lambda: not child.exists() or "Z" in (child / "stat").read_text().split())


@pytest.mark.parametrize("size", [0, 1, 131072, 131073])
async def test_any_size_arrives_whole(broker: StandIn, agent: asyncio.Event, size: int) -> None:
    order = await broker.order([{"name": "a", "run": f"head -c {size} /dev/zero"}])
    await broker.done(order)
    await eventually(lambda: len(broker.output[f"{order}.a"]) == size)
