"""Challenges: answered, and nothing fires."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from typing import Any

import pytest

from tests.triggers.hook_server import SECRET, Served, problem

ENV = {"env": "HOOK_SECRET"}


def hexed(content: bytes) -> str:
    """An HMAC."""
    return hmac.new(SECRET.encode(), content, hashlib.sha256).hexdigest()


def signed(body: bytes, sender: str = "x-slack") -> dict[str, str]:
    """As Slack and Zoom do."""
    stamp = str(int(time.time()))
    signature = "v0=" + hexed(b"v0:%b:%b" % (stamp.encode(), body))
    return {f"{sender}-request-timestamp": stamp, f"{sender}-signature": signature}


VALIDATION = "Microsoft.EventGrid.SubscriptionValidationEvent"


@pytest.mark.parametrize(
    ("challenge", "body", "answer"),
    [
        ("auto", {"type": "url_verification", "challenge": "abc", "token": "x"}, {"challenge": "abc"}),
        ("slack", {"type": "url_verification", "challenge": "abc"}, {"challenge": "abc"}),
        ("auto", [{"eventType": VALIDATION, "data": {"validationCode": "7"}}], {"validationResponse": "7"}),
        ("monday", {"challenge": "abc"}, {"challenge": "abc"}),
        ("auto", {"challenge": "abc"}, None),
        ("none", {"type": "url_verification", "challenge": "abc"}, None),
        ("auto", {"type": "url_verification", "challenge": 7}, None),
        ("auto", {"type": "url_verification", "challenge": "x" * 5000}, None),
        ("auto", {"type": "event_callback", "challenge": "abc"}, None),
        ("auto", {"event": "endpoint.url_validation", "payload": {"plainToken": "abc"}}, None),  # nobody signed it
    ],
)
async def test_a_challenge_is_answered_and_fires_nothing(
    served: Served, challenge: str, body: Any, answer: dict[str, str] | None
) -> None:
    served.known.add("any", "webhook", challenge=challenge)
    found = await served.post("any", json.dumps(body), {"content-type": "application/json"})
    if answer is None:
        assert (found.status_code, len(served.fired.requests)) == (202, 1)
        return
    assert (found.status_code, found.json()) == (200, answer)
    assert found.headers["content-type"] == "application/json"
    assert found.headers["x-content-type-options"] == "nosniff"
    assert not served.fired.requests


async def test_a_signed_trigger_answers_no_stranger(served: Served) -> None:
    served.known.add("any", "webhook", auth="hmac", secret=ENV, signature="slack")
    body = b'{"type": "url_verification", "challenge": "abc"}'
    problem(await served.post("any", body), 401)
    assert (await served.post("any", body, signed(body))).json() == {"challenge": "abc"}


async def test_zoom_gets_its_token_signed(served: Served) -> None:
    served.known.add("any", "webhook", auth="hmac", secret=ENV)
    body = b'{"event": "endpoint.url_validation", "payload": {"plainToken": "q9ibPhGeRZ6ayx5WTrXjRw"}}'
    problem(await served.post("any", body), 401)
    answer = await served.post("any", body, signed(body, "x-zm"))
    token = "q9ibPhGeRZ6ayx5WTrXjRw"
    assert answer.json() == {"plainToken": token, "encryptedToken": hexed(token.encode())}
    assert not served.fired.requests


async def test_zooms_token_cannot_be_a_delivery_that_we_would_sign(served: Served) -> None:
    served.known.add("any", "webhook", auth="hmac", secret=ENV)
    body = b'{"event": "endpoint.url_validation", "payload": {"plainToken": "v0:1:{}"}}'
    assert hexed(b"v0:1:{}") not in (await served.post("any", body, signed(body, "x-zm"))).text


@pytest.mark.parametrize(
    ("challenge", "query", "headers", "answer"),
    [
        ("meta", {"hub.mode": "subscribe", "hub.challenge": "115", "hub.verify_token": SECRET}, {}, "115"),
        ("dropbox", {"challenge": "abc"}, {}, "abc"),
        ("okta", {}, {"x-okta-verification-challenge": "abc"}, '{"verification":"abc"}'),
    ],
)
async def test_a_challenge_by_get_is_answered_if_the_trigger_says_whose(
    served: Served, challenge: str, query: dict[str, str], headers: dict[str, str], answer: str
) -> None:
    served.known.add("any", "webhook", auth="hmac", secret=ENV)
    found = await served.http.get("/hooks/any", params=query, headers=headers)
    assert (found.status_code, found.headers["allow"]) == (405, "POST")
    served.known.add("any", "webhook", auth="hmac", secret=ENV, challenge=challenge)
    found = await served.http.get("/hooks/any", params=query, headers=headers)
    assert (found.status_code, found.text) == (200, answer)
    problem(await served.http.get("/hooks/any"), 401 if challenge == "meta" else 400)
    problem(await served.post("any"), 401)
    assert (await served.http.put("/hooks/any")).headers["allow"] == "POST, GET"
    assert not served.fired.requests


async def test_metas_token_is_checked(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERIFY", "of its own")
    settings: dict[str, Any] = {
        "auth": "hmac",
        "secret": ENV,
        "challenge": "meta",
        "challenge_token": {"env": "VERIFY"},
    }
    served.known.add("any", "webhook", **settings)
    query = {"hub.mode": "subscribe", "hub.challenge": "115"}
    problem(await served.http.get("/hooks/any", params=query | {"hub.verify_token": SECRET}), 401)
    assert (await served.http.get("/hooks/any", params=query | {"hub.verify_token": "of its own"})).text == "115"


async def test_graphs_token_comes_by_post(served: Served) -> None:
    served.known.add("any", "webhook", challenge="graph")
    found = await served.http.post("/hooks/any", params={"validationToken": "<b>"})
    assert (found.status_code, found.text, found.headers["content-type"]) == (200, "<b>", "text/plain; charset=utf-8")
    assert not served.fired.requests
