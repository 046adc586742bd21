"""The answer to any wrong request is a problem: never a traceback, never HTML."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import httpx
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from muster.mesh.settings import MAX_BODY
from tests.broker.api.conftest import Mesh

pytestmark = pytest.mark.asyncio(loop_scope="session")


def problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    """The problem in an answer, after a check of its form."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["status"] == status
    assert body["type"].startswith("urn:muster:problem:")
    assert body["title"]
    assert body["detail"]
    assert "Traceback" not in answer.text
    return body


@pytest.mark.parametrize("path", ["/", "/api/v1/nothing", "/api/v2/orders", "/api/v1/orders/x/y/z", "/hooks/none"])
async def test_an_unknown_address_is_a_problem(mesh: Mesh, path: str) -> None:
    assert path in problem(await mesh.http.get(path), 404)["detail"]


async def test_a_wrong_method_is_a_problem_that_says_which_are_right(mesh: Mesh) -> None:
    answer = await mesh.http.delete("/api/v1/orders")
    assert problem(answer, 405)["type"].endswith("method-not-allowed")
    assert "GET" in answer.headers["allow"]


@pytest.mark.parametrize("body", [b"", b"  ", b"{", b'{"blueprint": }', b"\xff\xfe", b"nonsense", b"[" * 100_000])
async def test_broken_json_is_reported_with_its_place(mesh: Mesh, body: bytes) -> None:
    found = problem(await mesh.http.post("/api/v1/orders", content=body), 400)
    assert "body" in found["detail"]


@pytest.mark.parametrize("depth", [100, 900, 970])
@pytest.mark.parametrize(
    ("path", "start", "status"),
    [
        ("orders", b'{"blueprint": "hello", "on": "web01", "inputs": ', 400),
        ("triggers/t/fire", b'{"a": ', 400),
        ("apply", b'{"kind": "machine", "name": "deep", "params": ', 422),
    ],
)
async def test_a_body_that_is_nested_too_deeply_is_refused(
    mesh: Mesh, path: str, start: bytes, status: int, depth: int
) -> None:
    body = start + b'{"a":' * depth + b"0" + b"}" * depth + b"}"
    found = problem(await mesh.http.post(f"/api/v1/{path}", content=body), status)
    assert "more than 100 levels" in str(found)


async def test_the_line_of_broken_json_is_reported(mesh: Mesh) -> None:
    answer = await mesh.http.post("/api/v1/orders", content=b'{\n  "blueprint": "hello",\n  "on" "web01"\n}')
    assert problem(answer, 400)["errors"][0]["line"] == 3


async def test_all_errors_are_reported_at_once(mesh: Mesh) -> None:
    body = {"blueprnt": "hello", "on": 7, "count": "many", "labels": {"a": 1}, "not_before": "soon"}
    errors = problem(await mesh.http.post("/api/v1/orders", json=body), 422)["errors"]
    assert {error.get("path", "") for error in errors} >= {"blueprnt", "on", "count", "labels.a"}
    assert "blueprint" in next(error["hint"] for error in errors if error.get("path") == "blueprnt")


@pytest.mark.parametrize("body", [b"null", b"[]", b"7", b'"text"', b"true"])
async def test_json_of_another_shape_is_reported(mesh: Mesh, body: bytes) -> None:
    problem(await mesh.http.post("/api/v1/orders", content=body), 422)


async def test_parameters_of_the_wrong_type_are_reported_all_at_once(mesh: Mesh) -> None:
    params = {"limit": "many", "state": "runing", "since": "yesterday"}
    answer = await mesh.http.get("/api/v1/orders", params=params)
    paths = {error["path"] for error in problem(answer, 422)["errors"]}
    assert {"limit"} < paths


@pytest.mark.parametrize("since", ["999999d", "99999999999999d"])
async def test_a_time_before_all_time_is_reported(mesh: Mesh, since: str) -> None:
    answer = await mesh.http.get("/api/v1/orders", params={"since": since})
    assert [error["path"] for error in problem(answer, 422)["errors"]] == ["since"]


async def test_an_unknown_parameter_is_refused_with_the_one_that_was_meant(mesh: Mesh) -> None:
    answer = await mesh.http.get("/api/v1/orders", params={"sate": "failed"})
    (error,) = problem(answer, 422)["errors"]
    assert error == {"message": "there is no parameter 'sate'", "path": "sate", "hint": "did you mean 'state'?"}


@pytest.mark.parametrize("limit", ["0", "-1", "1001", "1e9", ""])
async def test_a_page_has_a_sensible_size(mesh: Mesh, limit: str) -> None:
    problem(await mesh.http.get("/api/v1/orders", params={"limit": limit}), 422)


async def test_a_body_over_the_limit_is_refused_by_its_length(mesh: Mesh) -> None:
    answer = await mesh.http.post("/api/v1/orders", content=b" " * (10 * 1024 * 1024))
    assert str(MAX_BODY) in problem(answer, 413)["detail"]


async def test_a_body_over_the_limit_is_refused_while_it_streams(mesh: Mesh) -> None:
    async def without_a_length() -> AsyncIterator[bytes]:
        for _ in range(2048):
            yield b" " * 65536

    before = psutil.Process().memory_info().rss
    answer = await mesh.http.post("/api/v1/orders", content=without_a_length())
    problem(answer, 413)
    assert psutil.Process().memory_info().rss - before < 48 * 1024 * 1024  # of 128 MB sent


async def test_an_ill_formed_cursor_filter_or_id_is_a_problem(mesh: Mesh) -> None:
    problem(await mesh.http.get("/api/v1/orders", params={"cursor": "x"}), 400)
    problem(await mesh.http.get("/api/v1/orders", params={"cursor": "9" * 5000}), 400)
    for since in ("99999999h", "9" * 400 + "d"):
        problem(await mesh.http.get("/api/v1/orders", params={"since": since}), 422)
    problem(await mesh.http.get("/api/v1/orders/%00"), 404)
    problem(await mesh.http.get("/api/v1/orders/" + "a" * 5000), 404)
    problem(await mesh.http.get("/api/v1/machines", params={"where": "element."}), 422)
    problem(await mesh.http.get("/api/v1/profiles", params={"where": "true"}), 400)


async def test_a_bug_is_a_problem_without_its_traceback(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(_: str) -> None:
        raise ZeroDivisionError("the inside")

    monkeypatch.setattr(mesh.broker.query, "order", broken)
    found = problem(await mesh.http.get("/api/v1/orders/x"), 500)
    assert "ZeroDivisionError" in found["detail"]
    assert "the inside" not in found["detail"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
REQUEST = st.dictionaries(
    st.sampled_from(["blueprint", "on", "pool", "where", "count", "all", "inputs", "not_before", "labels", "nonsense"]),
    JSON,
    max_size=6,
)


async def _send(mesh: Mesh, method: str, path: str, **content: Any) -> httpx.Response:
    answer = await mesh.http.request(method, path, **content)
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        problem(answer, answer.status_code)
    return answer


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    body=st.binary(max_size=200)
    | REQUEST.map(str).map(str.encode)
    | JSON.map(repr).map(lambda it: it.encode("utf8", "ignore"))
)
async def test_no_bytes_break_the_broker(mesh: Mesh, body: bytes) -> None:
    for path in ("/api/v1/orders", "/api/v1/apply?dry_run=true", "/api/v1/elements/web01/mode"):
        await _send(mesh, "POST", path, content=body)
    await _send(mesh, "PUT", "/api/v1/machines/nobody..", content=body)


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(body=REQUEST)
async def test_no_request_breaks_the_broker(mesh: Mesh, body: dict[str, Any]) -> None:
    await _send(mesh, "POST", "/api/v1/orders?dry_run=true", content=json.dumps(body))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(text=st.text(min_size=1, max_size=30))
async def test_no_parameter_breaks_the_broker(mesh: Mesh, text: str) -> None:
    part = quote(text.encode("utf8", "surrogatepass"), safe="")
    paths = (
        f"/api/v1/orders/{part}/jobs",
        f"/api/v1/orders?cursor={part}&state={part}&since={part}&element={part}",
        f"/api/v1/machines/{part}",
        f"/api/v1/machines?where={part}&cursor={part}",
        f"/api/v1/events?after={part}",
        f"/api/v1/orders/x/output?job={part}",
    )
    for path in paths:
        await _send(mesh, "GET", path, headers={"Accept": "application/json"})
