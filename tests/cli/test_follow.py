"""Watching orders while the mesh is offline or hangs."""

from __future__ import annotations

import json
import threading
import time
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise

import nats
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.broker.api.logs import unfinished
from muster.cli.api import Api, _lines
from muster.cli.follow import follow
from muster.cli.main import run
from muster.cli.watch import Limit, Watch, wait
from muster.mesh.errors import WaitTimeoutError
from tests.kit.answers import Answer, answering
from tests.kit.meshes import Mesh
from tests.kit.ports import free_port
from tests.kit.waiting import eventually

ORDERS = [{"id": "3f6a" * 4, "element": "web01"}]


@contextmanager
def hanging() -> Iterator[str]:
    """An API that takes requests and never answers."""
    release = threading.Event()

    def answer(_: int) -> Answer | None:
        release.wait(20)
        return None

    with answering(answer) as server:
        try:
            yield server.url
        finally:
            release.set()


def watches() -> list[Callable[[Api, Limit], object]]:
    return [
        lambda api, limit: wait(api, ORDERS, limit, Watch(api, "table")),
        lambda api, limit: follow(api, ORDERS, limit, Watch(api, "table")),
    ]


@pytest.mark.parametrize("watch", watches())
def test_the_time_limit_is_kept_though_the_mesh_hangs_or_is_gone(watch: Callable[[Api, Limit], object]) -> None:
    with hanging() as url:
        for place in (url, f"http://127.0.0.1:{free_port()}"):
            began = time.monotonic()
            with Api(place) as api, pytest.raises(WaitTimeoutError, match=f"order {ORDERS[0]['id']} continues"):
                watch(api, Limit(0.3))
            assert time.monotonic() - began < 10  # it hangs for 20 s


def test_orders_are_named_when_the_mesh_goes_away_after_they_were_made(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("muster.cli.watch.RECONNECT_TIMEOUT", 0.1)
    made = (201, "application/json", b'{"orders": [{"id": "3f6a"}]}')
    with answering(lambda count: made if count == 1 else (502, "text/plain", b"")) as server:
        assert run(["run", "x", "--on", "web01", "--wait", "--api", server.url]) == 4
    assert "order 3f6a continues" in capsys.readouterr().err


LINE_ENDS = "\u2028 \u2029 \x85 \x0b \x0c \x1c \x1e"
"""What `str.splitlines` takes for the end of a line, and event streams do not."""


async def test_text_with_other_line_ends_is_followed_like_any_other(mesh: Mesh) -> None:
    ran = await mesh.muster("run", "obey", "--on", mesh.element, "-i", f"text=a{LINE_ENDS}b", "--follow")
    assert ran.code == 0, ran
    assert f"a{LINE_ENDS}b" in ran.stdout


async def test_a_watcher_outlives_an_event_with_any_text(mesh: Mesh) -> None:
    async with mesh.running("events", "--after", "0", "--kind", "inbox.rejected", "-o", "json") as watcher:
        client = await nats.connect(mesh.nats, token=mesh.nats_token)
        body = json.dumps({"blueprint": f"x{LINE_ENDS}\ud800", "on": mesh.element}, ensure_ascii=False)
        for text in (body.encode(errors="replace"), b'{"blueprint": "after", "on": "nobody"}'):
            await client.publish("muster.inbox.orders", text)
            await client.flush()
        await client.close()
        await eventually(lambda: "after" in watcher.stdout, within=15, what="the event of the second message")
        found = [json.loads(line)["data"] for line in watcher.lines["out"]]
        assert "\u2028 \u2029 \x85" in "".join(one["body"] + one["reason"] for one in found)


@pytest.mark.parametrize("output", ["table", "json"])
async def test_a_character_that_is_printed_in_two_parts_is_whole(mesh: Mesh, output: str) -> None:
    text = r"printf '\xc3'; sleep 0.4; printf '\xa4\n\xe2\x82'; sleep 0.4; printf '\xac\n\xff\n\xf0\x9f'"
    manifest = {"kind": "blueprint", "name": "halves", "tasks": [{"name": "show", "run": text}]}
    await mesh.ok("apply", "-f", "-", stdin=json.dumps(manifest).encode())
    ran = await mesh.muster("run", "halves", "--on", mesh.element, "--follow", "-o", output)
    if output == "table":
        assert "ä\n€\n" in ran.stdout
        return
    pieces = [json.loads(line) for line in ran.stdout.splitlines()[:-1]]
    data = [b64decode(one["data"]) if "encoding" in one else one["data"].encode() for one in pieces]
    assert b"".join(data) == b"\xc3\xa4\n\xe2\x82\xac\n\xff\n\xf0\x9f"
    assert pieces[0]["data"] == "ä\n"
    (job,) = json.loads(await mesh.ok("logs", json.loads(ran.stdout.splitlines()[-1])["id"], "-o", "json"))["jobs"]
    assert b64decode(job["output"]) == b"".join(data)


@given(st.lists(st.binary(max_size=5), max_size=6), st.data())
def test_the_lines_of_a_stream_are_the_same_however_it_is_cut(lines: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(line.replace(b"\n", b"").replace(b"\r", b"") + b"\n" for line in lines)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=4)))
    parts = [whole[start:end] for start, end in pairwise([0, *cuts, len(whole)])]
    assert list(_lines(iter(parts))) == [line.decode(errors="replace") for line in whole.split(b"\n")[:-1]]


@given(st.text(), st.integers(0, 3))
def test_only_bytes_that_a_character_needs_are_held_back(text: str, missing: int) -> None:
    data = text.encode(errors="replace")
    cut = data[: len(data) - missing] if missing else data
    left = unfinished(cut)
    assert cut[: len(cut) - left].decode() == text.encode(errors="replace")[: len(cut) - left].decode()
    assert left <= 3
