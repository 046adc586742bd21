"""Deliveries as GitLab sends them, over HTTP."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
import uuid
from collections.abc import Mapping
from typing import Any

import httpx
import msgspec
import pytest

from muster.blueprints.provider import provider_kinds
from muster.blueprints.strict import build
from muster.triggers.gitlab_events import KINDS, NAMES
from muster.triggers.providers.gitlab import Gitlab
from tests.triggers.gitlab_payloads import (
    AFTER,
    DELIVERIES,
    FORKED,
    NONE,
    Sent,
    issue,
    merge_request,
    named,
    pipeline,
    push,
    tag_push,
)
from tests.triggers.hook_server import SECRET, Served, problem

SIGNING = "whsec_" + base64.b64encode(bytes(range(32))).decode()


async def deliver(
    served: Served, body: dict[str, Any], header: str = "Push Hook", more: Mapping[str, str] | None = None
) -> httpx.Response:
    """As GitLab does, with the secret token."""
    headers = {
        "content-type": "application/json",
        "user-agent": "GitLab/18.4.0",
        "x-gitlab-instance": "https://gitlab.example.com",
        "x-gitlab-webhook-uuid": "02affd2d-2cba-4033-917d-ec22d5dc4b38",
        "x-gitlab-event": header,
        "x-gitlab-event-uuid": str(uuid.uuid4()),
        "idempotency-key": str(uuid.uuid4()),
        "x-gitlab-token": SECRET,
    }
    kept = {name: value for name, value in (headers | dict(more or {})).items() if value}
    return await served.post("lab", msgspec.json.encode(body), kept)


def lab(served: Served, **settings: Any) -> None:
    """The trigger `lab`."""
    served.known.add("lab", "gitlab", secret={"env": "HOOK_SECRET"}, **settings)


@pytest.mark.parametrize("sent", DELIVERIES, ids=lambda sent: f"{sent.header}-{sent.kind}")
async def test_every_documented_event_is_understood(served: Served, sent: Sent) -> None:
    lab(served)
    answer = await deliver(served, sent.body, sent.header)
    assert answer.status_code == 202, answer.text
    event = served.fired.last
    assert (event["provider"], event["kind"], event["body"]) == ("gitlab", sent.kind, sent.body)
    assert {name: event[name] for name in sent.facts} == sent.facts


def test_the_deliveries_show_every_kind() -> None:
    assert {sent.kind for sent in DELIVERIES} >= set(KINDS) - {"deploy_token"}
    assert set(NAMES.values()) <= set(KINDS)


async def test_what_an_event_does_not_have_is_empty(served: Served) -> None:
    lab(served)
    await deliver(served, issue(), "Issue Hook")
    event = served.fired.last
    texts = ("ref", "branch", "tag", "commit", "source_branch", "target_branch")
    assert {name: event[name] for name in texts} == dict.fromkeys(texts, "")
    assert event["files"] == []


@pytest.mark.parametrize("token", ["", "wrong", SECRET + "x", SECRET[:-1], "Ünïcode"])
async def test_another_token_is_refused(served: Served, token: str) -> None:
    lab(served)
    problem(await deliver(served, push(), more={"x-gitlab-token": token}), 401)
    assert not served.fired.requests


def signed(
    body: bytes, *, secret: str = SIGNING, ident: str = "msg-1", age: float = 0, version: str = "v1"
) -> dict[str, str]:
    """What GitLab sends with a signing token."""
    ident, stamp = "msg-1", str(int(time.time() - age))
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.new(key, b"%b.%b.%b" % (ident.encode(), stamp.encode(), body), hashlib.sha256).digest()
    return {
        "x-gitlab-event": "Push Hook",
        "webhook-id": ident,
        "webhook-timestamp": stamp,
        "webhook-signature": f"{version},{base64.b64encode(digest).decode()}",
    }


async def test_a_signing_token_checks_the_signature(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_SECRET", SIGNING)
    lab(served)
    body = msgspec.json.encode(push())
    assert (await served.post("lab", body, signed(body))).status_code == 202
    replayed = await served.post("lab", body, signed(body) | {"idempotency-key": "another"})
    assert replayed.json()["duplicate"] is True
    other = "whsec_" + base64.b64encode(bytes(32)).decode()
    for headers in (
        signed(body, secret=other),
        signed(body + b" "),
        signed(body, age=301),
        signed(body, age=-330),
        signed(body, version="v2"),
        signed(body) | {"webhook-id": "msg-2"},
        signed(body) | {"webhook-timestamp": str(int(time.time()) + 1)},
        {"x-gitlab-event": "Push Hook", "x-gitlab-token": SIGNING},
        {name: value for name, value in signed(body).items() if name != "webhook-signature"},
    ):
        problem(await served.post("lab", body, headers), 401)
    assert len(served.fired.requests) == 1


async def test_a_redelivery_is_known_by_its_idempotency_key(served: Served) -> None:
    lab(served)
    key = {"idempotency-key": "f5e5f430"}
    first = await deliver(served, push(), more=key)
    again = await deliver(served, push(), more=key)
    assert (first.status_code, again.status_code) == (202, 200)
    assert again.json() == first.json() | {"duplicate": True}
    assert served.fired.requests[0].key == "f5e5f430"


async def test_an_older_gitlab_is_known_by_event_uuid_and_body(served: Served) -> None:
    lab(served)
    older = {"idempotency-key": "", "x-gitlab-event-uuid": "13792a34"}
    assert (await deliver(served, push(), more=older)).status_code == 202
    assert (await deliver(served, push(), more=older)).json()["duplicate"] is True
    caused = await deliver(served, tag_push(), "Tag Push Hook", older)  # hooks that a hook caused share the UUID
    assert caused.status_code == 202


WANTED = [
    ({"events": ["push"]}, push(), "Push Hook", True),
    ({"events": ["push"]}, tag_push(), "Tag Push Hook", False),
    ({"events": ["push", "tag_push"]}, tag_push(), "Tag Push Hook", True),
    ({"events": ["issue"]}, issue("confidential_issue"), "Confidential Issue Hook", False),
    ({"events": ["member"]}, named("user_add_to_group"), "Member Hook", True),
    ({"events": ["user_add_to_group"]}, named("user_add_to_group"), "Member Hook", True),
    ({"events": ["user_add_to_group"]}, named("user_remove_from_group"), "Member Hook", False),
    ({"branches": ["main"]}, push(), "Push Hook", True),
    ({"branches": ["main"]}, push(ref="refs/heads/feature/main"), "Push Hook", False),
    ({"branches": ["feature/*"]}, push(ref="refs/heads/feature/main"), "Push Hook", True),
    ({"branches": ["main"]}, tag_push(ref="refs/tags/main"), "Tag Push Hook", False),
    ({"branches": ["main"]}, merge_request(), "Merge Request Hook", True),
    ({"branches": ["fix-pump"]}, merge_request(), "Merge Request Hook", False),
    ({"branches": ["main"]}, pipeline(), "Pipeline Hook", True),
    ({"branches": ["main"]}, pipeline(ref="v1", tag=True), "Pipeline Hook", False),
    ({"branches": ["main"]}, pipeline() | FORKED, "Pipeline Hook", False),
    ({"branches": ["main"]}, issue(), "Issue Hook", False),
    ({"branches": ["**", "!main"]}, push(), "Push Hook", False),
    ({"paths": ["src/**"]}, push(), "Push Hook", True),
    ({"paths": ["old/*.py"]}, push(), "Push Hook", True),
    ({"paths": ["lib/**"]}, push(), "Push Hook", False),
    ({"paths": ["lib/**"]}, push(total_commits_count=40), "Push Hook", True),
    ({"paths": ["!docs/**"]}, push(), "Push Hook", True),
    ({"paths": ["**"]}, push(after=NONE, commits=[], total_commits_count=0), "Push Hook", False),
    ({"labels": ["urgent"]}, merge_request(), "Merge Request Hook", True),
    ({"labels": ["later"]}, merge_request(), "Merge Request Hook", False),
    ({"users": ["ada", "bob"]}, push(), "Push Hook", True),
    ({"users": ["bob"]}, push(), "Push Hook", False),
    ({"projects": ["space/*"]}, push(), "Push Hook", True),
    ({"projects": ["earth/*"]}, push(), "Push Hook", False),
]


@pytest.mark.parametrize(("settings", "body", "header", "wanted"), WANTED)
async def test_filters_choose(
    served: Served, settings: dict[str, Any], body: dict[str, Any], header: str, wanted: bool
) -> None:
    lab(served, **settings)
    answer = await deliver(served, body, header)
    assert answer.status_code == (202 if wanted else 200)
    assert ("ignored" in answer.json()) is not wanted


async def test_a_filtered_delivery_without_the_token_is_still_refused(served: Served) -> None:
    lab(served, events=["issue"])
    problem(await deliver(served, push(), more={"x-gitlab-token": "wrong"}), 401)


async def test_a_body_that_is_no_object_is_refused(served: Served) -> None:
    lab(served)
    answer = await served.post("lab", "[1, 2]", {"x-gitlab-token": SECRET})
    assert "not an object" in problem(answer, 400)["detail"]


async def test_a_body_of_odd_shape_is_taken_as_it_is(served: Served) -> None:
    lab(served)
    odd = {"object_kind": "push", "project": [1], "commits": [7, {"added": "x"}], "ref": 5, "user": None, "after": {}}
    assert (await deliver(served, odd)).status_code == 202
    for sent in DELIVERIES:
        hollow = dict.fromkeys(sent.body, 1) | {"object_kind": sent.body.get("object_kind")}
        assert (await deliver(served, hollow, sent.header)).status_code == 202


def test_what_is_wrong_is_reported_when_it_is_applied() -> None:
    settings, faults = build(provider_kinds()["gitlab"], {"events": ["push", "merge_requests"], "paths": ["[z-a]", ""]})
    assert isinstance(settings, Gitlab)
    assert not faults
    reported = {problem.path: str(problem) for problem in settings.problems()}
    assert set(reported) == {"secret", "events[1]", "paths[0]", "paths[1]"}
    assert "did you mean 'merge_request'" in reported["events[1]"]
    assert "auth: none" in reported["secret"]


async def test_without_auth_anybody_may_deliver_if_the_trigger_says_so(served: Served) -> None:
    served.known.add("lab", "gitlab", auth="none")
    assert (await served.post("lab", msgspec.json.encode(push(after=AFTER)))).status_code == 202


async def test_a_push_whose_commits_say_no_files_may_have_changed_any(served: Served) -> None:
    lab(served, paths=["app/**"])
    bare = dict.fromkeys(("id", "message", "timestamp", "url"), "x") | {"author": {"name": "ada"}}
    sent = push(commits=[bare], total_commits_count=1, object_kind="push", event_name="push")
    assert (await deliver(served, sent, "System Hook")).status_code == 202
    listed = push(commits=[bare | {"added": [], "removed": [], "modified": ["docs/a"]}], total_commits_count=1)
    assert "ignored" in (await deliver(served, listed)).json()
