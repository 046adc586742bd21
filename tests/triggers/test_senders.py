"""How well-known senders show who they are: signatures, times, several secrets, tokens, challenges."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from muster.blueprints.provider import HookRequest, provider_kinds
from muster.blueprints.strict import build
from muster.mesh.errors import UnauthorizedError
from muster.triggers.providers.webhook import Webhook
from muster.triggers.schemes import SCHEMES
from muster.triggers.signatures import check_signature, moment_of
from tests.triggers.hook_server import SECRET, Served, problem

ENV = {"env": "HOOK_SECRET"}
BODY = b'{"a": 1}'
TOLERANCE = timedelta(minutes=5)


def hexed(content: bytes, secret: str = SECRET, algorithm: str = "sha256") -> str:
    """An HMAC."""
    return hmac.new(secret.encode(), content, algorithm).hexdigest()


def base64ed(content: bytes) -> str:
    """An HMAC in base64."""
    return base64.b64encode(hmac.digest(SECRET.encode(), content, "sha256")).decode()


def iso(stamp: int) -> str:
    """In RFC 3339."""
    return datetime.fromtimestamp(stamp, UTC).isoformat().replace("+00:00", "Z")


SENDERS: dict[str, Callable[[int, bytes], dict[str, str]]] = {
    "slack": lambda now, body: {
        "x-slack-request-timestamp": str(now),
        "x-slack-signature": "v0=" + hexed(b"v0:%d:%b" % (now, body)),
    },
    "zoom": lambda now, body: {
        "x-zm-request-timestamp": str(now),
        "x-zm-signature": "v0=" + hexed(b"v0:%d:%b" % (now, body)),
    },
    "stripe": lambda now, body: {
        "stripe-signature": f"t={now},v1={hexed(b'%d.%b' % (now, body))},v0={'0' * 64}",
    },
    "calendly": lambda now, body: {"calendly-webhook-signature": f"t={now}, v1={hexed(b'%d.%b' % (now, body))}"},
    "paddle": lambda now, body: {"paddle-signature": f"ts={now};h1={hexed(b'%d:%b' % (now, body))}"},
    "buildkite": lambda now, body: {
        "x-buildkite-signature": f"timestamp={now},signature={hexed(b'%d.%b' % (now, body))}"
    },
    "zendesk": lambda now, body: {
        "x-zendesk-webhook-signature-timestamp": iso(now),
        "x-zendesk-webhook-signature": base64ed(iso(now).encode() + body),
    },
    "github": lambda _, body: {
        "x-hub-signature": "sha1=" + hexed(body, algorithm="sha1"),
        "x-hub-signature-256": "sha256=" + hexed(body),
    },
    "gitea": lambda _, body: {"x-gitea-signature": hexed(body)},
    "forgejo": lambda _, body: {"x-forgejo-signature": hexed(body)},
    "gogs": lambda _, body: {"x-gogs-signature": hexed(body)},
    "grafana": lambda _, body: {"x-grafana-alerting-signature": hexed(body)},
    "pagerduty": lambda _, body: {"x-pagerduty-signature": f"v1={'0' * 64},v1={hexed(body)}"},
    "circleci": lambda _, body: {"circleci-signature": f"v1={hexed(body)}"},
    "sentry": lambda _, body: {"sentry-hook-signature": hexed(body)},
    "linear": lambda _, body: {"linear-signature": hexed(body)},
    "dropbox": lambda _, body: {"x-dropbox-signature": hexed(body)},
    "launchdarkly": lambda _, body: {"x-ld-signature": hexed(body)},
    "shopify": lambda _, body: {"x-shopify-hmac-sha256": base64ed(body)},
    "heroku": lambda _, body: {"heroku-webhook-hmac-sha256": base64ed(body)},
    "typeform": lambda _, body: {"typeform-signature": "sha256=" + base64ed(body)},
    "terraform": lambda _, body: {"x-tfe-notification-signature": hexed(body, algorithm="sha512")},
    "bitbucket": lambda _, body: {"x-hub-signature": "sha256=" + hexed(body)},
    "vercel": lambda _, body: {"x-vercel-signature": hexed(body, algorithm="sha1")},
    "intercom": lambda _, body: {"x-hub-signature": "sha1=" + hexed(body, algorithm="sha1")},
}


def now(age: int = 0) -> int:
    """In seconds since 1970."""
    return int(time.time()) - age


def test_every_sender_is_tried() -> None:
    assert set(SENDERS) == set(SCHEMES)


@pytest.mark.parametrize("sender", SENDERS)
async def test_a_delivery_of_a_named_sender_is_checked(served: Served, sender: str) -> None:
    served.known.add("any", "webhook", auth="hmac", secret=ENV, signature=sender)
    sign = SENDERS[sender]
    assert (await served.post("any", BODY, sign(now(), BODY))).status_code == 202
    problem(await served.post("any", BODY + b" ", sign(now(), BODY)), 401)
    problem(await served.post("any", BODY, {"x-signature": hexed(BODY)}), 401)
    problem(await served.post("any", BODY), 401)
    if SCHEMES[sender].is_timed:
        assert "too old" in problem(await served.post("any", BODY, sign(now(600), BODY)), 401)["detail"]
        assert "in the future" in problem(await served.post("any", BODY, sign(now(-600), BODY)), 401)["detail"]


NAMED_ONLY = {"zendesk", "vercel", "intercom"}


@pytest.mark.parametrize("sender", SENDERS)
async def test_a_sender_is_known_by_its_header_unless_it_signs_weakly(served: Served, sender: str) -> None:
    served.known.add("any", "webhook", auth="hmac", secret=ENV)
    answer = await served.post("any", BODY, SENDERS[sender](now(), BODY))
    assert answer.status_code == (401 if sender in NAMED_ONLY else 202), answer.text
    if SCHEMES[sender].is_timed:
        problem(await served.post("any", BODY, SENDERS[sender](now(600), BODY)), 401)


async def test_a_trigger_that_says_a_header_looks_at_no_other(served: Served) -> None:
    served.known.add("any", "webhook", auth="hmac", secret=ENV, header="X-Mine")
    for sign in SENDERS.values():
        problem(await served.post("any", BODY, sign(now(), BODY)), 401)
    assert (await served.post("any", BODY, {"x-mine": hexed(BODY)})).status_code == 202


@pytest.mark.parametrize("sender", ["slack", "stripe", "paddle", "buildkite"])
async def test_what_was_signed_with_a_time_is_no_body_of_its_own(served: Served, sender: str) -> None:
    """Its time would count for nothing then, and the delivery could be sent again for ever."""
    served.known.add("any", "webhook", auth="hmac", secret=ENV)
    old = now(86_400 * 365)
    headers = SENDERS[sender](old, BODY)
    signed = SCHEMES[sender].signed.replace("{time}", str(old)).replace("{body}", BODY.decode()).encode()
    assert any(hexed(signed) in value for value in headers.values())
    problem(await served.post("any", signed, {"x-signature": hexed(signed)}), 401)


def slack(body: bytes, stamp: str, signature: str, received: datetime) -> HookRequest:
    """A delivery of Slack's."""
    headers = {"x-slack-signature": signature, "x-slack-request-timestamp": stamp}
    return HookRequest(method="POST", headers=headers, query={}, body=body, received_at=received)


def test_the_example_of_slacks_documentation_passes() -> None:
    body = (
        b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V"
        b"&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text="
        b"&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN"
        b"&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
    )
    signature = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"
    at = datetime.fromtimestamp(1531420618, UTC)
    secrets = [b"8f742231b10e8888abcd99yyyzzz85a5"]
    assert check_signature(secrets, slack(body, "1531420618", signature, at), SCHEMES["slack"], TOLERANCE).secret
    for wrong in (
        slack(body + b"x", "1531420618", signature, at),
        slack(body, "1531420619", signature, at),
        slack(body, "1531420618", signature, at + timedelta(minutes=6)),
    ):
        with pytest.raises(UnauthorizedError):
            check_signature(secrets, wrong, SCHEMES["slack"], TOLERANCE)


@pytest.mark.parametrize(
    ("headers", "word"),
    [
        ({"stripe-signature": f"v1={hexed(BODY)}"}, "time"),
        ({"stripe-signature": f"t=1,t=2,v1={hexed(BODY)}"}, "time"),
        ({"stripe-signature": ",".join(["t=1"] + ["v1=0"] * 20)}, "20"),
        ({"x-slack-signature": "v0=0"}, "X-Slack-Request-Timestamp"),
        ({"stripe-signature": ""}, "time"),
    ],
)
async def test_what_is_wrong_with_a_signature_is_reported(served: Served, headers: dict[str, str], word: str) -> None:
    served.known.add("any", "webhook", auth="hmac", secret=ENV)
    assert word in problem(await served.post("any", BODY, headers), 401)["detail"]


@pytest.mark.parametrize(
    ("stamp", "moment"),
    [
        ("1700000000", 1_700_000_000),
        ("1700000000.25", 1_700_000_000.25),
        ("1700000000123", 1_700_000_000.123),
        ("1700000000123456", 1_700_000_000.123456),
        ("2023-11-14T22:13:20Z", 1_700_000_000),
        ("2023-11-14T23:13:20.500+01:00", 1_700_000_000.5),
        ("2023-11-14T22:13:20", None),
        ("soon", None),
        ("", None),
        ("-1", None),
        ("²", None),
        ("17000000001", 17_000_000_001),
        ("9" * 40, None),
    ],
)
def test_times_are_understood_as_senders_write_them(stamp: str, moment: float | None) -> None:
    assert moment_of(stamp) == moment


@pytest.mark.parametrize("write", [str, lambda at: str(at * 1000), iso])
async def test_a_signed_time_may_be_written_in_each_way(served: Served, write: Callable[[int], str]) -> None:
    served.known.add("any", "webhook", auth="hmac", secret=ENV, timestamp_header="X-Time")
    for age, status in ((0, 202), (600, 401)):
        stamp = write(now(age))
        headers = {"x-time": stamp, "x-signature": hexed(b"%b.%b" % (stamp.encode(), BODY))}
        assert (await served.post("any", BODY, headers)).status_code == status


async def test_what_is_signed_may_be_said(served: Served) -> None:
    own: dict[str, Any] = {
        "header": "X-Mine",
        "prefix": "v2=",
        "timestamp_prefix": "at=",
        "signed": "v2/{time}/{body}/end",
    }
    served.known.add("any", "webhook", auth="hmac", secret=ENV, **own)
    stamp = str(now())
    signature = hexed(b"v2/%b/%b/end" % (stamp.encode(), BODY))
    assert (await served.post("any", BODY, {"x-mine": f"at={stamp} v2={signature}"})).status_code == 202
    problem(await served.post("any", BODY, {"x-mine": f"at={now(1)} v2={signature}"}), 401)


async def test_grafana_signs_a_time_too_if_it_is_set_up_so(served: Served) -> None:
    served.known.add("any", "webhook", auth="hmac", secret=ENV, signature="grafana", timestamp_header="X-At")
    stamp = str(now())
    headers = {"x-at": stamp, "x-grafana-alerting-signature": hexed(b"%b:%b" % (stamp.encode(), BODY))}
    assert (await served.post("any", BODY, headers)).status_code == 202
    problem(await served.post("any", BODY, {"x-grafana-alerting-signature": hexed(BODY)}), 401)


async def test_sha1_is_taken_only_if_it_is_asked_for(served: Served) -> None:
    sent = {"x-hub-signature": "sha1=" + hexed(BODY, algorithm="sha1")}
    served.known.add("any", "webhook", auth="hmac", secret=ENV)
    problem(await served.post("any", BODY, sent), 401)
    served.known.add("old", "webhook", auth="hmac", secret=ENV, algorithm="sha1")
    assert (await served.post("old", BODY, sent)).status_code == 202


TWO = [{"env": "HOOK_SECRET"}, {"env": "NEXT_SECRET"}]


@pytest.fixture
def next_secret(monkeypatch: pytest.MonkeyPatch) -> str:
    """The one that a sender will use next."""
    monkeypatch.setenv("NEXT_SECRET", "the next one")
    return "the next one"


async def test_any_of_two_secrets_fits(served: Served, next_secret: str) -> None:
    served.known.add("signed", "webhook", auth="hmac", secret=TWO)
    served.known.add("shown", "webhook", auth="token", secret=TWO)
    served.known.add("lab", "gitlab", secret=TWO)
    served.known.add("hub", "github", secret=TWO)
    for secret in (SECRET, next_secret):
        right = hexed(BODY, secret)
        push = {"x-github-event": "push", "x-hub-signature-256": f"sha256={right}"}
        assert (await served.post("signed", BODY, {"x-signature": right})).status_code == 202
        assert (await served.post("shown", BODY, {"authorization": f"Bearer {secret}"})).status_code == 202
        assert (await served.post("lab", BODY, {"x-gitlab-token": secret})).status_code == 202
        assert (await served.post("hub", BODY, push)).status_code == 202
    problem(await served.post("signed", BODY, {"x-signature": hexed(BODY, "another")}), 401)
    problem(await served.post("lab", BODY, {"x-gitlab-token": "another"}), 401)


async def test_two_standard_keys_fit(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [b"first key", b"second key"]
    for name, key in zip(("HOOK_SECRET", "NEXT_SECRET"), keys, strict=True):
        monkeypatch.setenv(name, "whsec_" + base64.b64encode(key).decode())
    served.known.add("any", "webhook", auth="standard-webhooks", secret=TWO)
    served.known.add("lab", "gitlab", secret=TWO)
    for place, key in enumerate(keys):
        content = f"m{place}.{now()}.".encode() + BODY
        signature = "v1," + base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()
        headers = {"id": f"m{place}", "timestamp": content.split(b".")[1].decode(), "signature": signature}
        standard = {f"webhook-{name}": value for name, value in headers.items()}
        assert (await served.post("any", BODY, standard)).status_code == 202
        assert (await served.post("lab", BODY, standard)).status_code == 202
        svix = {f"svix-{name}": value for name, value in headers.items()}
        assert (await served.post("any", BODY, svix)).json()["duplicate"] is True


async def test_a_secret_that_is_missing_may_be_the_one_that_fits(served: Served, next_secret: str) -> None:
    served.known.add("any", "webhook", auth="token", secret=TWO)
    del os.environ["NEXT_SECRET"]
    assert (await served.post("any", BODY, {"authorization": f"Bearer {SECRET}"})).status_code == 202
    problem(await served.post("any", BODY, {"authorization": f"Bearer {next_secret}"}), 503)


async def test_a_token_may_stand_in_the_query_and_is_kept_nowhere(served: Served) -> None:
    served.known.add("any", "webhook", auth="token", secret=ENV, query="k")
    answer = await served.http.post("/hooks/any", params={"k": SECRET, "again": SECRET, "page": "2"}, content=BODY)
    assert answer.status_code == 202
    assert served.fired.last["query"] == {"page": "2"}
    assert SECRET not in str(served.fired.requests)
    for wrong in ({"k": "another"}, {"k": "\u2713"}, {"other": SECRET}, {}):
        problem(await served.http.post("/hooks/any", params=wrong, content=BODY), 401)
    problem(await served.post("any", BODY, {"authorization": f"Bearer {SECRET}"}), 401)


@pytest.mark.parametrize("pair", [f"anybody:{SECRET}", SECRET])
async def test_a_token_may_be_the_password_of_a_url(served: Served, pair: str) -> None:
    served.known.add("any", "webhook", auth="token", secret=ENV)
    basic = "Basic " + base64.b64encode(pair.encode()).decode()
    assert (await served.post("any", BODY, {"authorization": basic})).status_code == 202
    wrong = "Basic " + base64.b64encode(pair.encode() + b"x").decode()
    problem(await served.post("any", BODY, {"authorization": wrong}), 401)
    problem(await served.post("any", BODY, {"authorization": "Basic ?"}), 401)


@pytest.mark.parametrize(
    ("settings", "path"),
    [
        ({"auth": "hmac", "signature": "slak"}, "signature"),
        ({"auth": "hmac", "signature": "standard-webhooks"}, "signature"),
        ({"auth": "token", "signature": "slack"}, "signature"),
        ({"auth": "hmac", "query": "k"}, "query"),
        ({"auth": "token", "query": "k", "header": "X"}, "query"),
        ({"auth": "hmac", "signed": "{time}"}, "signed"),
        ({"auth": "hmac", "signed": "{body}{body}"}, "signed"),
        ({"auth": "hmac", "signed": "{body}{id}"}, "signed"),
        ({"auth": "hmac", "signed": "{time}.{body}"}, "signed"),
        ({"auth": "hmac", "timestamp_header": "X", "signed": "{body}"}, "signed"),
        ({"auth": "hmac", "challenge_token": ENV}, "challenge_token"),
    ],
)
def test_what_fits_not_together_is_reported_when_it_is_applied(settings: dict[str, Any], path: str) -> None:
    built, faults = build(provider_kinds()["webhook"], {"secret": ENV} | settings)
    assert isinstance(built, Webhook)
    assert not faults
    assert path in {problem.path for problem in built.problems()}
