"""An embedded server on a disk of its own, which other programs fill and free."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from nats.aio.client import Client
from nats.js.api import StreamConfig

from muster.mesh import disk, disk_watch, names, storing
from muster.mesh.connection import connect
from muster.mesh.disk_watch import Pause
from muster.mesh.embedded_nats import EmbeddedNats, NatsSettings
from muster.mesh.errors import RefusedError, StorageError, UnavailableError
from muster.mesh.jetstream import Publisher
from tests.kit.disks import Disk, small_disk
from tests.kit.waiting import eventually

OUTPUT = StreamConfig(name=names.OUTPUT_STREAM, subjects=[names.OUTPUT_SUBJECTS], max_bytes=disk.MIB)
LOG = StreamConfig(name=names.LOG_STREAM, subjects=[names.LOG_SUBJECTS])


@asynccontextmanager
async def publishing(server: EmbeddedNats) -> AsyncIterator[tuple[Client, Publisher]]:
    def back() -> None:
        publisher.renew()

    async with connect(server.url, name="test", on_reconnect=back) as client:
        publisher = Publisher(client)
        async with publisher:
            yield client, publisher


async def until_refused(publisher: Publisher, subject: str, size: int = 4000) -> tuple[int, UnavailableError]:
    """How many messages were stored, and why the next one was not."""
    for stored in range(100_000):
        try:
            await publisher.publish(subject, bytes(size))
        except UnavailableError as error:
            return stored, error
    raise AssertionError


def settings(place: Disk | Path) -> NatsSettings:
    return NatsSettings(folder=(place.path if isinstance(place, Disk) else place) / "nats", durability="fast", grace=5)


@pytest.mark.parametrize("durability", ["safe", "fast"])
async def test_a_server_whose_disk_was_full_takes_messages_again_and_has_lost_none(
    tmp_path: Path, durability: str
) -> None:
    with small_disk(tmp_path / "disk", 32 * disk.MIB) as small:
        folder = small.path / "nats"
        async with (
            EmbeddedNats(NatsSettings(folder=folder, durability=durability)) as server,  # type: ignore[arg-type]
            publishing(server) as (client, publisher),
        ):
            js, subject = client.jetstream(), names.log("order", "o")
            await js.add_stream(LOG)
            await publisher.publish(subject, b"before")
            small.fill()
            stored, error = await until_refused(publisher, subject)
            assert isinstance(error, StorageError)
            assert error.detail == storing.FULL
            with pytest.raises(StorageError, match="no space left on the disk of the NATS server"):
                await publisher.ask_why(names.LOG_STREAM)
            small.clear()

            async def passes() -> bool:
                try:
                    return bool((await publisher.publish(subject, b"after")).seq)
                except UnavailableError:
                    return False

            await eventually(passes, 30, "a message that is stored")
            count = (await js.stream_info(names.LOG_STREAM)).state.messages
            assert count >= stored + 2
            assert (await js.get_msg(names.LOG_STREAM, 1)).data == b"before"
            assert (await js.get_last_msg(names.LOG_STREAM, subject)).data == b"after"


async def test_a_server_says_when_its_disk_is_full(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 32 * disk.MIB) as small:
        async with EmbeddedNats(settings(small)) as server, publishing(server) as (client, _):
            heard = await client.subscribe(names.DISK_FULL)
            await client.flush()
            small.fill()
            await heard.next_msg(timeout=10)


async def test_output_gets_the_share_of_the_disk_that_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_watch, "CHECK_INTERVAL", 0.05)
    with small_disk(tmp_path / "disk", 64 * disk.MIB) as small:
        async with EmbeddedNats(settings(small)) as server, publishing(server) as (client, publisher):
            js = client.jetstream()

            async def share() -> int:
                return int((await js.stream_info(names.OUTPUT_STREAM)).config.max_bytes or 0)

            async def is_about(mib: float) -> None:
                async def is_so() -> bool:
                    return abs(await share() - mib * disk.MIB) < mib * disk.MIB / 6

                await eventually(is_so, 25, f"an output stream of {mib} MiB")

            await js.add_stream(OUTPUT)
            await is_about(6.4)
            for _ in range(40):
                await publisher.publish(names.output("o", "e", "j"), bytes(100_000))
            small.resize(32 * disk.MIB)
            await is_about(4.0)  # what it holds, while there is space
            small.fill(leave=disk.MIB // 3)
            await is_about(0.4)  # the oldest goes, for now there is little


async def test_more_was_reserved_than_the_disk_has_now(tmp_path: Path) -> None:
    async with EmbeddedNats(settings(tmp_path)) as server, publishing(server) as (client, publisher):
        await client.jetstream().add_stream(OUTPUT.evolve(max_bytes=8 * disk.GIB))
        await client.jetstream().add_stream(LOG)
        await publisher.publish(names.log("order", "o"), b"kept")
    with small_disk(tmp_path / "disk", 64 * disk.MIB) as small:
        shutil.copytree(tmp_path / "nats", small.path / "nats")
        async with EmbeddedNats(settings(small)) as server, publishing(server) as (client, _):
            js = client.jetstream()
            found = (await js.stream_info(names.OUTPUT_STREAM)).config
            assert 5 * disk.MIB < (found.max_bytes or 0) < 7 * disk.MIB
            assert (await js.get_msg(names.LOG_STREAM, 1)).data == b"kept"
            await js.update_stream(LOG.evolve(allow_direct=True))
            await js.add_stream(StreamConfig(name="MORE", subjects=["more"], max_bytes=disk.MIB))


async def test_what_jetstream_may_use_grows_with_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_watch, "CHECK_INTERVAL", 0.05)
    with small_disk(tmp_path / "disk", 16 * disk.MIB) as small:
        async with EmbeddedNats(settings(small)) as server, publishing(server) as (client, publisher):
            await client.jetstream().add_stream(LOG)
            subject = names.log("order", "o")
            stored, error = await until_refused(publisher, subject, 200_000)
            assert "no space left on the disk of the NATS server" in error.detail
            assert small.free > disk.MIB  # it left a tenth to others
            small.resize(64 * disk.MIB)

            async def passes() -> bool:
                try:
                    return (await publisher.publish(subject, b"more")).seq > stored
                except UnavailableError:
                    return False

            await eventually(passes, 30, "a message that is stored")


async def test_no_server_starts_on_a_full_disk(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 16 * disk.MIB) as small:
        small.fill(leave=disk.MIB)
        with pytest.raises(RefusedError, match=r"no space left on .*1\.0 MiB are free.*free some, or choose"):
            async with EmbeddedNats(settings(small)):
                pass


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (storing.ApiError(err_code=10057, description="write /x y/1.blk: no space left on device"), storing.FULL),
        (storing.ApiError(err_code=10057, description="open /x: disk quota exceeded"), storing.FULL),
        (storing.ApiError(code=503, err_code=10023, description="insufficient resources"), storing.FULL),
        (storing.ApiError(err_code=10047, description="insufficient storage resources available"), storing.FULL),
        (
            storing.ApiError(err_code=10057, description="write /x/1.blk: input/output error"),
            "the NATS server cannot write its streams: input/output error; nothing accepted is lost",
        ),
        (
            storing.ApiError(err_code=10049, description="error creating store for stream"),
            "the NATS server cannot write on its disk (error creating store for stream); is there any space left?",
        ),
    ],
)
def test_a_refusal_says_that_nothing_can_be_stored(error: storing.ApiError, said: str) -> None:
    assert isinstance(storing.why(error), StorageError)
    assert storing.why(error).detail == said


@pytest.mark.parametrize("description", ["stream store EOF", "no message found", "sequence 4 not found"])
def test_a_stream_without_the_message_that_nobody_has_is_well(description: str) -> None:
    error = storing.ApiError(code=500, err_code=10057, description=description)
    assert not isinstance(storing.why(error), StorageError)
    assert storing.trouble(b'{"error":{"code":500,"err_code":10057,"description":"%s"}}' % description.encode()) is None


def test_a_server_is_not_started_again_in_a_loop() -> None:
    pause = Pause()
    at = [0.0]
    while len(at) < 5:
        now = at[-1]
        pause.begin(now)
        at.append(next(now + later for later in range(1, 100) if pause.is_over(now + later)))
    assert [later - before for before, later in pairwise(at)] == [5, 20, 20, 20]
    assert pause.is_over(at[-1] + 130)
