"""Deliveries of anything that can send an HTTP request."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from pathlib import Path
from typing import Any

import pytest

from muster.blueprints.provider import provider_kinds
from muster.blueprints.strict import build
from muster.triggers.providers.webhook import Webhook
from tests.triggers.hook_server import SECRET, Served, problem

ENV = {"env": "HOOK_SECRET"}


def hexed(body: bytes, algorithm: str = "sha256", secret: str = SECRET) -> str:
    """An HMAC."""
    return hmac.new(secret.encode(), body, algorithm).hexdigest()


TWO_PARTS = b"\r\n".join(
    [
        b'--cut\r\nContent-Disposition: form-data; name="a"\r\n\r\n1',
        b'--cut\r\nContent-Disposition: form-data; name="f"; filename="x.txt"\r\nContent-Type: text/plain\r\n\r\nabc',
        b"--cut--\r\n",
    ]
)

BODIES = [
    ("application/json", b'{"a": [1, null]}', {"a": [1, None]}),
    ("application/json; charset=utf-8", b"7", 7),
    ("application/json", b"", None),
    ("application/cloudevents+json", b'{"type": "x"}', {"type": "x"}),
    ("application/x-www-form-urlencoded", b"a=1&b=x+y&a=2&empty=", {"a": ["1", "2"], "b": "x y", "empty": ""}),
    ("application/x-www-form-urlencoded", b'{"a": 1}', {"a": 1}),  # what `curl -d` sends
    ("text/plain", b"hello", "hello"),
    ("text/plain; charset=latin-1", b"\xfc", "ü"),
    ("text/plain", b'{"a": 1}', {"a": 1}),
    ("text/plain", b'{"a": 1} and more', '{"a": 1} and more'),
    ("text/plain", b"7", "7"),
    ("", b'{"a": 1}', {"a": 1}),
    ("", b"hello", "hello"),
    ("", b"[1, 2]", [1, 2]),
    ("", b"[INFO] hello", "[INFO] hello"),
    ("", b"", None),
    ("application/xml", b"<a/>", "<a/>"),
    (
        "multipart/form-data; boundary=cut",
        TWO_PARTS,
        {"a": "1", "f": {"filename": "x.txt", "content_type": "text/plain", "size": 3}},
    ),
]


@pytest.mark.parametrize(("kind", "body", "value"), BODIES)
async def test_a_body_is_what_its_type_says(served: Served, kind: str, body: bytes, value: Any) -> None:
    served.known.add("any", "webhook")
    answer = await served.post("any", body, {"content-type": kind} if kind else {})
    assert answer.status_code == 202, answer.text
    assert served.fired.last["body"] == value


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", b'{"a": 1'),
        ("application/json", b"hello"),
        ("application/x-www-form-urlencoded", b'{"a": 1'),
        ("application/x-www-form-urlencoded", b"a=%ff"),
        ("application/x-www-form-urlencoded", b"&".join([b"a=1"] * 1001)),
        ("text/plain", b"\xff\xfd"),
        ("text/plain; charset=nonsense", b"x"),
        ("application/octet-stream", b"\x00\xff"),
        ("application/octet-stream", b'{"a":'),
        ("", b' {"a":'),
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=cut", b'--cut\r\nContent-Disposition: form-data; name="a"\r\n\r\n1'),
        ("multipart/form-data; boundary=cut", b"nothing of the kind"),
    ],
)
async def test_a_body_that_is_not_is_refused(served: Served, kind: str, body: bytes) -> None:
    served.known.add("any", "webhook")
    problem(await served.post("any", body, {"content-type": kind} if kind else {}), 400)


BODY = b'{"a": 1}'


@pytest.mark.parametrize(
    ("settings", "headers"),
    [
        ({}, {"x-hub-signature-256": "sha256=" + hexed(BODY)}),
        ({}, {"x-signature": hexed(BODY).upper()}),
        ({"header": "X-Mine"}, {"x-mine": hexed(BODY)}),
        ({"header": "X-Mine", "prefix": "v0="}, {"x-mine": "v0=" + hexed(BODY)}),
        ({"algorithm": "sha512", "header": "X-Mine"}, {"x-mine": "sha512=" + hexed(BODY, "sha512")}),
        ({"algorithm": "sha1", "header": "X-Mine"}, {"x-mine": "sha1=" + hexed(BODY, "sha1")}),
        (
            {"encoding": "base64", "header": "X-Mine"},
            {"x-mine": base64.b64encode(hmac.digest(SECRET.encode(), BODY, "sha256")).decode()},
        ),
    ],
)
async def test_a_signature_of_the_body_lets_in(
    served: Served, settings: dict[str, Any], headers: dict[str, str]
) -> None:
    served.known.add("any", "webhook", auth="hmac", secret=ENV, **settings)
    assert (await served.post("any", BODY, headers)).status_code == 202
    problem(await served.post("any", BODY + b" ", headers), 401)
    problem(await served.post("any", BODY, {name: value[:-1] for name, value in headers.items()}), 401)
    problem(await served.post("any", BODY, {name: value + "0" for name, value in headers.items()}), 401)
    problem(await served.post("any", BODY), 401)
    problem(await served.post("any", BODY, dict.fromkeys(headers, "")), 401)
    problem(await served.post("any", BODY, dict.fromkeys(headers, "\xff")), 401)
    assert len(served.fired.requests) == 1


async def test_an_empty_body_is_signed_too(served: Served) -> None:
    served.known.add("any", "webhook", auth="hmac", secret=ENV)
    assert (await served.post("any", b"", {"x-signature": hexed(b"")})).status_code == 202
    problem(await served.post("any", b"", {"x-signature": hexed(b"x")}), 401)


async def test_a_signed_time_must_be_of_now(served: Served) -> None:
    served.known.add("any", "webhook", auth="hmac", secret=ENV, timestamp_header="X-Time", tolerance="1m")

    def headers(age: float) -> dict[str, str]:
        stamp = str(int(time.time() - age))
        return {"x-time": stamp, "x-signature": hexed(b"%b.%b" % (stamp.encode(), BODY))}

    now = headers(0)
    assert (await served.post("any", BODY, now)).status_code == 202
    assert (await served.post("any", BODY, now)).json()["duplicate"] is True
    assert (await served.post("any", BODY, headers(30))).status_code == 202
    for ident in ("1", "2"):
        unsigned = now | {"webhook-id": ident, "idempotency-key": ident}
        assert (await served.post("any", BODY, unsigned)).json()["duplicate"] is True
    for wrong in (headers(62), headers(-62), now | {"x-time": "soon"}, {"x-signature": hexed(BODY)}):
        problem(await served.post("any", BODY, wrong), 401)


async def test_an_id_beside_a_signed_time_counts_if_the_trigger_names_its_header(served: Served) -> None:
    served.known.add("any", "webhook", auth="hmac", secret=ENV, timestamp_header="X-Time", id_header="X-Id")
    for age, ident, status in ((0, "1", 202), (1, "1", 200), (1, "2", 202)):
        stamp = str(int(time.time() - age))
        headers = {"x-time": stamp, "x-signature": hexed(b"%b.%b" % (stamp.encode(), BODY)), "x-id": ident}
        assert (await served.post("any", BODY, headers)).status_code == status


async def test_equal_bodies_are_one_delivery_if_the_trigger_says_so(served: Served) -> None:
    served.known.add("any", "webhook", auth="hmac", secret=ENV, dedupe="body")
    signed = {"x-signature": hexed(BODY)}
    assert (await served.post("any", BODY, signed | {"webhook-id": "1"})).status_code == 202
    assert (await served.post("any", BODY, signed | {"webhook-id": "2"})).json()["duplicate"] is True


async def test_equal_json_is_an_equal_body_and_other_bodies_go_by_their_bytes(served: Served) -> None:
    served.known.add("any", "webhook", dedupe="body")
    json = {"content-type": "application/json"}
    bodies = [b'{"a":1,"b":2}', b'{ "b": 2, "a": 1 }', b'{"a":1,"b":"2"}', b'{"a":1.0,"b":2}']
    answers = [await served.post("any", body, json) for body in bodies]
    assert [answer.status_code for answer in answers] == [202, 200, 202, 202]
    texts = [await served.post("any", body, {"content-type": "text/plain"}) for body in (b"a b", b"a  b", b"a b")]
    assert [answer.status_code for answer in texts] == [202, 202, 200]


@pytest.mark.parametrize(
    ("settings", "right", "wrong"),
    [
        ({}, {"authorization": f"Bearer {SECRET}"}, {"authorization": f"Bearer {SECRET}x"}),
        ({}, {"authorization": f"bearer {SECRET}"}, {"authorization": "Bearer"}),
        ({"header": "X-Token"}, {"x-token": SECRET}, {"authorization": f"Bearer {SECRET}"}),
    ],
)
async def test_a_token_lets_in(
    served: Served, settings: dict[str, Any], right: dict[str, str], wrong: dict[str, str]
) -> None:
    served.known.add("any", "webhook", auth="token", secret=ENV, **settings)
    assert (await served.post("any", BODY, right)).status_code == 202
    problem(await served.post("any", BODY, wrong), 401)
    problem(await served.post("any", BODY), 401)


async def test_a_token_may_have_any_letters(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_SECRET", "p\u00e4sswort \u2713")
    served.known.add("any", "webhook", auth="token", secret=ENV, header="X-Token")
    assert (await served.post("any", BODY, {"x-token": "p\u00e4sswort \u2713"})).status_code == 202
    problem(await served.post("any", BODY, {"x-token": "p\u00e4sswort"}), 401)


KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def standard(body: bytes, ident: str = "msg_1", age: float = 0, key: str = KEY) -> dict[str, str]:
    """Headers as Standard Webhooks has them."""
    stamp = str(int(time.time() - age))
    secret = base64.b64decode(key.removeprefix("whsec_"))
    digest = hmac.new(secret, f"{ident}.{stamp}.".encode() + body, hashlib.sha256).digest()
    signature = "v1," + base64.b64encode(digest).decode()
    return {"webhook-id": ident, "webhook-timestamp": stamp, "webhook-signature": signature}


async def test_a_signed_id_may_have_any_letters(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_SECRET", KEY)
    served.known.add("any", "webhook", auth="standard-webhooks", secret=ENV)
    assert (await served.post("any", BODY, standard(BODY, "msg_\u00fc"))).status_code == 202


async def test_standard_webhooks_are_checked(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_SECRET", KEY)
    served.known.add("any", "webhook", auth="standard-webhooks", secret=ENV)
    good = standard(BODY)
    several = good | {"webhook-signature": f"v1,bm9wZQ== v1a,xyz {good['webhook-signature']}"}
    assert (await served.post("any", BODY, several)).status_code == 202
    assert (await served.post("any", BODY, good | {"idempotency-key": "x"})).json()["duplicate"] is True
    assert served.fired.requests[0].key == "msg_1"
    wrong = [
        standard(BODY, age=301),
        standard(BODY, age=-330),
        standard(BODY + b" "),
        good | {"webhook-id": "msg_2"},
        good | {"webhook-signature": good["webhook-signature"].removeprefix("v1,")},
        good | {"webhook-timestamp": "²"},
        good | {"webhook-timestamp": "9" * 40},
        {},
    ]
    for headers in wrong:
        problem(await served.post("any", BODY, headers), 401)


def test_the_signature_is_that_of_the_specifications_example() -> None:
    """The example that Standard Webhooks' own libraries test with."""
    from muster.triggers.schemes import Scheme
    from muster.triggers.signatures import signature, standard_key

    content = b'msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{"test": 2432232314}'
    found = signature(standard_key(KEY.encode()), content, Scheme(encoding="base64"))
    assert found == b"g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


async def test_a_secret_may_stand_in_a_file(served: Served, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\n")
    served.known.add("any", "webhook", auth="token", secret={"file": str(file)})
    assert (await served.post("any", headers={"authorization": f"Bearer {SECRET}"})).status_code == 202
    file.write_text("another")  # read at once
    problem(await served.post("any", headers={"authorization": f"Bearer {SECRET}"}), 401)


async def test_another_header_can_identify_a_redelivery(served: Served) -> None:
    served.known.add("any", "webhook", id_header="X-Event-Id")
    assert (await served.post("any", headers={"x-event-id": "1"})).status_code == 202
    assert (await served.post("any", headers={"x-event-id": "1"})).json()["duplicate"] is True
    assert (await served.post("any", headers={"x-event-id": "2", "idempotency-key": "x"})).status_code == 202
    assert (await served.post("any", headers={"x-event-id": "3", "idempotency-key": "x"})).status_code == 202
    long = {"x-event-id": "x" * 1000}
    assert (await served.post("any", headers=long)).status_code == 202
    assert (await served.post("any", headers=long)).json()["duplicate"] is True
    assert len(served.fired.requests[-1].key) < 256


@pytest.mark.parametrize(
    ("settings", "paths"),
    [
        ({}, set()),
        ({"auth": "hmac"}, {"secret"}),
        ({"auth": "token"}, {"secret"}),
        ({"auth": "standard-webhooks"}, {"secret"}),
        ({"secret": ENV}, {"auth"}),
        ({"auth": "token", "secret": ENV, "prefix": "x"}, {"prefix"}),
        ({"auth": "standard-webhooks", "secret": ENV, "header": "x"}, {"header"}),
        ({"auth": "hmac", "secret": ENV, "tolerance": "soon"}, {"tolerance"}),
        ({"auth": "hmac", "secret": ENV, "tolerance": "2d"}, {"tolerance"}),
        ({"auth": "hmac", "secret": ENV, "timestamp_header": "X-T", "tolerance": "0s"}, {"tolerance"}),
    ],
)
def test_what_is_wrong_is_reported_when_it_is_applied(settings: dict[str, Any], paths: set[str]) -> None:
    built, faults = build(provider_kinds()["webhook"], settings)
    assert isinstance(built, Webhook)
    assert not faults
    assert {problem.path for problem in built.problems()} == paths
