"""What is sent to `/hooks/<trigger>`, and how it is answered."""

from __future__ import annotations

import asyncio
import os
import re
import socket
from collections.abc import AsyncIterator

import msgspec
import pytest

from muster.blueprints.provider import Provider
from muster.mesh.errors import NotFoundError, UnavailableError
from muster.mesh.firing import FireReply, FireRequest, FiringState
from muster.triggers.definitions import Trigger
from muster.triggers.own_account import account_of
from tests.kit.waiting import deadline
from tests.triggers.definition import trigger
from tests.triggers.hook_server import SECRET, Served, problem, raw, serving

MEGABYTE = 1024**2


def held(served: Served) -> int:
    """Bytes of bodies that are under way."""
    uploads = served.hooks._uploads
    return uploads.held if uploads is not None else 0


async def test_a_delivery_is_answered_once_it_fired(served: Served) -> None:
    served.known.add("any", "webhook")
    answer = await served.post("any", '{"a": 1}', {"content-type": "application/json"})
    assert answer.status_code == 202
    assert set(answer.json()) == {"firing", "orders"}
    (request,) = served.fired.requests
    assert (request.trigger, request.version) == ("any", 1)
    assert {name: request.event[name] for name in ("body", "provider", "kind")} == {
        "body": {"a": 1},
        "provider": "webhook",
        "kind": "webhook",
    }
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", request.event["time"])
    assert request.event["id"]
    assert request.event["headers"]["content-type"] == "application/json"


async def test_a_redelivery_is_reported(served: Served) -> None:
    served.known.add("any", "webhook")
    first = await served.post("any", headers={"idempotency-key": "one"})
    again = await served.post("any", headers={"idempotency-key": "one"})
    other = await served.post("any", headers={"idempotency-key": "two"})
    assert (first.status_code, again.status_code, other.status_code) == (202, 200, 202)
    assert again.json() == first.json() | {"duplicate": True}


@pytest.mark.parametrize(("state", "status"), [(FiringState.SKIPPED, 202), (FiringState.REJECTED, 422)])
async def test_a_firing_without_orders_says_why(served: Served, state: FiringState, status: int) -> None:
    async def without(_: FireRequest) -> FireReply:
        return FireReply(firing="f", state=state, reason="too many are open")

    served.fired.answer = without
    served.known.add("any", "webhook")
    answer = await served.post("any")
    assert answer.status_code == status
    reported = {"firing": "f", "orders": [], "state": state, "reason": "too many are open"}
    assert reported.items() <= answer.json().items()


async def test_an_event_that_when_does_not_want_is_ignored(served: Served) -> None:
    async def ignored(_: FireRequest) -> FireReply:
        return FireReply(ignored="`when` does not hold")

    served.fired.answer = ignored
    served.known.add("any", "webhook")
    answer = await served.post("any")
    assert (answer.status_code, answer.json()) == (200, {"ignored": "`when` does not hold"})


async def test_a_trigger_that_changed_is_looked_up_afresh(served: Served) -> None:
    async def stale(request: FireRequest) -> FireReply:
        return FireReply(stale=True) if request.version == 1 else FireReply(firing=f"v{request.version}", orders=("o",))

    served.fired.answer = stale
    served.known.add("any", "webhook")
    served.known.newer["any"] = trigger("any", "webhook", {}, version=2)
    answer = await served.post("any")
    assert (answer.status_code, answer.json()) == (202, {"firing": "v2", "orders": ["o"]})


async def test_a_trigger_that_changed_checks_with_its_new_settings(served: Served) -> None:
    async def stale(_: FireRequest) -> FireReply:
        return FireReply(stale=True)

    served.fired.answer = stale
    served.known.add("any", "webhook")
    settings = {"auth": "token", "secret": {"env": "HOOK_SECRET"}}
    served.known.newer["any"] = trigger("any", "webhook", settings, version=2)
    problem(await served.post("any"), 401)
    answer = await served.post("any", headers={"authorization": f"Bearer {SECRET}"})
    assert "being changed" in problem(answer, 503)["detail"]


async def test_nobody_is_refused_by_a_trigger_as_it_was(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTHER_SECRET", "other")
    served.known.add("lab", "gitlab", secret={"env": "HOOK_SECRET"}, events=["issue"])
    served.known.newer["lab"] = trigger("lab", "gitlab", {"secret": {"env": "OTHER_SECRET"}}, version=2)
    push = {"x-gitlab-event": "Push Hook"}
    problem(await served.post("lab", headers=push | {"x-gitlab-token": "neither"}), 401)
    assert (await served.post("lab", headers=push | {"x-gitlab-token": "other"})).status_code == 202
    assert served.fired.requests[0].version == 2


async def test_a_refusal_stands_when_nobody_can_be_asked(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(_: str) -> Trigger:
        raise UnavailableError("no broker answers")

    monkeypatch.setattr(served.known, "refreshed", away)
    served.known.add("any", "webhook", auth="token", secret={"env": "HOOK_SECRET"})
    problem(await served.post("any", headers={"authorization": "Bearer x"}), 401)


@pytest.mark.parametrize("path", ["nobody", "", "Not/A/Name", "..%2Fany", "any/any", "any//", "x" * 300])
async def test_an_unknown_hook_is_not_found(served: Served, path: str) -> None:
    served.known.add("any", "webhook")
    problem(await served.http.post(f"/hooks/{path}"), 404)


async def test_a_slash_at_the_end_says_nothing(served: Served) -> None:
    served.known.add("any", "webhook")
    assert (await served.post("any/")).status_code == 202
    assert (await served.post("any/?page=2")).status_code == 202


async def test_a_trigger_of_another_kind_takes_no_deliveries(served: Served) -> None:
    served.known.triggers["hourly"] = msgspec.structs.replace(trigger("hourly", "webhook", {}), settings=Provider())
    problem(await served.post("hourly"), 404)


@pytest.mark.parametrize("method", ["GET", "PUT", "HEAD", "OPTIONS", "DELETE"])
async def test_only_post_delivers(served: Served, method: str) -> None:
    served.known.add("any", "webhook")
    answer = await served.http.request(method, "/hooks/any")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


async def test_a_body_over_the_limit_is_refused_before_it_is_read(served: Served) -> None:
    served.known.add("any", "webhook")
    async with deadline(5):
        reader, writer = await served.sent(
            b"POST /hooks/any HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999\r\n\r\n" + bytes(100)
        )
        assert (await reader.readline()).split()[1] == b"413"
        writer.close()


async def test_a_sender_of_five_megabytes_gets_to_read_that_it_is_too_much(served: Served) -> None:
    served.known.add("any", "webhook")
    reported = problem(await served.post("any", bytes(5 * MEGABYTE)), 413)
    assert str(MEGABYTE) in reported["detail"]
    served.known.add("large", "webhook", max_body=4 * MEGABYTE)
    assert (await served.post("large", b" " * (4 * MEGABYTE - 2) + b"{}")).status_code == 202


async def test_a_chunked_body_over_the_limit_is_refused(served: Served) -> None:
    served.known.add("small", "webhook", max_body=1000)

    async def chunks(count: int, size: int) -> AsyncIterator[bytes]:
        for _ in range(count):
            yield b"x" * size

    assert (await served.http.post("/hooks/small", content=chunks(10, 100))).status_code == 202
    problem(await served.http.post("/hooks/small", content=chunks(11, 100)), 413)
    problem(await served.http.post("/hooks/small", content=chunks(80, 65536)), 413)
    assert held(served) == 0


@pytest.mark.parametrize(
    "start",
    [
        b"content-length: 100\r\n\r\n{",
        b"content-length: 100\r\n\r\n",
        b'transfer-encoding: chunked\r\n\r\n5\r\n{"a":\r\n',
        b"transfer-encoding: chunked\r\n\r\n",
    ],
)
async def test_an_upload_that_stalls_is_reported(served: Served, start: bytes) -> None:
    served.known.add("any", "webhook")
    async with deadline(5):
        reader, writer = await served.sent(b"POST /hooks/any HTTP/1.1\r\nhost: x\r\n" + start)
        assert (await reader.readline()).split()[1] == b"408"
        rest = await reader.readuntil(b"\r\n\r\n")
        assert b"connection: close" in rest
        assert b"did not arrive within 0.5 s" in await reader.read()
        writer.close()
    assert not served.fired.requests
    assert held(served) == 0


async def test_a_sender_that_hangs_up_fires_nothing(served: Served) -> None:
    served.known.add("any", "webhook")
    _, writer = await served.sent(b"POST /hooks/any HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
    writer.transport.abort()
    assert (await served.post("any")).status_code == 202
    assert len(served.fired.requests) == 1


@pytest.mark.parametrize("body", ['{"a": 1', "", "{'a': 1}", "[1,]", '{"a": NaN}', '{"a": "\\ud80"}', "[" * 100_000])
async def test_what_is_no_json_is_reported(served: Served, body: str) -> None:
    served.known.add("lab", "gitlab", secret={"env": "HOOK_SECRET"})
    reported = problem(await served.post("lab", body, {"x-gitlab-token": SECRET, "x-gitlab-event": "Push Hook"}), 400)
    assert "JSON" in reported["detail"] or "nested" in reported["detail"]


async def test_without_a_mesh_senders_are_asked_to_retry(served: Served) -> None:
    async def away(_: FireRequest) -> FireReply:
        raise UnavailableError("no broker answers")

    served.fired.answer = away
    served.known.add("any", "webhook")
    answer = await served.post("any")
    assert problem(answer, 503)["detail"] == "no broker answers"
    assert answer.headers["retry-after"] == "1"


async def test_a_trigger_that_went_meanwhile_is_not_found(served: Served) -> None:
    async def gone(_: FireRequest) -> FireReply:
        raise NotFoundError("there is no trigger 'any'")

    served.fired.answer = gone
    served.known.add("any", "webhook")
    problem(await served.post("any"), 404)


async def test_a_bug_answers_too_and_shows_no_secret(served: Served) -> None:
    async def broken(_: FireRequest) -> FireReply:
        raise RuntimeError(SECRET)

    served.fired.answer = broken
    served.known.add("any", "webhook")
    assert SECRET not in str(problem(await served.post("any"), 500))
    served.fired.answer = None
    assert (await served.post("any")).status_code == 202


async def test_beyond_the_bound_senders_are_asked_to_retry() -> None:
    async with serving(at_once=2) as served:
        go = asyncio.Event()

        async def slow(_: FireRequest) -> FireReply:
            await go.wait()
            return FireReply(firing="f", orders=("o",))

        served.fired.answer = slow
        served.known.add("any", "webhook")
        async with asyncio.TaskGroup() as group:
            held = [group.create_task(served.post("any")) for _ in range(2)]
            async with deadline(5):
                while served.hooks.under_way < 2:
                    await asyncio.sleep(0)
            answer = await served.post("any")
            assert "concurrent" in problem(answer, 503)["detail"]
            assert answer.headers["retry-after"] == "1"
            go.set()
        assert [task.result().status_code for task in held] == [202, 202]
        assert (await served.post("any")).status_code == 202


async def test_bodies_under_way_are_bounded_together() -> None:
    async with serving(held=1000) as served:
        served.known.add("any", "webhook")
        problem(await served.post("any", "x" * 1001), 503)
        assert (await served.post("any", "x" * 1000)).status_code == 202
        assert held(served) == 0


async def test_a_thousand_deliveries_at_once_are_all_answered(served: Served) -> None:
    served.known.add("any", "webhook", auth="token", header="X-Token", secret={"env": "HOOK_SECRET"})
    body = msgspec.json.encode({"text": "x" * 500})

    async def deliver(number: int) -> int:
        status, _ = await raw(served.url, "/hooks/any", body, x_token=SECRET, idempotency_key=str(number % 900))
        return status

    async with deadline(30):
        answers = await asyncio.gather(*map(deliver, range(1000)))
    assert (answers.count(202), answers.count(200)) == (900, 100)
    assert len(served.fired.requests) == 900


async def test_a_refusal_with_its_body_read_keeps_the_connection(served: Served) -> None:
    served.known.add("any", "webhook", auth="token", secret={"env": "HOOK_SECRET"})
    request = b"POST /hooks/any HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %b\r\ncontent-length: 2\r\n\r\n{}"
    async with deadline(5):
        reader, writer = await served.sent(request % b"wrong" + request % SECRET.encode())
        assert (await reader.readline()).split()[1] == b"401"
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"www-authenticate: Bearer" in head
        length = re.search(rb"content-length: (\d+)", head)
        assert length
        await reader.readexactly(int(length[1]))
        assert (await reader.readline()).split()[1] == b"202"
        writer.close()


async def test_a_page_of_another_site_reaches_no_hook_without_a_secret(served: Served) -> None:
    served.known.add("open", "webhook")
    served.known.add("closed", "webhook", auth="token", secret={"env": "HOOK_SECRET"})
    problem(await served.post("open", headers={"origin": "https://elsewhere.example"}), 403)
    rebound = {"origin": "http://elsewhere.example", "host": "elsewhere.example"}
    problem(await served.post("open", headers=rebound), 403)
    problem(await served.post("open", headers={"origin": "null"}), 403)
    problem(await served.post("open", headers={"origin": "http://[", "host": "["}), 400)
    assert (await served.post("open", headers={"origin": served.url})).status_code == 202
    assert (await served.post("open", headers={"host": "tunnel.example"})).status_code == 202
    both = {"origin": "https://elsewhere.example", "authorization": f"Bearer {SECRET}"}
    assert (await served.post("closed", headers=both)).status_code == 202


async def test_a_secret_that_is_not_there_is_not_the_senders_business(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.known.add("any", "webhook", auth="token", secret={"env": "HOOK_SECRET"})
    monkeypatch.delenv("HOOK_SECRET")
    reported = problem(await served.post("any", headers={"authorization": "Bearer x"}), 503)
    assert "HOOK_SECRET" not in str(reported)


_words = str.split
SECRETS = dict.fromkeys(
    _words("""
    authorization proxy-authorization cookie x-gitlab-token x-hub-signature x-hub-signature-256 webhook-signature
    x-api-key x-vault-token x-amz-security-token x-auth-key x-auth x-access-key x-shared-key x-auth-id x-key x-passcode
    x-zm-signature stripe-signature x-telegram-bot-api-secret-token x-goog-channel-token x-hook-pass x-something-else
    """),
    "s",
)
KEPT = {
    "user-agent": "test",
    "x-request-id": "7",
    "x-github-event": "push",
    "x-gitlab-instance": "https://lab.example",
    "x-shopify-topic": "orders/create",
    "x-event-key": "repo:push",
    "ce-type": "order.created",
    "traceparent": "00-0-0-01",
    "x-slack-retry-num": "1",
}


async def test_only_known_headers_get_into_the_event(served: Served) -> None:
    served.known.add("any", "webhook", auth="token", header="X-Event-Type", secret={"env": "HOOK_SECRET"})
    query = "/hooks/any?access_token=s&key=s&pwd=s&sig=s&code=s&page=2&author=ada&region=eu"
    answer = await served.http.post(query, headers=SECRETS | KEPT | {"x-event-type": SECRET})
    assert answer.status_code == 202
    event = served.fired.last
    assert not (set(SECRETS) | {"x-event-type"}) & set(event["headers"])
    assert event["headers"].items() >= KEPT.items()
    assert event["query"] == {"page": "2", "author": "ada", "region": "eu"}
    assert SECRET not in str(event)


async def test_a_header_that_the_manifest_reads_is_kept_unless_it_is_a_secret(served: Served) -> None:
    trigger = served.known.add("any", "webhook")
    read = frozenset({"x-env", "x-api-key"})
    served.known.triggers["any"] = msgspec.structs.replace(trigger, headers=read)
    await served.post("any", headers={"x-env": "prod", "x-other": "o", "x-api-key": "k"})
    headers = served.fired.last["headers"]
    assert headers["x-env"] == "prod"
    assert not {"x-other", "x-api-key"} & set(headers)


async def test_a_trigger_that_says_no_auth_takes_only_its_own_accounts_deliveries(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.known.add("any", "webhook")
    served.known.add("open", "webhook", auth="none")
    assert (await served.post("any")).status_code == 202
    for header in ("x-forwarded-for", "forwarded", "via", "x-real-ip"):
        reported = problem(await served.post("any", headers={header: "203.0.113.9"}), 401)
        assert "auth" in reported["detail"]
        assert (await served.post("open", headers={header: "203.0.113.9"})).status_code == 202
    monkeypatch.setattr(os, "geteuid", lambda: 12345)  # as if another account had sent it
    problem(await served.post("any"), 401)
    assert (await served.post("open")).status_code == 202


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_the_kernel_knows_whose_a_connection_is(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family) as listener:
        server = listener.getsockname()[:2]
        with socket.create_connection(server) as client:
            assert account_of(client.getsockname()[:2], server) == os.geteuid()
        assert account_of((address, 9), server) is None
        assert account_of(("203.0.113.9" if family == socket.AF_INET else "2001:db8::9", 9), server) is None


async def test_answers_are_counted_by_status(served: Served) -> None:
    served.known.add("any", "webhook")
    await served.post("any")
    await served.post("nobody")
    assert served.hooks.answered == {202: 1, 404: 1}
