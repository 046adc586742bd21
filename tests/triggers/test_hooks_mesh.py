"""Deliveries to a real broker on a real server, with its trigger service beside it, as `muster up` has it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import pytest_asyncio

from muster.broker.api.context import ApiSettings
from muster.broker.main import Broker, BrokerSettings
from muster.mesh.embedded_nats import EmbeddedNats
from muster.triggers.service import Triggers
from tests.kit.blueprints import blueprint, trigger
from tests.kit.http import http_client
from tests.kit.servers import Nats
from tests.kit.waiting import deadline, eventually
from tests.triggers.gitlab_payloads import AFTER, merge_request, push
from tests.triggers.hook_server import SECRET, problem, raw
from tests.triggers.test_github import signed as github_signature
from tests.triggers.test_webhook import hexed

ENV = {"env": "HOOK_SECRET"}
INPUTS = {name: {"type": "string", "default": ""} for name in ("commit", "branch", "files")}
BUILDERS = {"where": 'element.labels.role == "builder"', "queue": True}


class Mesh:
    """What a test speaks to."""

    def __init__(self, broker: Broker, http: httpx.AsyncClient) -> None:
        self.broker, self.http = broker, http

    async def apply(self, *manifests: dict[str, Any]) -> None:
        """Apply manifests, and insist that it works."""
        answer = await self.http.post("/api/v1/apply", json=list(manifests))
        assert answer.status_code == 200, answer.text

    async def get(self, path: str) -> dict[str, Any]:
        """An answer of the API."""
        answer = await self.http.get(f"/api/v1/{path}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def push(self, name: str = "lab", key: str = "", body: dict[str, Any] | None = None) -> httpx.Response:
        """A push, as GitLab sends it."""
        event = "Push Hook" if body is None or body["object_kind"] == "push" else "Merge Request Hook"
        headers = {"x-gitlab-event": event, "x-gitlab-token": SECRET, "idempotency-key": key}
        kept = {header: value for header, value in headers.items() if value}
        return await self.http.post(f"/hooks/{name}", content=msgspec.json.encode(body or push()), headers=kept)


@pytest_asyncio.fixture
async def mesh(fresh_nats: Nats, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Mesh]:
    """A broker with triggers `lab` (GitLab, pushes to main) and `any` (webhook)."""
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    settings = BrokerSettings(
        server=fresh_nats.url,
        open=True,
        data=tmp_path,
        api=ApiSettings(port=0, grace=1),
        durability="fast",
        ready_line=False,
    )
    async with AsyncExitStack() as stack:
        broker = Broker(settings, Triggers)
        await broker.start(stack)
        assert broker.surfaces is not None
        url = broker.surfaces.http.url
        http = await stack.enter_async_context(http_client(url, timeout=30))
        found = Mesh(broker, http)
        inputs = {
            "commit": "{{ event.commit }}",
            "branch": "{{ event.branch }}",
            "files": "{{ event.files | join(',') }}",
        }
        await found.apply(
            {"kind": "machine", "name": "e1", "labels": {"role": "builder"}},
            blueprint("work", {"name": "nothing", "uses": "noop"}, inputs=INPUTS),
            trigger(
                "lab",
                "gitlab",
                with_={"secret": ENV, "events": ["push", "merge_request"], "branches": ["main"]},
                when='!event.body.commits.exists(commit, commit.message.contains("[skip ci]"))',
                inputs=inputs | {"files": "{{ event.files | join(',') }}"},
                target=BUILDERS,
            ),
            trigger("any", "webhook"),
        )
        yield found


async def test_a_push_becomes_an_order_for_a_pool(mesh: Mesh) -> None:
    answer = await mesh.push()
    assert answer.status_code == 202, answer.text
    (ident,) = answer.json()["orders"]
    order = await mesh.get(f"orders/{ident}")
    assert order["inputs"] == {"commit": AFTER, "branch": "main", "files": "docs/pump.md,src/pump.py,old/pipe.py"}
    assert (order["trigger"], order["firing"]) == ("lab", answer.json()["firing"])
    firing = await mesh.get(f"firings/{answer.json()['firing']}")
    assert firing["event"]["body"] == push()
    assert "x-gitlab-token" not in firing["event"]["headers"]
    assert SECRET not in str(firing)


async def test_a_redelivery_makes_nothing_twice(mesh: Mesh) -> None:
    first = await mesh.push(key="one")
    again = await asyncio.gather(*[mesh.push(key="one") for _ in range(5)])
    assert first.status_code == 202
    assert [answer.status_code for answer in again] == [200] * 5
    assert all(answer.json() == first.json() | {"duplicate": True} for answer in again)
    assert len((await mesh.get("orders"))["items"]) == 1


async def test_one_delivery_at_once_many_times_fires_once(mesh: Mesh) -> None:
    answers = await asyncio.gather(*[mesh.push(key="one") for _ in range(20)])
    assert sorted(answer.status_code for answer in answers) == [200] * 19 + [202]
    assert len({answer.json()["firing"] for answer in answers}) == 1


async def test_what_filters_and_when_do_not_want_is_ignored(mesh: Mesh) -> None:
    skipped = push(commits=[{"message": "Fix the pump [skip ci]"}], total_commits_count=1)
    for body in (push(ref="refs/heads/other"), skipped):
        answer = await mesh.push(body=body)
        assert (answer.status_code, set(answer.json())) == (200, {"ignored"})
    assert not (await mesh.get("triggers/lab/firings"))["items"]


async def test_an_event_that_breaks_a_condition_is_kept_with_the_reason(mesh: Mesh) -> None:
    answer = await mesh.push(body=merge_request())  # it has no commits
    reported = problem(answer, 422)
    assert (reported["state"], reported["orders"]) == ("rejected", [])
    assert "commits" in reported["reason"]
    assert reported["detail"] == reported["reason"]


async def test_a_rejected_delivery_may_be_sent_again_once_what_was_wrong_is_not(mesh: Mesh) -> None:
    await mesh.apply(trigger("later", "webhook", target={"where": 'element.labels.role == "db"'}))
    rejected = problem(await mesh.http.post("/hooks/later", headers={"webhook-id": "77"}), 422)
    assert "no element matches" in rejected["detail"]
    await mesh.apply({"kind": "machine", "name": "db1", "labels": {"role": "db"}})
    answers = [await mesh.http.post("/hooks/later", headers={"webhook-id": "77"}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 200]
    assert answers[1].json()["orders"] == answers[0].json()["orders"]


async def test_a_trigger_that_is_changed_counts_at_once(mesh: Mesh) -> None:
    assert (await mesh.http.post("/hooks/any")).status_code == 202
    for enabled, status in ((False, 404), (True, 202)):
        await mesh.apply(trigger("any", "webhook", enabled=enabled))
        assert (await mesh.http.post("/hooks/any")).status_code == status
    await mesh.apply(trigger("any", "webhook", with_={"auth": "hmac", "secret": ENV}))
    problem(await mesh.http.post("/hooks/any", content=b"{}"), 401)
    signed = {"x-signature": hexed(b"{}")}
    assert (await mesh.http.post("/hooks/any", content=b"{}", headers=signed)).status_code == 202
    await mesh.apply(trigger("any", "github", with_={"secret": ENV}))
    signed = {"x-hub-signature-256": github_signature(b"{}"), "x-github-event": "star"}
    assert (await mesh.http.post("/hooks/any", content=b"{}", headers=signed)).status_code == 202
    assert (await mesh.http.delete("/api/v1/triggers/any")).is_success
    problem(await mesh.http.post("/hooks/any"), 404)


async def test_a_thousand_deliveries_at_once_are_all_on_the_log(mesh: Mesh) -> None:
    url = str(mesh.http.base_url)
    async with deadline(50):
        answers = await asyncio.gather(*[raw(url, "/hooks/any", b"{}", webhook_id=str(n)) for n in range(1000)])
    assert {status for status, _ in answers} == {202}
    assert len({order for _, body in answers for order in msgspec.json.decode(body)["orders"]}) == 1000


async def test_without_the_log_a_delivery_is_refused_and_not_lost_afterwards(
    mesh: Mesh, own_nats: EmbeddedNats
) -> None:
    await own_nats.__aexit__(None, None, None)
    async with deadline(30):
        answer = await mesh.push(key="kept")
        assert problem(answer, 503)
        assert answer.headers["retry-after"]
    async with own_nats:

        async def accepted() -> bool:
            return (await mesh.push(key="kept")).status_code in {200, 202}

        await eventually(accepted, 20)
        assert len((await mesh.get("triggers/lab/firings"))["items"]) == 1


async def test_a_body_as_deep_as_may_be_can_be_read_wherever_it_went(mesh: Mesh) -> None:
    await mesh.apply(
        blueprint("take", {"name": "nothing", "uses": "noop"}, inputs={"deep": {}}),
        trigger("deep", "webhook", "take", merge_event=True),
    )
    answer = await mesh.http.post("/hooks/deep", content='{"deep":' + "[" * 99 + "]" * 99 + "}")
    assert (answer.status_code, answer.json().get("reason")) == (202, None)
    (firing,) = (await mesh.get("triggers/deep/firings"))["items"]
    (order,) = (await mesh.get("orders"))["items"]
    assert order["inputs"] == firing["event"]["body"]


@pytest.mark.parametrize("depth", [101, 900, 975, 990])
@pytest.mark.parametrize("kind", ["application/json", ""])
async def test_a_deeper_body_is_refused(mesh: Mesh, depth: int, kind: str) -> None:
    body = "[" * depth + "]" * depth
    answer = await mesh.http.post("/hooks/any", content=body, headers={"content-type": kind})
    assert "more than 100 levels" in problem(answer, 400)["detail"]
    assert (await mesh.get("triggers/any/firings"))["items"] == []


async def test_numbers_of_any_size_survive(mesh: Mesh) -> None:
    answer = await mesh.http.post("/hooks/any", json={"large": 2**200, "small": -(2**70), "float": 1e300})
    assert answer.status_code == 202
    firing = await mesh.get(f"firings/{answer.json()['firing']}")
    assert firing["event"]["body"] == {"large": 2**200, "small": -(2**70), "float": 1e300}
