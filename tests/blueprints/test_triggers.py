"""Triggers: everything that is wrong is reported when they are applied."""

from __future__ import annotations

from typing import Any

import pytest

from muster.blueprints.manifest import check_all, load
from muster.blueprints.objects.trigger import Trigger
from muster.mesh.errors import InvalidError
from tests.blueprints.context import Catalog
from tests.kit.bell import bell

__all__ = ["bell"]

pytestmark = pytest.mark.usefixtures("bell")

KNOWN = """
kind: blueprint
name: hello
inputs: {who: {type: string}, times: {type: integer, default: 1}}
tasks: [{name: a, uses: noop}]
---
{kind: machine, name: web01}
---
{kind: pool, name: web, where: element.online}
"""


def trigger(**fields: Any) -> str:
    given = {"provider": "bell", "blueprint": "hello", "target": "{on: web01}", **fields}
    return "kind: trigger\nname: t\n" + "".join(f"{name.rstrip('_')}: {value}\n" for name, value in given.items())


def shown(**fields: Any) -> list[str]:
    with pytest.raises(InvalidError) as caught:
        check_all(load(trigger(**fields), "t.yaml"), Catalog(KNOWN))
    return [f"{problem} at {problem.line}:{problem.column}" for problem in caught.value.problems]


def test_a_whole_trigger_is_read() -> None:
    text = trigger(
        with_="{tone: high, secret: {env: BELL}, keys: {a: {file: /a}}}",
        when='event.body.ref == "main"',
        target="{where: element.online, queue: true}",
        inputs='{who: "{{ event.body.who }}", times: 2}',
        merge_event="true",
        max_open=3,
        on_overlap="skip",
        cooldown="30s",
        labels="{team: a}",
    )
    check_all(load(text), Catalog(KNOWN))
    (one,) = load(text)
    assert isinstance(one.manifest, Trigger)
    assert one.manifest.with_["tone"] == "high"
    request = one.manifest.request()
    assert (request.where, request.queue, request.labels) == ("element.online", True, {"team": "a"})


def test_what_is_applied_together_is_seen() -> None:
    check_all(load(KNOWN + "---\n" + trigger(target="{pool: web}")), Catalog())


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"provider": "bel"}, ["at 3:11", "there is no provider 'bel'", "did you mean 'bell'?"]),
        ({"with_": "{tone: loud}"}, ["at 6:14", "with.tone", "'loud' is not possible", "high"]),
        ({"with_": "{tune: high, times: x}"}, ["with.tune", "there is no field 'tune'", "did you mean 'tone'?"]),
        ({"with_": "{times: 0}"}, ["at 6:15", "with.times", "rings at least once"]),
        ({"when": "evnt.body.x == 1"}, ["at 6:7", "there is no `evnt.body.x`", "did you mean 'event'?"]),
        ({"when": "event.body.x ==="}, ["at 6:22", "when"]),
        ({"when": "inputs.x == 1"}, ["there is no `inputs.x`", "event"]),
        ({"when": "event.body + 1 > 2 && 'a'"}, ["when"]),
        ({"inputs": '{who: "{{ evnt.x }}"}'}, ["at 6:16", "inputs.who", "did you mean 'event'?"]),
        ({"inputs": '{who: "{{ event. }}"}'}, ["inputs.who", "not a template"]),
        ({"inputs": "{whoo: x}"}, ["inputs.whoo", "has no input 'whoo'", "did you mean 'who'?"]),
        ({"target": '{on: "{{ evnt.host }}"}'}, ["target.on", "did you mean 'event'?"]),
        ({"target": '{pool: "{{ item.pool }}"}'}, ["target.pool", "there is no `item`"]),
        ({"target": "{where: element.kidn == event.body.x}"}, ["target.where", "there is no `element.kidn`"]),
        (
            {"target": "{where: element.name == event.x, queue: true}"},
            ["target.where", 'pool: "{{ event.body.pool }}"'],
        ),
        ({"target": "{where: element.name == item.x}"}, ["target.where", "there is no `item.x`"]),
        ({"each": "event.body ==="}, ["t.yaml:6: each"]),
        ({"each": "1 + 2"}, ["each", "it must give a list, but gives int"]),
        ({"each": "item.x"}, ["each", "there is no `item"]),
        ({"key": "{event: body}"}, ["key", "expected text"]),
        ({"key": "item.x", "cooldown": "3s"}, ["key", "there is no `item"]),
        ({"key": "'[event.x]'", "cooldown": "3s"}, ["key", "it must give text, but gives list"]),
        ({"debounce": "soon"}, ["debounce", "not a duration"]),
        ({"debounce": "1ms"}, ["debounce", "between 100ms and 1d"]),
        ({"debounce": "3h"}, ["debounce", "at_most must be", "set at_most too: 1d"]),
        ({"debounce": "{quiet: 10s, at_most: 5s}"}, ["debounce", "at_most must be between quiet and 1d"]),
        ({"debounce": "{quite: 10s}"}, ["debounce.quite", "no field 'quite'", "did you mean 'quiet'?"]),
        ({"debounce": "10s", "key": "item.x", "each": "event.x"}, ["key", "must not read the item"]),
        ({"key": "event.x"}, ["key", "nothing counts by it", "cooldown"]),
        ({"id": "evnt.x"}, ["id", "there is no `evnt.x`"]),
        ({"id": "event.x", "provider": "interval", "with_": "{every: 1h}"}, ["id", "leave it out"]),
        ({"inputs": "{times: many}"}, ["inputs.times", "integer"]),
        ({"blueprint": "helo"}, ["there is no blueprint 'helo'", "did you mean 'hello'?"]),
        ({"target": "{}"}, ["at 5:1", "exactly one of"]),
        ({"target": "{on: web01, pool: web}"}, ["exactly one of", "got on and pool"]),
        ({"target": "{on: web02}"}, ["target.on", "did you mean 'web01'?"]),
        ({"target": "{pool: wep}"}, ["target.pool", "did you mean 'web'?"]),
        ({"target": "{where: element.kidn}"}, ["at 5:17", "target.where", "element.kind"]),
        ({"target": "{where: element.online, all: true, queue: true}"}, ["target.queue", "at most one"]),
        ({"target": "{on: web01, queue: true}"}, ["target.queue", "goes with where"]),
        ({"max_open": 0}, ["max_open", "less than 1"]),
        ({"on_overlap": "skip"}, ["on_overlap", "max_open"]),
        ({"cooldown": "soon"}, ["cooldown", "not a duration"]),
        ({"target": "{onn: web01}"}, ["did you mean 'on'?"]),
    ],
    ids=str,
)
def test_what_is_wrong_is_reported_with_its_place_and_hint(fields: dict[str, Any], words: list[str]) -> None:
    found = shown(**fields)
    assert all(any(word in line for line in found) for word in words), found


def test_all_faults_are_reported_at_once() -> None:
    assert len(shown(with_="{tune: 1, times: x}", when="evnt", inputs="{whoo: 1}", target="{}")) == 5


@pytest.mark.parametrize(
    "with_",
    [
        "{secret: hunter2, tone: low}",
        "{secret: {value: hunter2}}",
        "{secret: [hunter2]}",
        "{keys: {main: hunter2}}",
        "{secret: hunter2, times: x}",
    ],
)
def test_a_secret_in_clear_is_refused_and_not_repeated(with_: str) -> None:
    found = shown(with_=with_)
    assert "{env: NAME}" in found[0]
    assert "hunter2" not in "".join(found)


def test_a_secret_is_in_one_place() -> None:
    assert "exactly one place" in shown(with_="{secret: {env: A, file: b}}")[0]
    assert "exactly one place" in shown(with_="{secret: {}}")[0]
