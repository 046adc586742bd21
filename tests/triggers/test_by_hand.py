"""Events that a person makes have the fields that their provider adds to its own."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from muster.blueprints.provider import Provider, provider_kinds
from muster.triggers.forge import Facts
from muster.triggers.providers.cron import Cron
from muster.triggers.providers.github import Github
from muster.triggers.providers.gitlab import Gitlab
from muster.triggers.providers.nats import NatsTrigger
from tests.triggers import github_payloads, gitlab_payloads

NOON = datetime(2030, 1, 31, 12, tzinfo=UTC)

TYPICAL: dict[str, dict[str, Any]] = {
    "cron": {"cron": "@daily"},
    "interval": {"every": "90s"},
    "once": {"at": "2030-01-31T12:00:00Z"},
    "calendar": {"rrule": "FREQ=DAILY"},
    "event": {"kinds": ["order.failed"]},
    "nats": {"subject": "shop.>"},
}


def settings(provider: str) -> Provider:
    return msgspec.convert(TYPICAL.get(provider, {}), provider_kinds()[provider])


@pytest.mark.parametrize(
    ("provider", "fields"),
    [
        *dict.fromkeys(("cron", "interval", "once", "calendar"), frozenset({"local", "timezone"})).items(),
        *dict.fromkeys(("gitlab", "github"), frozenset(Facts.__struct_fields__)).items(),
        *dict.fromkeys(("nats", "event"), frozenset({"subject"})).items(),
        ("webhook", frozenset({"query"})),
    ],
)
@pytest.mark.parametrize("body", [None, "text", [1], {"commits": 1, "object_kind": []}])
def test_they_are_there_whatever_the_body(provider: str, fields: frozenset[str], body: Any) -> None:
    assert set(settings(provider).by_hand(body, NOON)) == fields


def test_a_schedule_is_due_now() -> None:
    reported = Cron(cron="@daily", timezone="Asia/Tokyo").by_hand(None, NOON)
    assert reported == {"local": "2030-01-31T21:00:00+09:00", "timezone": "Asia/Tokyo"}


def test_a_message_came_on_the_subject_that_is_listened_to() -> None:
    assert NatsTrigger(subject="shop.>").by_hand({}, NOON) == {"subject": "shop.>"}


@pytest.mark.parametrize("sent", github_payloads.DELIVERIES, ids=lambda sent: sent.kind)
def test_a_delivery_of_github_is_understood_without_its_header(sent: github_payloads.Sent) -> None:
    reported = Github(auth="none").by_hand(sent.body, NOON)
    assert {name: reported[name] for name in sent.facts} == sent.facts


@pytest.mark.parametrize("sent", gitlab_payloads.DELIVERIES, ids=lambda sent: sent.kind)
def test_a_delivery_of_gitlab_is_understood_without_its_header(sent: gitlab_payloads.Sent) -> None:
    reported = Gitlab(auth="none").by_hand(sent.body, NOON)
    assert {name: reported[name] for name in sent.facts} == sent.facts
