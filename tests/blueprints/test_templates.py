"""Templates: values go in as they are; nothing gets out of the sandbox, and nothing grows without bound."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.blueprints.templates import TemplateError, check_template, render

VALUES: dict[str, Any] = {
    "inputs": {"name": "web", "count": 3, "items": [1, 2], "values": {"keys": "k"},
               "none": None, "flag": True, "big": "x" * 600_000},
    "tasks": {"disk": {"outputs": {"used": 80}}},
}  # fmt: skip


@pytest.mark.parametrize(
    ("template", "result"),
    [
        ("plain", "plain"),
        ("disk {{ tasks.disk.outputs.used }}%", "disk 80%"),
        ("{{ tasks.disk.outputs.used }}", 80),
        ("{{ inputs.items }}", [1, 2]),
        ("{{ inputs.flag }}", True),
        ("{{ inputs.none }}", None),
        ("{{ tasks }}", VALUES["tasks"]),
        ("{{- inputs.count -}}", 3),
        (" {{ inputs.count }}", " 3"),
        ("{{ inputs.count }}{{ inputs.count }}", "33"),
        ("{{ inputs.values.keys }}", "k"),
        ("{{ inputs['name'].upper() }}", "WEB"),
        ("{{ inputs.nope | default('x') }}", "x"),
        ("{{ 'a' if inputs.nope is defined else 'b' }}", "b"),
        ("{% for i in inputs.items %}{{ loop.index }}:{{ i }};{% endfor %}", "1:1;2:2;"),
        ("{{ inputs.items | map('string') | join(',') }}", "1,2"),
        ("{{ inputs.items | tojson }}!", "[1, 2]!"),
        ("{{ range(3) }}", [0, 1, 2]),
        ("{{ inputs.count * 2 + 1 }}", 7),
        ("{{ '<' }}{{ inputs.name }}", "<web"),
        ("a\n", "a\n"),
    ],
)
def test_a_template_is_filled_in(template: str, result: object) -> None:
    assert render(template, VALUES) == result
    assert check_template(template, "p") == []


def test_everything_inside_a_value_is_filled_in_but_names() -> None:
    value = {"{{ x }}": ["{{ inputs.name }}", {"a": "{{ inputs.count }}", "b": 1.5, "c": None}]}
    assert render(value, VALUES) == {"{{ x }}": ["web", {"a": 3, "b": 1.5, "c": None}]}


@given(st.text())
def test_a_value_is_never_a_template(text: str) -> None:
    assert render("{{ inputs.text }}", {"inputs": {"text": text}}) == text
    assert render("<{{ inputs.text }}>", {"inputs": {"text": text}}) == f"<{text}>"


@given(st.text("{}% #abi.n|()[]'\"-+*~", max_size=30))
def test_any_text_is_a_template_or_refused(text: str) -> None:
    wrong = check_template(text, "p")
    try:
        render(text, VALUES)
    except TemplateError:
        return
    assert wrong == []


@pytest.mark.parametrize(
    ("template", "missing"),
    [
        ("{{ inputs.nope }}", "`inputs.nope`"),
        ("a {{ tasks.disk.outputs.usd }}", "`tasks.disk.outputs.usd`"),
        ("{{ tasks.dsk.outputs.used }}", "`tasks.dsk`"),
        ("{{ tasks['dsk'].outputs.used }}", "`tasks.dsk`"),
        ("{{ nope.a }}", "`nope`"),
        ("{{ inputs.items[7] }}", "`inputs.items[7]`"),
        ("{{ inputs.nope | upper }}", "`inputs.nope`"),
        ("{% for x in inputs.nope %}{% endfor %}", "`inputs.nope`"),
        ("{{ inputs.count.real }}", "'real'"),
        ("{{ [inputs.nope] }}", "`inputs.nope`"),
        ("{{ inputs.nope ~ 'a' }}", "`inputs.nope`"),
    ],
)
def test_what_is_missing_is_reported_with_its_path(template: str, missing: str) -> None:
    with pytest.raises(TemplateError) as caught:
        render({"a": [template]}, VALUES, "with")
    assert caught.value.detail.startswith("with.a[0]: ")
    assert missing in caught.value.detail


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__ }}",
        "{{ ''['__class__'] }}",
        "{{ inputs.__class__.__mro__ }}",
        "{{ inputs.name.format }}",
        "{{ inputs.name.encode() }}",
        "{{ inputs.items.append(3) }}",
        "{{ inputs.update({}) }}",
        "{{ inputs.name | attr('__class__') }}",
        "{{ inputs.items | map(attribute='__class__') | list }}",
        "{{ range.__globals__ }}",
        "{{ self }}",
        "{{ self.__init__ }}",
        "{{ cycler }}",
        "{{ lipsum }}",
        "{{ loop.__class__ }}",
        "{% for x in [1] %}{{ loop.__class__ }}{% endfor %}",
        "{% for x in [1] %}{{ loop._iterator }}{% endfor %}",
        "{% include '/etc/passwd' %}",
        "{% set x = 1 %}{{ x }}",
        "{% macro m() %}{% endmacro %}{{ m() }}",
        "{% import 'os' as os %}",
        "{{ (1).__class__ }}",
        "{{ inputs.get.__self__ }}",
        "{{ inputs.name.join(inputs.items) }}",
    ],
)
def test_nothing_gets_out_of_the_sandbox(template: str) -> None:
    with pytest.raises(TemplateError):
        render(template, VALUES)


@pytest.mark.parametrize(
    "template",
    [
        "{{ 'a' * 1000000000 }}",
        "{{ [0] * 1000000000 }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ 10 ** (10 ** 10) }}",
        "{{ 10 ** 20 }}",
        "{{ 2 ** 100000000 }}",
        "{{ 'a'.ljust(1000000000) }}",
        "{{ 'a' | center(1000000000) }}",
        "{{ range(1000000000) | list }}",
        "{{ inputs.big | replace('x', inputs.big) }}",
        "{{ inputs.big }}{{ inputs.big }}",
        "{{ [inputs.big, inputs.big] }}",
        "{% for i in range(9999) %}{% for j in range(9999) %}xxxxxxxxxx{% endfor %}{% endfor %}",
        "{% for i in range(9) %}{% for j in range(9) %}{% for k in range(9) %}{% endfor %}{% endfor %}{% endfor %}",
        "{{ inputs.big ~ inputs.big ~ inputs.big }}",
        "{{ (inputs.big + inputs.big) | length }}",
        "{{ inputs.items | join(inputs.big) | length }}{{ [inputs.big, inputs.big] | join | length }}",
        "{{ 'x' | indent(1000000000) }}{{ inputs.big }}{{ inputs.big }}",
    ],
)
def test_nothing_grows_without_bound(template: str) -> None:
    with pytest.raises(TemplateError):
        render(template, VALUES)


@pytest.mark.parametrize(
    "template",
    [
        "{% for i in range(10000) %}{% for j in range(10000) %}{% endfor %}{% endfor %}",
        "{% for i in range(10000) %}" + "{% if i %}{% endif %}" * 1000 + "{% endfor %}",
        "{% for i in range(10000) | map('string') %}{% for j in range(10000) | list %}{% endfor %}{% endfor %}",
        "{% for i in range(10000) %}{% if range(10000) | sum %}{% endif %}{% endfor %}",
        "{% for i in range(10000) %}{% if range(10000) | map('string') | join %}{% endif %}{% endfor %}",
        "{% for i in range(10000) %}{% if inputs.big | upper %}{% endif %}{% endfor %}",
        "{% for i in range(10000) %}{% if inputs.big.upper() %}{% endif %}{% endfor %}",
        "{% for i in range(10000) %}{% if inputs | tojson %}{% endif %}{% endfor %}",
        "{{ range(10000) | map('string') | map('default', range(10000)) | map('replace', '', 'x') | list }}",
        "{{ 1.5 | round(3000000, 'ceil') | round(-3000000) }}{{ nope }}",
    ],
)
def test_nothing_works_for_long(template: str) -> None:
    started = time.process_time()
    with pytest.raises(TemplateError):
        render(template, VALUES)
    assert time.process_time() - started < 8


def test_many_small_steps_are_not_too_many() -> None:
    names = [f"host{number}" for number in range(5000)]
    line = "{{ loop.index }} {{ name | upper }}{% if not loop.last %},{% endif %}"
    for _ in range(5):
        text = render(f"{{% for name in names | sort %}}{line}{{% endfor %}}", {"names": names})
        assert text.endswith("5000 HOST999")


@pytest.mark.parametrize(
    ("template", "reported"),
    [
        ("{% if 1 %}" * 101 + "x" + "{% endif %}" * 101, "not a template"),
        ("x" * 300_000 + "{{ inputs.name }}", "longer than 256 KB"),
        ("{{ inputs.name }}" * 10_000, "too many expressions"),
        ("{{ [" + "1," * 100_000 + "1] }}", "too many expressions"),
    ],
)
def test_a_template_that_is_too_much_to_compile_is_reported_at_once(template: str, reported: str) -> None:
    started = time.process_time()
    (problem,) = check_template(template, "p")
    assert reported in problem.message
    assert time.process_time() - started < 3
    with pytest.raises(TemplateError):
        render(template, VALUES)


def test_nothing_is_worked_out_when_a_template_is_checked() -> None:
    started = time.process_time()
    for work in ("1.5 | round(3000000, 'ceil')", "'a' | replace('a', 'a' * 9) | indent(99)", "range(9999) | sum"):
        check_template(f"<{{{{ {work} }}}}>", "p")
    assert time.process_time() - started < 3
