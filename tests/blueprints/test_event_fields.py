"""What a trigger's manifest reads of its event."""

from __future__ import annotations

from typing import Any

import pytest

from muster.blueprints.event_fields import COMMON, event_field_problems, headers_read
from muster.blueprints.objects.trigger import Trigger, TriggerTarget
from muster.blueprints.provider import provider_kinds
from muster.blueprints.strict import build
from muster.mesh.errors import Problem
from tests.triggers import github_payloads, gitlab_payloads


def trigger(when: str = "true", text: str = "") -> Trigger:
    """One that says this."""
    return Trigger(
        name="any", provider="webhook", when=when, blueprint="any", target=TriggerTarget(on="a"), inputs={"v": [text]}
    )


@pytest.mark.parametrize(
    ("when", "text", "names"),
    [
        ('event.headers["x-env"] == "prod"', "", ("x-env",)),
        ("event['headers']['x-env'] == 'prod'", "", ("x-env",)),
        ('"x-env" in event.headers && event.headers[?"x-b"].hasValue()', "", ("x-b", "x-env")),
        ("true", "{{ event.headers['x-env'] | default('') }}", ("x-env",)),
        ("true", '{{ event.headers.get("x-env") }}', ("x-env",)),
        ("event.body.headers.x == 1", "event.headers", ()),
    ],
)
def test_headers_that_it_names_are_known(when: str, text: str, names: tuple[str, ...]) -> None:
    assert headers_read(trigger(when, text)) == names


def problems(settings: dict[str, Any], provider: str, when: str = "true", text: str = "") -> list[Problem]:
    """What is wrong with what it reads."""
    built, faults = build(provider_kinds()[provider], settings)
    assert built is not None
    assert not faults
    return list(event_field_problems(trigger(when, text), built))


FORGE: dict[str, Any] = {"auth": "none"}


@pytest.mark.parametrize(
    ("provider", "settings", "when", "hint"),
    [
        ("github", FORGE, 'event.brnch == "main"', "'branch'"),
        ("github", FORGE, 'event["brnch"] == "main"', "'branch'"),
        ("github", FORGE | {"events": ["push"]}, 'event.body.reff == "refs/heads/main"', "'ref'"),
        ("github", FORGE | {"events": ["push"]}, "event.body.head_comit.id != ''", "'head_commit'"),
        ("gitlab", FORGE | {"events": ["push"]}, "event.body.total_commit_count > 1", "'total_commits_count'"),
        ("gitlab", FORGE, "has(event.project_path)", "'project'"),
        ("webhook", {}, "event.boddy.a == 1", "'body'"),
        ("webhook", {}, "event.params.a == 1", "there are"),
        ("cron", {"cron": "@daily"}, "event.locale != ''", "'local'"),
        ("event", {"kinds": ["order.failed"]}, "event.subjekt != ''", "'subject'"),
        ("nats", {"subject": "a"}, "event.subjct != ''", "'subject'"),
    ],
)
def test_a_misspelt_field_is_reported_with_a_suggestion(
    provider: str, settings: dict[str, Any], when: str, hint: str
) -> None:
    (problem,) = problems(settings, provider, when)
    assert (problem.path, problem.line) == ("when", 1)
    assert hint in problem.hint
    (problem,) = problems(settings, provider, text=f"a\n{{{{ {when.replace('has(', '(')} }}}}")
    assert (problem.path, problem.line) == ("inputs.v[0]", 2)
    assert hint in problem.hint


@pytest.mark.parametrize(
    ("provider", "settings", "text"),
    [
        ("github", FORGE | {"events": ["push"]}, 'event.body.ref == event.ref && event.body["reff"] == 1'),
        ("github", FORGE | {"events": ["push"]}, "event.body.something_new == 1"),
        ("github", FORGE | {"events": ["push"]}, "event.body.total_commits > 1 && event.body.get == 1"),
        ("github", FORGE | {"events": ["gollum"]}, "event.body.pages.size() > 0 && event.body.reff == 1"),
        ("github", FORGE, "event.body.reff == 1"),  # any event may come
        ("gitlab", FORGE, "event.body.object_attributes.actoin == 1"),
        ("webhook", {}, 'event.body.reff == 1 && event.query.a == "1" && "event.foo" != ""'),
        ("webhook", {}, 'event.headers["x-a"] == "" && event.time == event.id'),
        ("cron", {"cron": "@daily"}, "event.local == event.timezone && event.body == event.headers"),
    ],
)
def test_what_an_event_may_have_is_taken(provider: str, settings: dict[str, Any], text: str) -> None:
    assert problems(settings, provider, text) == []
    assert problems(settings, provider, text=f"event.foo {{{{ {text.replace('&&', 'and')} }}}} event.bar") == []


@pytest.mark.parametrize("kind", sorted(provider_kinds()))
def test_every_provider_of_ours_says_what_its_events_have(kind: str) -> None:
    provider = provider_kinds()[kind]
    assert provider.event_fields is not None
    assert not provider.event_fields & COMMON


@pytest.mark.parametrize(
    ("provider", "deliveries"), [("github", github_payloads.DELIVERIES), ("gitlab", gitlab_payloads.DELIVERIES)]
)
def test_no_field_of_a_documented_body_is_refused(provider: str, deliveries: Any) -> None:
    known: Any = provider_kinds()[provider]
    for sent in deliveries:
        narrower = [{"events": [sent.kind]}] if sent.kind in known.known else []
        for settings in [{}, *narrower]:
            for name in sent.body:
                assert problems(FORGE | settings, provider, f"event.body.{name} == 1") == [], (sent.kind, name)
