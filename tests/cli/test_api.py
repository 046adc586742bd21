"""The client against servers that are not what it hopes for."""

from __future__ import annotations

import pytest

from muster.cli.api import Api, ServerEvent, segment
from muster.mesh.errors import (
    InvalidError,
    MusterError,
    NotFoundError,
    RefusedError,
    UnauthorizedError,
    UnavailableError,
    UnreachableError,
    UsageError,
)
from muster.mesh.tokens import Token
from tests.kit.answers import Answer, answering

PROBLEM = "application/problem+json"


@pytest.mark.parametrize(
    ("answer", "error", "word"),
    [
        ((404, "text/html", b"<h1>nothing</h1>"), UnreachableError, "is http://127.0.0.1"),
        ((301, "text/html", b""), UnreachableError, "is http://127.0.0.1"),
        ((502, "text/html", b"bad gateway"), UnavailableError, "502"),
        ((403, "text/plain", b"no"), UnauthorizedError, "MUSTER_TOKEN"),
        ((418, "text/plain", b"no"), RefusedError, "418"),
        ((404, PROBLEM, b'{"type": "urn:muster:problem:not-found", "detail": "no such"}'), NotFoundError, "no such"),
        ((422, PROBLEM, b'{"type": "urn:muster:problem:invalid", "detail": "bad"}'), InvalidError, "bad"),
        ((500, PROBLEM, b'{"type": "urn:muster:problem:bug", "detail": "oops"}'), MusterError, "oops"),
        ((405, PROBLEM, b'{"type": "urn:muster:problem:new", "status": 405, "detail": "no"}'), RefusedError, "no"),
        ((500, PROBLEM, b"not json"), UnreachableError, "500"),
        ((500, PROBLEM, b"[]"), UnreachableError, "500"),
        ((200, "application/json", b'{"items": ['), UnreachableError, "other than JSON"),
        ((200, "text/html", b"<h1>hi</h1>"), UnreachableError, "is http://127.0.0.1"),
    ],
)
def test_every_answer_is_a_result_or_an_error_in_words(answer: Answer, error: type[MusterError], word: str) -> None:
    with answering(lambda _: answer) as server, Api(server.url) as api, pytest.raises(error, match=word):
        api.get("/api/v1/info")


def test_a_connection_that_breaks_is_tried_again_where_that_is_harmless() -> None:
    third_time_lucky = (200, "application/json", b"{}")
    with answering(lambda count: None if count < 3 else third_time_lucky) as server, Api(server.url) as api:
        assert api.get("/x") == {}
        assert len(server.asked) == 3


def test_a_post_is_repeated_only_with_a_key_that_makes_it_safe() -> None:
    with answering(lambda _: None) as server, Api(server.url) as api:
        with pytest.raises(UnreachableError):
            api.post("/x", {})
        assert len(server.asked) == 1
        with pytest.raises(UnreachableError):
            api.post("/x", {}, key="k1")
        assert [headers["idempotency-key"] for _, headers, _ in server.asked[1:]] == ["k1"] * 3


def test_the_token_goes_along_and_parameters_that_are_none_do_not() -> None:
    with (
        answering(lambda _: (200, "application/json", b"{}")) as server,
        Api(server.url, token=Token("t0ken", "here")) as api,
    ):
        api.get("/x", a=None, b=True, c="d e&f")
        path, headers, _ = server.asked[0]
        assert headers["authorization"] == "Bearer t0ken"
        assert path == "/x?b=true&c=d+e%26f"


def test_pages_are_put_together_up_to_the_limit() -> None:
    def page(count: int) -> Answer:
        return 200, "application/json", b'{"items": [%d, 0], "next": "%d"}' % (count, count)

    with answering(page) as server, Api(server.url) as api:
        assert api.items("/x", limit=3)["items"] == [1, 0, 2, 0]
        assert ["limit=3" in server.asked[0][0], "cursor=1" in server.asked[1][0]] == [True, True]


def test_event_streams_are_read_as_the_standard_says() -> None:
    content = (
        b': pulse\n\nretry: 1000\n\nid: 1.0\ndata: {"a":\ndata: 1}\n\nevent: end\ndata: "plain"\n\n'
        b'event: error\ndata: {"type": "urn:muster:problem:refused", "detail": "enough"}\n\n'
    )
    with answering(lambda _: (200, "text/event-stream; charset=utf-8", content)) as server, Api(server.url) as api:
        found: list[ServerEvent] = []
        with pytest.raises(RefusedError, match="enough"), api.stream("/x", after="0.5") as events:
            found.extend(events)
        assert [(event.name, event.ident, event.data) for event in found] == [
            ("message", "1.0", {"a": 1}),
            ("end", "1.0", "plain"),
        ]
        assert server.asked[0][1]["last-event-id"] == "0.5"


def test_an_answer_that_is_no_stream_is_not_waited_for() -> None:
    with (
        answering(lambda _: (200, "text/html", b"<h1>hi</h1>")) as server,
        Api(server.url) as api,
        pytest.raises(UnreachableError, match="not an event stream"),
        api.stream("/x"),
    ):
        pass


@pytest.mark.parametrize("text", ["", ".", ".."])
def test_a_name_cannot_lead_elsewhere(text: str) -> None:
    assert segment("a/../b?c") == "a%2F..%2Fb%3Fc"
    with pytest.raises(UsageError):
        segment(text)
