"""Deliveries as GitHub sends them, over HTTP."""

from __future__ import annotations

import hashlib
import hmac
import uuid
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import httpx
import msgspec
import pytest

from muster.blueprints.provider import provider_kinds
from muster.blueprints.strict import build
from muster.triggers.github_events import KINDS
from muster.triggers.providers.github import Github
from tests.triggers.github_payloads import DELIVERIES, NONE, Sent, pull_request, push, run
from tests.triggers.hook_server import SECRET, Served, problem


def signed(body: bytes, secret: str = SECRET) -> str:
    """The signature header's value."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


async def deliver(
    served: Served, kind: str, content: dict[str, Any] | bytes, more: Mapping[str, str] | None = None
) -> httpx.Response:
    """As GitHub does."""
    body = content if isinstance(content, bytes) else msgspec.json.encode(content)
    headers = {
        "content-type": "application/json",
        "user-agent": "GitHub-Hookshot/044aadd",
        "x-github-delivery": str(uuid.uuid4()),
        "x-github-event": kind,
        "x-github-hook-id": "292430182",
        "x-hub-signature": "sha1=7d38cdd689735b008b3c702edd92eea23791c5f6",
        "x-hub-signature-256": signed(body),
    }
    kept = {name: value for name, value in (headers | dict(more or {})).items() if value}
    return await served.post("hub", body, kept)


def hub(served: Served, **settings: Any) -> None:
    """The trigger `hub`."""
    served.known.add("hub", "github", secret={"env": "HOOK_SECRET"}, **settings)


@pytest.mark.parametrize("sent", DELIVERIES, ids=lambda sent: sent.kind)
async def test_documented_events_are_understood(served: Served, sent: Sent) -> None:
    hub(served)
    answer = await deliver(served, sent.kind, sent.body)
    assert answer.status_code == 202, answer.text
    event = served.fired.last
    assert (event["provider"], event["kind"], event["body"]) == ("github", sent.kind, sent.body)
    assert {name: event[name] for name in sent.facts} == sent.facts


async def test_a_ping_is_answered_and_fires_nothing(served: Served) -> None:
    hub(served, events=["push"])
    answer = await deliver(served, "ping", {"zen": "Design for failure.", "hook_id": 1, "hook": {}})
    assert (answer.status_code, answer.json()) == (200, {"ignored": "ping"})
    problem(await deliver(served, "ping", {"zen": "…"}, {"x-hub-signature-256": signed(b"x")}), 401)
    assert not served.fired.requests


@pytest.mark.parametrize("signature", ["", "sha256=", "sha256=" + "0" * 64, "sha1=" + "0" * 40, "ü"])
async def test_a_wrong_signature_is_refused(served: Served, signature: str) -> None:
    hub(served)
    problem(await deliver(served, "push", push(), {"x-hub-signature-256": signature}), 401)
    assert not served.fired.requests


async def test_the_documentations_own_example_is_let_in(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """From "Validating webhook deliveries"; the body is no JSON, so it is the next check that fails."""
    monkeypatch.setenv("HOOK_SECRET", "It's a Secret to Everybody")
    hub(served)
    digest = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    answer = await deliver(served, "push", b"Hello, World!", {"x-hub-signature-256": f"sha256={digest}"})
    assert "JSON" in problem(answer, 400)["detail"]


async def test_a_redelivery_has_the_same_id(served: Served) -> None:
    hub(served)
    ident = {"x-github-delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958"}
    first = await deliver(served, "push", push(), ident)
    again = await deliver(served, "push", push(), ident)
    assert (first.status_code, again.status_code) == (202, 200)
    assert again.json() == first.json() | {"duplicate": True}
    assert served.fired.last["id"] == ident["x-github-delivery"]


async def test_equal_bodies_are_one_delivery_if_the_trigger_says_so(served: Served) -> None:
    hub(served, dedupe="body")
    assert (await deliver(served, "push", push(), {"x-github-delivery": "1"})).status_code == 202
    assert (await deliver(served, "push", push(), {"x-github-delivery": "2"})).json()["duplicate"] is True
    assert (await deliver(served, "push", push(ref="refs/heads/other"), {"x-github-delivery": "1"})).status_code == 202


async def test_a_webhook_that_sends_forms_is_understood_too(served: Served) -> None:
    hub(served)
    form = {"content-type": "application/x-www-form-urlencoded"}
    body = urlencode({"payload": msgspec.json.encode(push())}).encode()
    assert (await deliver(served, "push", body, form)).status_code == 202
    assert served.fired.last["body"] == push()
    problem(await deliver(served, "push", b"other=1", form), 400)


async def test_what_is_no_delivery_of_github_is_reported(served: Served) -> None:
    hub(served)
    answer = await deliver(served, "push", push(), {"x-github-event": ""})
    assert "X-GitHub-Event" in problem(answer, 400)["detail"]


@pytest.mark.parametrize(
    ("settings", "kind", "body", "wanted"),
    [
        ({"events": ["push", "release"]}, "push", push(), True),
        ({"events": ["release"]}, "push", push(), False),
        ({"branches": ["main"]}, "push", push(), True),
        ({"branches": ["main"]}, "push", push(ref="refs/tags/main"), False),
        ({"branches": ["main"]}, "pull_request", pull_request(), True),
        ({"branches": ["fix-*"]}, "pull_request", pull_request(), False),
        ({"branches": ["main"]}, "workflow_run", run("workflow_run"), True),
        ({"branches": ["main"]}, "workflow_run", run("workflow_run", fork="eve"), False),
        ({"paths": ["src/**"]}, "push", push(), True),
        ({"paths": ["lib/**"]}, "push", push(), False),
        ({"paths": ["lib/**"]}, "push", push(commits=[{"added": ["a"]}] * 2048), True),
        ({"labels": ["bug"]}, "pull_request", pull_request(), True),
        ({"labels": ["bug"]}, "push", push(), False),
        ({"users": ["a*"]}, "push", push(), True),
        ({"projects": ["space/other"]}, "push", push(), False),
    ],
)
async def test_filters_choose(
    served: Served, settings: dict[str, Any], kind: str, body: dict[str, Any], wanted: bool
) -> None:
    hub(served, **settings)
    answer = await deliver(served, kind, body)
    assert answer.status_code == (202 if wanted else 200)
    assert ("ignored" in answer.json()) is not wanted


async def test_a_body_of_odd_shape_is_taken_as_it_is(served: Served) -> None:
    hub(served)
    for sent in DELIVERIES:
        assert (await deliver(served, sent.kind, dict.fromkeys(sent.body, 1))).status_code == 202
        assert (await deliver(served, sent.kind, dict.fromkeys(sent.body, "x"))).status_code == 202


def test_what_is_wrong_is_reported_when_it_is_applied() -> None:
    settings, faults = build(provider_kinds()["github"], {"events": ["pull_requests"], "auth": "none"})
    assert isinstance(settings, Github)
    assert not faults
    (reported,) = settings.problems()
    assert "did you mean 'pull_request'" in str(reported)
    assert {sent.kind for sent in DELIVERIES} - {"of_tomorrow"} <= set(KINDS)


DOCS = {"id": "c", "message": "m", "added": [], "removed": [], "modified": ["docs/a"]}
UNTOLD = {"id": "c", "message": "m", "timestamp": "2026-05-01T12:00:00Z", "author": {"name": "ada"}}


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({"commits": [DOCS] * 5, "total_commits": 8}, 202),  # Gitea lists five
        ({"commits": [DOCS] * 5, "total_commits": 5}, 200),
        ({"commits": [DOCS], "size": 2}, 202),
        ({"commits": [DOCS], "truncated": True}, 202),
        ({"commits": [DOCS, UNTOLD]}, 202),
        ({"commits": [DOCS, UNTOLD | {"added": None, "removed": None, "modified": None}]}, 202),
        ({"commits": [DOCS | {"added": None, "removed": None}]}, 200),
        ({"commits": None, "total_commits": 3}, 202),
        ({"commits": [], "after": NONE, "deleted": True}, 200),
        ({"commits": [DOCS] * 2047}, 200),
    ],
)
async def test_a_push_whose_files_are_not_all_listed_may_have_changed_any(
    served: Served, more: dict[str, Any], status: int
) -> None:
    hub(served, paths=["src/**"])
    answer = await deliver(served, "push", push(**more))
    assert answer.status_code == status, answer.text


@pytest.mark.parametrize(("commits", "status"), [(4, 200), (5, 202)])
async def test_gogs_lists_five_commits_and_does_not_say_whether_these_are_all(
    served: Served, commits: int, status: int
) -> None:
    hub(served, paths=["src/**"])
    body = {name: value for name, value in push(commits=[DOCS] * commits).items() if name != "head_commit"}
    answer = await deliver(served, "push", body)
    assert answer.status_code == status, answer.text


@pytest.mark.parametrize("name", ["approved", "rejected", "comment"])
async def test_reviews_of_gitea_are_known(served: Served, name: str) -> None:
    hub(served, events=[f"pull_request_{name}"], branches=["main"])
    body = pull_request(action="reviewed", review={"type": f"pull_request_review_{name}", "content": "fine"})
    answer = await deliver(served, f"pull_request_{name}", body)
    assert answer.status_code == 202, answer.text
    assert (served.fired.last["target_branch"], served.fired.last["action"]) == ("main", "reviewed")
    assert "ignored" in (await deliver(served, "pull_request", pull_request())).json()


async def test_an_event_of_gitea_may_be_called_by_its_narrower_name(served: Served) -> None:
    hub(served, events=["pull_request_sync"])
    narrower = {"x-gitea-event": "pull_request", "x-gitea-event-type": "pull_request_sync"}
    assert (await deliver(served, "pull_request", pull_request(), narrower)).status_code == 202
    assert "ignored" in (await deliver(served, "pull_request", pull_request())).json()


@pytest.mark.parametrize(
    "header", ["x-hub-signature-256", "x-gitea-signature", "x-gogs-signature", "x-forgejo-signature"]
)
async def test_a_form_may_be_signed_by_the_json_inside(served: Served, header: str) -> None:
    hub(served)
    payload = msgspec.json.encode(push())
    form = urlencode({"payload": payload}).encode()
    prefix = "sha256=" if header == "x-hub-signature-256" else ""
    headers = {"content-type": "application/x-www-form-urlencoded", "x-hub-signature-256": ""}
    for signed_part, status in ((payload, 202), (form, 202), (payload + b" ", 401)):
        given = headers | {header: prefix + signed(signed_part).removeprefix("sha256=")}
        assert (await deliver(served, "push", form, given)).status_code == status
    assert served.fired.last["branch"] == "main"
    other = headers | {header: prefix + signed(b"other=1").removeprefix("sha256=")}
    problem(await deliver(served, "push", b"other=2", other), 401)
