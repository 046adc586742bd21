"""A port of this host that another account has taken."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from muster.mesh.connection import connect
from muster.mesh.errors import UsageError
from muster.mesh.peers import StrangerError, check_listener, check_peer
from muster.mesh.tokens import API, Token, own
from tests.kit.processes import Program, clean_env, muster
from tests.kit.strangers import FAKE_SERVER, STRANGER, as_stranger, needs_root
from tests.kit.waiting import deadline


@pytest_asyncio.fixture
async def fake() -> AsyncIterator[tuple[Program, int]]:
    """A stranger that answers as a NATS server, and its port."""
    async with Program.start(as_stranger(FAKE_SERVER, "127.0.0.1", "0")) as program:
        yield program, int((await program.line("listens")).split()[1])


def test_our_own_port_and_one_that_nobody_has_are_trusted() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        for host in ("127.0.0.1", "localhost", "::1", "no.such.host.invalid"):
            check_listener("http://x", host, port)
        with socket.create_connection(("127.0.0.1", port)) as connected:
            check_peer("nats://x", connected)
    check_listener("http://x", "127.0.0.1", port)


@needs_root
async def test_a_stranger_is_refused_by_name_unless_it_runs_the_mesh(
    fake: tuple[Program, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, port = fake
    for host in ("127.0.0.1", "localhost"):
        with pytest.raises(StrangerError, match=r"served by the account \w+.*MUSTER_SERVER_USER"):
            check_listener("http://x", host, port)
    check_listener("http://x", "127.0.0.1", port, STRANGER)
    monkeypatch.setenv("MUSTER_SERVER_USER", str(STRANGER))
    check_listener("http://x", "127.0.0.1", port)
    monkeypatch.setenv("MUSTER_SERVER_USER", "no-such-account")
    with pytest.raises(UsageError, match="no-such-account"):
        check_listener("http://x", "127.0.0.1", port)


@needs_root
@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
async def test_a_stranger_that_listens_everywhere_is_one_on_loopback_too(host: str) -> None:
    async with Program.start(as_stranger(FAKE_SERVER, host, "0")) as program:
        port = int((await program.line("listens")).split()[1])
        with pytest.raises(StrangerError):
            check_listener("http://x", "127.0.0.1" if host == "0.0.0.0" else "::1", port)


@needs_root
async def test_a_stranger_in_the_place_of_nats_is_shown_no_token(fake: tuple[Program, int]) -> None:
    program, port = fake
    with pytest.raises(StrangerError, match=f"nats://127.0.0.1:{port} is served by"):
        async with deadline(10), connect(f"nats://127.0.0.1:{port}", name="x", token=Token("s3cret", "here")):
            pytest.fail("connected")
    assert "heard" not in program.stdout


@needs_root
async def test_a_stranger_in_the_place_of_the_api_is_shown_no_token(fake: tuple[Program, int], tmp_path: Path) -> None:
    program, port = fake
    data, url = tmp_path / "data", f"http://127.0.0.1:{port}"
    data.mkdir(mode=0o700)
    own(API, data, url)
    (data / "api.url").write_text(url)  # as a mesh leaves it that was killed
    ran = await muster("orders", env=clean_env(tmp_path, MUSTER_DATA=str(data), MUSTER_API=url))
    assert ran.code == 3
    assert f"{url} is served by the account" in ran.stderr
    assert "heard" not in program.stdout
