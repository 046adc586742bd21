"""No condition takes long or much memory: a text or event that could is refused before it runs."""

from __future__ import annotations

import time
import tracemalloc
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from muster.blueprints.condition_cost import MAX_COST, Cost, size_of
from muster.blueprints.expressions import EvaluationError, EventCondition
from muster.blueprints.templates import TemplateError, render
from muster.mesh.errors import InvalidError

SECONDS = 3.0
"""Of this process's own time; the bound is 0.06, for a processor that nobody else uses."""

PUSH: dict[str, Any] = {
    "ref": "refs/heads/main",
    "commits": [
        {"id": "a" * 40, "message": "fix x " * 80, "added": ["docs/a.md"] * 20, "author": {"name": "n", "email": "e"}}
        for _ in range(20)
    ],
    "allowed": ["a", "b"] * 50,
    "size": 3,
}


@pytest.mark.parametrize(
    "text",
    [
        'event.body.commits.exists(c, c.message.contains("x"))',
        'event.body.commits.exists(c, c.added.exists(f, f.startsWith("docs/")))',
        'event.body.commits.exists(c, c.added.exists(f, f.matches("^docs/.*[.]md$")))',
        'event.body.commits.all(c, c.author.name != "bot") && event.body.size > 0',
        'event.body.commits.filter(c, c.message.contains("x")).size() == 20',
        '"refs/heads/" + "main" == event.body.ref',
        'event.body.ref in ["refs/heads/main", "refs/heads/next"]',
        'event.body.ref.split("/")[2] == "main"',
        '!("c" in event.body.allowed)',
        'event.body.ref.replace("refs/heads/", "") == "main"',
        "event.body.allowed.all(a, a in event.body.allowed)",
        "event.body.ref.contains(event.body.commits[0].id) || event.body.size + 1 == 4",
        'has(event.body.ref) && event.body.ref.lowerAscii().endsWith("main")',
    ],
)  # fmt: skip
def test_what_people_write_is_worked_out(text: str) -> None:
    assert EventCondition(text).holds({"event": {"body": PUSH}})


@pytest.mark.parametrize("text", ["[1].map(x, x).size() > 0", "['a'].join(',') == 'a'"])
def test_a_condition_makes_nothing_that_could_grow(text: str) -> None:
    with pytest.raises(InvalidError):
        EventCondition(text)


def _nested(first: str, again: str, last: str, levels: int) -> str:
    """Macros inside each other, each with a variable that is made of the previous one."""
    names = [chr(97 + level) for level in range(levels + 1)]
    inner = "".join(again.format(old=old, new=new) for old, new in pairwise(names))
    return first.format(new=names[0]) + inner + last.format(old=names[-1]) + ")" * (levels + 1)


LIST = {"l": ["a"] * 10_000, "m": ["b"] * 450_000}
HOSTILE: list[tuple[str, Any]] = [
    ('"aaaaaaaaaa"' + '.replace("a", "aaaaaaaaaa")' * 9 + ".size() > 0", {}),
    ("event.body.a.replace(event.body.b, event.body.c) == ''", {"a": "a" * 20_000, "b": "a", "c": "a" * 20_000}),
    ("from_json(event.body.a) == 1", {"a": "[" + "1," * 500_000 + "1]"}),
    ("event.body.l.all(f, !(f in event.body.m))", LIST),
    ("event.body.l.all(f, event.body.m != event.body.l)", LIST),
    ("event.body.l.filter(f, true).size() > 0", LIST),
    ("event.body.m == event.body.m", LIST),
    ("'q' in event.body.m", LIST),
    ("event.body.a.contains(event.body.b)", {"a": "a" * 500_000, "b": "a" * 250_000 + "b"}),
    ("event.body.a.matches(event.body.b)", {"a": "a" * 3000, "b": "(a?){500}b"}),
    ("event.body.a.split('').size() > 0", {"a": "a" * 1_000_000}),
    ("event.body.l.exists(x, event.body.a.size() < 0)", {"l": ["a"] * 9000, "a": "é" * 100_000}),
    (" + ".join(["event.body.a"] * 25) + " == ''", {"a": "a" * 1_000_000}),
    (_nested("['aaaaaaaa'].exists({new}, ", "[{old} + {old}].exists({new}, ", "{old} == ''", 24), {}),
    (_nested("[0].exists({new}, ", "[[{old}, {old}]].exists({new}, ", "{old} == {old}", 24), {}),
    (_nested("[0].exists({new}, ", "[{{'x': {old}, 'y': {old}}}].exists({new}, ", "{old} == {old}", 24), {}),
    (_nested("event.body.l.exists({new}, ", "event.body.l.exists({new}, ", "event.body.m == [{old}]", 5), LIST),
    ("event.body.l.exists(event, true) || event.body.l.all(x, event.body.l.all(y, x in event.body.l))", LIST),
]  # fmt: skip


@pytest.mark.parametrize(("text", "body"), HOSTILE, ids=range(len(HOSTILE)))
def test_what_could_take_long_is_refused(text: str, body: Any) -> None:
    condition = EventCondition(text)
    began = time.process_time()
    tracemalloc.start()
    try:
        with pytest.raises(EvaluationError, match="could take too long"):
            condition.holds({"event": {"body": body}})
        assert tracemalloc.get_traced_memory()[1] < 20 * 2**20
    finally:
        tracemalloc.stop()
    assert time.process_time() - began < SECONDS


_lists = some.sampled_from([0, 1, 50, 700, 20_000])
_texts = some.sampled_from(["", "a", "é" * 300, "a" * 40_000, "a" * 500_000])


@some.composite
def _bodies(draw: some.DrawFn) -> dict[str, Any]:
    item = draw(some.sampled_from(["a", "a" * 100, 1, {"x": "a", "l": ["a"] * 30}]))
    return {"l": [item] * draw(_lists), "m": ["b"] * draw(_lists), "a": draw(_texts), "b": draw(_texts)}


_values = some.recursive(
    some.sampled_from(["event.body.l", "event.body.m", "event.body.a", "event.body.b", "x", "y", "'a'", "1", "['a']"]),
    lambda inner: some.one_of(
        some.builds("({} + {})".format, inner, inner),
        some.builds("[{}, {}]".format, inner, inner),
        some.builds("{}.split({})".format, inner, inner),
        some.builds("{}.lowerAscii()".format, inner),
        some.builds("{}.filter(x, {} == x)".format, inner, inner),
    ),
    max_leaves=6,
)
_conditions = some.recursive(
    some.one_of(
        some.builds("({} == {})".format, _values, _values),
        some.builds("({} in {})".format, _values, _values),
        some.builds("{}.contains({})".format, _values, _values),
        some.builds("{}.matches({})".format, _values, _values),
        some.builds("({}.size() < 0)".format, _values),
    ),
    lambda inner: some.one_of(
        some.builds("({} || {})".format, inner, inner),
        some.builds("{}.exists(x, {})".format, _values, inner),
        some.builds("{}.all(y, !({}))".format, _values, inner),
    ),
    max_leaves=4,
)


@settings(max_examples=150, deadline=None)
@given(text=_conditions, body=_bodies())
def test_no_condition_on_any_event_takes_long(text: str, body: dict[str, Any]) -> None:
    try:
        condition = EventCondition(text)
    except InvalidError:
        return
    began = time.process_time()
    with suppress(EvaluationError):
        condition.holds({"event": {"body": body}})
    assert time.process_time() - began < SECONDS


@given(_conditions)
def test_more_data_never_costs_less(text: str) -> None:
    cost = Cost(text)
    sizes = [size_of({"l": ["a" * count] * count}) for count in (0, 1, 10, 100)]
    costs = [cost.of(size) for size in sizes]
    assert costs == sorted(costs)


def test_the_size_of_much_is_not_counted_to_its_end() -> None:
    assert Cost("true").of(size_of({"x": ["a"] * 10**6})) > MAX_COST


@pytest.mark.parametrize(
    "text",
    [
        "{% for f in event.body.files %}{% if f in event.body.allowed %}x{% endif %}{% endfor %}",
        "{% for f in event.body.files %}{% if f is in event.body.allowed %}x{% endif %}{% endfor %}",
        "{% for f in event.body.files %}{% if event.body.allowed == event.body.same %}x{% endif %}{% endfor %}",
        "{{ event.body.files | select('in', event.body.allowed) | list | length }}",
        "{{ event.body.files | reject('in', event.body.allowed) | list | length }}",
        "{% for f in event.body.files %}{% if f not in event.body.text %}x{% endif %}{% endfor %}",
        "{{ (" + " + ".join(["event.body.allowed"] * 50) + ") | length }}",
    ],
)
def test_a_template_counts_what_it_searches_and_compares(text: str) -> None:
    body = {"files": ["q"] * 10_000, "allowed": ["b"] * 100_000, "same": ["b"] * 100_000, "text": "b" * 500_000}
    began = time.process_time()
    with pytest.raises(TemplateError, match="steps"):
        render(text, {"event": {"body": body}})
    assert time.process_time() - began < 3 * SECONDS


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("{{ event.body.text | replace('a', 'b') }}", "bbb"),
        ("{{ 'a' in event.body.text }}", True),
        ("{{ event.body.files == ['x', 'y'] and 'x' in event.body.files and 'z' not in event.body.files }}", True),
        ("{{ event.body.files | select('in', ['x']) | list }}", ["x"]),
        ("{% if 1 < event.body.number <= 3 %}yes{% endif %}", "yes"),
    ],
)
def test_a_template_searches_and_compares(text: str, result: Any) -> None:
    assert render(text, {"event": {"body": {"text": "aaa", "files": ["x", "y"], "number": 2}}}) == result
