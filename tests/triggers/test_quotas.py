"""How much a hook takes: beyond, senders are asked to come back later."""

from __future__ import annotations

import gzip
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.blueprints.provider import provider_kinds
from muster.blueprints.rates import Rate, Rates, rate_of
from muster.blueprints.strict import build
from tests.triggers.hook_server import SECRET, Served, problem

MEGABYTE = 1024**2
TOKEN = {"authorization": f"Bearer {SECRET}"}
GUARDED: dict[str, Any] = {"auth": "token", "secret": {"env": "HOOK_SECRET"}}


async def test_beyond_its_rate_a_sender_is_asked_to_come_back(served: Served) -> None:
    served.known.add("any", "webhook", rate="3/1h")
    served.known.add("other", "webhook", rate="3/1h")
    assert [(await served.post("any")).status_code for _ in range(3)] == [202] * 3
    answer = await served.post("any")
    assert "3/1h" in problem(answer, 429)["detail"]
    assert 1190 <= int(answer.headers["retry-after"]) <= 1200
    assert (await served.post("other")).status_code == 202
    assert len(served.fired.requests) == 4


async def test_sixty_megabytes_do_not_pass_where_nothing_is_asked_for(served: Served) -> None:
    served.known.add("any", "webhook", auth="none")
    answers = [(await served.post("any", b'"%b"' % (b"x" * (MEGABYTE - 2)))).status_code for _ in range(20)]
    assert answers[:16] == [202] * 16
    assert set(answers[17:]) == {429}


async def test_only_genuine_deliveries_count(served: Served) -> None:
    served.known.add("any", "webhook", rate="2/1h", **GUARDED)
    for _ in range(5):
        problem(await served.post("any", headers={"authorization": "Bearer x"}), 401)
    assert [(await served.post("any", headers=TOKEN)).status_code for _ in range(3)] == [202, 202, 429]


async def test_a_packed_body_counts_for_what_is_kept_of_it(served: Served) -> None:
    served.known.add("any", "webhook", volume="10KB/1h")
    body = gzip.compress(b'"%b"' % (b"x" * 100_000))
    packed = {"content-encoding": "gzip"}
    assert [(await served.post("any", body, packed)).status_code for _ in range(2)] == [202, 429]


async def test_a_volume_may_have_several_bounds(served: Served) -> None:
    served.known.add("any", "webhook", volume=["1KB/1s", "2KB/1h"], **GUARDED)
    body = b'"%b"' % (b"x" * 3000)
    assert (await served.post("any", body, TOKEN)).status_code == 202
    answer = await served.post("any", body, TOKEN)
    assert "KB" in problem(answer, 429)["detail"]


@pytest.mark.parametrize(
    ("text", "rate"),
    [("100/1m", Rate(100, 60)), ("64MB/1h", Rate(64 * MEGABYTE, 3600)), (" 2 KB / 1m30s ", Rate(2048, 90))],
)
def test_rates_are_written_as_amount_and_time(text: str, rate: Rate) -> None:
    assert rate_of(text) == rate


@pytest.mark.parametrize("text", ["", "100", "1/0s", "0/1m", "-1/1m", "1.5/1m", "1TB/1m", "1/soon", "1/1m/1m"])
def test_what_is_no_rate_is_reported_when_it_is_applied(text: str) -> None:
    for field in ("rate", "volume"):
        settings, faults = build(provider_kinds()["github"], {"auth": "none", field: text})
        assert settings is not None
        assert not faults
        assert [fault.path for fault in settings.problems()] == [field]


@given(st.lists(st.tuples(st.floats(0, 10), st.integers(1, 5)), max_size=60), st.integers(1, 20), st.integers(1, 20))
def test_never_more_than_a_burst_and_what_time_gives(steps: list[tuple[float, int]], amount: int, seconds: int) -> None:
    rates, rate, now, taken = Rates(), Rate(amount, seconds), 0.0, 0
    for pause, size in steps:
        now += pause
        if not rates.wait("a", rate, now):
            rates.spend("a", rate, size, now)
            taken += size
    assert taken <= amount + now * amount / seconds + 5


@given(st.lists(st.integers(0, 50), max_size=200))
def test_there_are_never_more_buckets_than_allowed(keys: list[int]) -> None:
    rates = Rates(most=8)
    for now, key in enumerate(keys):
        rates.spend(key, Rate(1, 1e9), 1, now)
        assert len(rates) <= 8
        assert rates.wait(key, Rate(1, 1e9), now) > 0


def test_waiting_as_long_as_it_says_is_enough() -> None:
    rates, rate = Rates(), rate_of("2/1m")
    for _ in range(2):
        rates.spend("a", rate, 1, 0)
    wait = rates.wait("a", rate, 0)
    assert (wait, rates.wait("a", rate, wait)) == (30, 0)
