"""Where HTTP tasks may connect to: the agent's rules, on real connections."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.blueprints.definition import Task
from muster.blueprints.kinds import http_connect
from muster.blueprints.reach import DEFAULTS, Reach
from muster.blueprints.task import Done, Failed, Outcome
from tests.blueprints.context import run_task

METADATA = "169.254.169.254"
ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))


class Server:
    """Answers everything, or redirects to `location`; keeps what it was sent first."""

    def __init__(self) -> None:
        self.port = 0
        self.location = ""
        self.asked: list[bytes] = []

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked.append(await reader.read(4096))
        status = f"302 Found\r\nlocation: {self.location}" if self.location else "200 OK"
        writer.write(f"HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".encode())
        writer.close()


@asynccontextmanager
async def served(host: str = "127.0.0.1") -> AsyncIterator[Server]:
    found = Server()
    try:
        listening = await asyncio.start_server(found.answer, host, 0)
    except OSError:
        pytest.skip(f"nothing can listen on {host} here")
    found.port = listening.sockets[0].getsockname()[1]
    async with listening:
        yield found


async def ask(tmp_path: Path, url: str, reach: Reach | None = None, **fields: Any) -> Outcome:
    task = Task(name="h", uses="http", with_={"url": url, "timeout": "10s", **fields})
    outcome, _ = await run_task(task, tmp_path, reach=reach or Reach())
    return outcome


def refused(outcome: Outcome) -> str:
    assert isinstance(outcome, Failed), outcome
    assert outcome.final, outcome
    assert "must not connect to" in outcome.error
    return outcome.error


def resolve(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Have names resolve to these addresses, one list after the other; which names were asked for."""
    asked: list[str] = []
    left = list(answers)

    async def getaddrinfo(host: str, port: int | None, **_: Any) -> list[tuple[Any, ...]]:
        asked.append(host)
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, port, 0, 0))
            if ":" in address
            else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in left.pop(0)
        ]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    return asked


async def test_this_host_is_allowed_unless_a_rule_denies_it(tmp_path: Path) -> None:
    async with served() as server:
        url = f"http://127.0.0.1:{server.port}/"
        assert isinstance(await ask(tmp_path, url), Done)
        deny = Reach.of(deny=["127.0.0.0/8", "::1"])
        reported = refused(await ask(tmp_path, url, deny))
        assert "must not connect to 127.0.0.1: the agent has --http-deny 127.0.0.0/8" in reported
        assert "to allow it, start the agent with --http-allow 127.0.0.1" in reported
        for name in ("localhost", "127.1", "2130706433", "0x7f000001", "0.0.0.0", "[::ffff:127.0.0.1]"):
            refused(await ask(tmp_path, f"http://{name}:{server.port}/", deny))
        assert len(server.asked) == 1
        assert isinstance(await ask(tmp_path, url, Reach.of(["127.0.0.1"], ["127.0.0.0/8"])), Done)


async def test_ipv6_has_the_same_rules(tmp_path: Path) -> None:
    async with served("::1") as server:
        url = f"http://[::1]:{server.port}/"
        assert isinstance(await ask(tmp_path, url), Done)
        assert "::1" in refused(await ask(tmp_path, url, Reach.of(deny=["[::1]"])))
        refused(await ask(tmp_path, f"http://[::]:{server.port}/", Reach.of(deny=["::1/128"])))
        assert len(server.asked) == 1


@pytest.mark.parametrize(
    "host",
    [METADATA, "2852039166", "[::ffff:a9fe:a9fe]", "[64:ff9b::a9fe:a9fe]", "[2002:a9fe:a9fe::1]", "[::a9fe:a9fe]",
     "[fd00:ec2::254]", "[fe80::1]", "100.100.100.200"],
)  # fmt: skip
async def test_link_local_and_metadata_addresses_are_denied_by_default(tmp_path: Path, host: str) -> None:
    for scheme in ("http", "https"):
        reported = refused(await ask(tmp_path, f"{scheme}://{host}/latest/meta-data"))
        assert "is denied by default; to allow it, start the agent with --http-allow " in reported


async def test_a_redirect_leads_to_no_denied_address(tmp_path: Path) -> None:
    async with served() as server:
        server.location = f"http://{METADATA}/latest"
        reported = refused(await ask(tmp_path, f"http://127.0.0.1:{server.port}/", redirects=True))
        assert f"must not connect to {METADATA}: 169.254.0.0/16 (link-local addresses and cloud metadata)" in reported


async def test_a_name_that_resolves_to_a_denied_address_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve(monkeypatch, [METADATA], ["fe80::1", "169.254.0.7"], ["10.1.2.3"])
    assert f"must not connect to meta.example ({METADATA})" in refused(await ask(tmp_path, "http://meta.example/"))
    everything_of_a_name = Reach.of(allow=["meta.example", "*"])
    refused(await ask(tmp_path, "http://meta.example/", everything_of_a_name))
    refused(await ask(tmp_path, "http://inner.example/", Reach.of(deny=["10.0.0.0/8"])))


async def test_the_address_that_was_checked_is_connected_to_and_the_name_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served() as server:
        asked = resolve(monkeypatch, [METADATA, "127.0.0.1"], ["127.0.0.1"], [METADATA])
        assert isinstance(await ask(tmp_path, f"http://two.example:{server.port}/"), Done)
        assert f"host: two.example:{server.port}".encode() in server.asked[0].lower()
        outcome = await ask(tmp_path, f"https://tls.example:{server.port}/")
        assert isinstance(outcome, Failed)  # it is no TLS server
        assert b"tls.example" in server.asked[1]
        assert asked == ["two.example", "tls.example"]


async def test_the_next_address_is_tried_when_one_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served() as server:
        resolve(monkeypatch, ["::1", "127.0.0.1"], ["::1", METADATA])
        assert isinstance(await ask(tmp_path, f"http://two.example:{server.port}/"), Done)
        outcome = await ask(tmp_path, f"http://two.example:{server.port}/")
        assert isinstance(outcome, Failed)
        assert not outcome.final
        assert f"must not connect to two.example ({METADATA})" in outcome.error


async def test_a_proxy_gets_no_denied_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_connect, "PROXY_LOOKUP", 0.2)
    async with served() as proxy:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("no_proxy", "")
        refused(await ask(tmp_path, f"http://{METADATA}/"))
        refused(await ask(tmp_path, "http://10.0.0.1/", Reach.of(deny=["10.0.0.0/8"])))
        assert proxy.asked == []
        assert isinstance(await ask(tmp_path, "http://10.0.0.1/"), Done)
        assert isinstance(await ask(tmp_path, "http://nowhere.invalid/"), Done)
        assert proxy.asked[1].startswith(b"GET http://nowhere.invalid/ ")
        reported = refused(await ask(tmp_path, "http://nowhere.invalid/", Reach.of(deny=["10.0.0.0/8"])))
        assert "does not resolve here" in reported
        assert "--http-allow nowhere.invalid" in reported
        assert isinstance(await ask(tmp_path, "http://nowhere.invalid/", Reach.of(["*.invalid"], ["10.0.0.0/8"])), Done)


@pytest.mark.parametrize(
    ("allow", "deny", "host", "address", "denied_by"),
    [
        (["10.1.0.0/16"], ["10.0.0.0/8"], "a.example", "10.1.2.3", None),
        (["10.0.0.0/8"], ["10.1.0.0/16"], "a.example", "10.1.2.3", "10.1.0.0/16"),
        (["10.0.0.5"], ["10.0.0.5"], "a.example", "10.0.0.5", "10.0.0.5"),
        (["*.example.com"], ["*"], "a.example.com", "10.1.2.3", None),
        (["*.example.com"], ["*"], "example.com", "10.1.2.3", "*"),
        (["*.example.com"], ["*"], "aexample.com", "10.1.2.3", "*"),
        (["*.example.com"], ["*.inner.example.com"], "a.inner.example.com", "10.1.2.3", "*.inner.example.com"),
        (["api.example.com"], ["*.example.com"], "API.Example.com.", "10.1.2.3", None),
        (["10.0.0.0/8"], ["a.example"], "a.example", "10.1.2.3", "a.example"),
        (["10.0.0.0/8"], ["*"], "a.example", "10.1.2.3", None),
        (["bücher.example"], ["*"], "xn--bcher-kva.example", "10.1.2.3", None),
        (["0.0.0.0/0"], [], "a.example", METADATA, "169.254.0.0/16"),
        (["169.254.0.0/16"], [], "a.example", METADATA, None),
        ([METADATA], [], METADATA, "::ffff:169.254.169.254", None),
        (["::ffff:10.0.0.0/104"], ["*"], "a.example", "10.1.2.3", None),
        (["169.254.0.0/16"], [METADATA], "a.example", METADATA, METADATA),
        ([], ["localhost"], "127.0.0.1", "127.0.0.1", None),
    ],
)
def test_the_most_specific_rule_decides(
    allow: list[str], deny: list[str], host: str, address: str, denied_by: str | None
) -> None:
    denial = Reach.of(allow, deny).denial(host, ipaddress.ip_address(address))
    assert (denial and denial.rule.text) == denied_by


@pytest.mark.parametrize(
    "text",
    ["", "http://a.example", "a.example:80", "10.0.0.0/33", "10.0.0", "999.1.1.1", "*a.example", "a..b", "10.0.0.5/8"],
)
def test_what_is_no_rule_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="write 10.0.0.0/8 for all" if text == "10.0.0.5/8" else "is not a network"):
        Reach.of(deny=[text])


@given(st.sampled_from([rule.network for rule in DEFAULTS if rule.network is not None]).flatmap(
    lambda network: st.ip_addresses(network=network)
), st.sampled_from(["as it is", "mapped", "nat64", "6to4"]))  # fmt: skip
def test_every_form_of_a_default_address_is_denied_until_that_address_is_allowed(address: Any, form: str) -> None:
    shown = address
    if address.version == 4 and form != "as it is":
        high = {"mapped": 0xFFFF << 32, "nat64": 0x64FF9B << 96, "6to4": 0x2002 << 112}[form]
        shown = ipaddress.IPv6Address(high | int(address) << (80 if form == "6to4" else 0))
    denial = Reach.of(["*", "a.example"]).denial("a.example", shown)
    assert denial is not None
    assert Reach.of([str(denial.address)]).denial("a.example", shown) is None


@given(ADDRESSES, st.integers(0, 128))
def test_a_denied_network_denies_each_of_its_addresses(address: Any, size: int) -> None:
    network = ipaddress.ip_network((address, min(size, address.max_prefixlen)), strict=False)
    for inside in (network[0], network[-1], address):
        assert Reach.of(deny=[str(network)]).denial("a.example", inside) is not None
