from __future__ import annotations

from datetime import UTC, datetime

import pytest

from muster.mesh.events import Event
from muster.triggers.kinds import matcher, on_record, problems
from muster.triggers.providers.nats import NatsTrigger, subject_problem


def event(kind: str, subject: str = "it") -> Event:
    return Event(id="1.0", kind=kind, subject=subject, time=datetime(2026, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("order.failed", event("order.failed")),
        ("order.*", event("order.failed")),
        ("*.failed", event("job.failed")),
        ("*", event("inbox.event", "deploy.done")),
        ("inbox.event", event("inbox.event", "deploy.done")),
        ("deploy.done", event("inbox.event", "deploy.done")),
        ("deploy.*", event("inbox.event", "deploy.done")),
        ("inbox.event.orders.placed", event("inbox.event", "orders.placed")),
    ],
)
def test_a_kind_means_muster_s_own_or_a_name_from_the_inbox(kind: str, wanted: Event) -> None:
    assert not list(problems([kind]))
    assert matcher([kind])(wanted)
    assert wanted.kind in on_record([kind])


@pytest.mark.parametrize(
    ("kind", "other"),
    [
        ("order.failed", event("order.finished")),
        ("order.failed", event("inbox.event", "order.failed")),
        ("deploy.*", event("inbox.event", "deployed")),
        ("deploy.done", event("object.created", "deploy.done")),
    ],
)
def test_what_is_of_another_kind_is_left_alone(kind: str, other: Event) -> None:
    assert not matcher([kind])(other)


@pytest.mark.parametrize(
    ("kind", "hint"),
    [
        ("order.fialed", "order.failed"),
        ("order.none*", "order."),
        ("ordr.failed", "order.failed"),
        ("orders.placed", "inbox.event.orders.placed"),
        ("order failed", "order.failed"),
        ("", "order.failed"),
        ("order.", "order.failed"),
    ],
)
def test_a_misspelt_kind_is_reported_with_what_was_meant(kind: str, hint: str) -> None:
    (problem,) = problems([kind])
    assert hint in problem.hint
    assert problem.path == "kinds[0]"


@pytest.mark.parametrize("subject", ["shop.orders", "shop.*", "shop.>", "a.*.b.>", "Shop_1.x-y"])
def test_a_subject_of_somebodys_own_may_be_listened_to(subject: str) -> None:
    assert subject_problem(subject) is None


@pytest.mark.parametrize(
    "subject",
    [
        *("", ">", "*", "*.orders", "muster.log.>", "muster", "$JS.API.>", "$KV.x", "_INBOX.>", "_INBOX_x.y"),
        *("a..b", ".a", "a.", "a b", "a.>.b", "a.b*", "a.>x", "a\n.b"),
    ],
)
def test_a_subject_that_is_none_or_not_theirs_is_refused_with_a_hint(subject: str) -> None:
    problem = subject_problem(subject)
    assert problem is not None
    assert problem.hint


@pytest.mark.parametrize("stream", ["MUSTER_LOG", "", "a b", "a.b", "a*"])
def test_a_stream_that_is_none_or_musters_own_is_refused(stream: str) -> None:
    assert [problem.path for problem in NatsTrigger(subject="shop.a", stream=stream).problems()] == ["stream"]
