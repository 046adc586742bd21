"""What a blueprint must not say is reported when it is applied, not when it runs."""

from __future__ import annotations

import json

import pytest

from muster.blueprints.manifest import check_all, load
from tests.blueprints.context import Catalog
from tests.blueprints.test_manifests import shown, wrong

HEAD = "kind: blueprint\nname: b\n"


def first(body: str, known: str = "") -> str:
    return shown(HEAD + body, known)[0].removeprefix("f.yaml:")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("summary: nothing\n", "1: there are no tasks"),
        ("timeout: later\ntasks: [{name: a, uses: noop}]\n", "3: timeout: 'later' is not a duration"),
        ("tasks: [{name: a, uses: nop}]\n", "3: tasks[0].uses: there is no kind of task 'nop' (did you mean 'noop'?)"),
        ("tasks: [{name: a}]\n", "3: tasks[0]: a script needs either `run:`"),
        ("tasks: [{name: A, run: x}]\n", "3: tasks[0].name: 'A' is not a name"),
        ("tasks: [{name: a, run: x, with: {b: 1}}]\n", "3: tasks[0].with.b: a script has no `with:` fields"),
        ("tasks: [{name: a, run: x, files: {../b: x}}]\n", "3: tasks[0].files"),
        ("tasks: [{name: a, uses: noop, run: x}]\n", "3: tasks[0].run: `run` is for scripts"),
        ("tasks: [{name: a, uses: noop, with: {output: {}}}]\n", "3: tasks[0].with.output: there is no field 'output'"),
        ("tasks: [{name: a, run: x}]\nalways: [{name: a, run: x}]\n", "4: always[0].name: there are two"),
        ("tasks: [{name: a, run: x, retry: {delay: 1}}]\n", "3: tasks[0].retry.delay: expected text"),
        ("tasks: [{name: a, run: x, retry: {attempts: 0}}]\n", "3: tasks[0].retry.attempts: 0 is not from 1"),
        ("tasks: [{name: a, run: x, timeout: 0s}]\n", "3: tasks[0].timeout: it must be longer than nothing"),
        ("inputs: {a-b: {default: 1}, a_b: {default: 1}}\ntasks: [{name: a, run: x}]\n", "3: inputs.a_b: a"),
        ("inputs: {a: {type: intger}}\ntasks: [{name: a, run: x}]\n", "3: inputs.a.type: not JSON Schema"),
        ("inputs: {a: {secret: true}}\ntasks: [{name: a, run: x}]\n", "3: inputs.a.secret: JSON Schema has no keyword"),
        ("inputs: {a: {maxmum: 3}}\ntasks: [{name: a, run: x}]\n", "3: inputs.a.maxmum: JSON Schema has"),
        ("inputs: {a: {anyOf: [{}, {tpye: 0}]}}\ntasks: [{name: a, run: x}]\n", "3: inputs.a.anyOf[1].tpye"),
        ("inputs: {a: {$ref: 'http://x/y'}}\ntasks: [{name: a, run: x}]\n", "3: inputs.a: not JSON Schema"),
        ("inputs: {a: {type: integer, default: x}}\ntasks: [{name: a, run: x}]\n", '3: inputs.a.default: "x" is not'),
        ("tasks: [{name: a, uses: wait}]\n", "3: tasks[0].with: say either `for: 10m`"),
        ("tasks: [{name: a, uses: wait, with: {for: later}}]\n", "3: tasks[0].with.for: 'later' is not a duration"),
        ("tasks: [{name: a, uses: wait, with: {until: '2030-01-01'}}]\n", "3: tasks[0].with.until: '2030-01-01'"),
        ("tasks: [{name: a, uses: http, with: {url: 'ftp://x'}}]\n", "3: tasks[0].with.url: 'ftp://x' does not start"),
        ("tasks: [{name: a, uses: http, with: {url: 'http://x', body: a, json: 1}}]\n", "3: tasks[0].with: say one of"),
        ("tasks: [{name: a, uses: http, with: {url: 'http://x', expect: 2xy}}]\n", "3: tasks[0].with.expect: '2xy'"),
        ("tasks: [{name: a, uses: order, with: {blueprint: zz}}]\n", "3: tasks[0].with.blueprint: there is no"),
        ("tasks: [{name: a, uses: order, with: {blueprint: b, on: x, pool: y}}]\n", "3: tasks[0].with: say one"),
        ("tasks: [{name: a, uses: order, with: {where: 'element.x'}}]\n", "3: tasks[0].with: the field"),
    ],
)  # fmt: skip
def test_a_mistake_is_reported(body: str, message: str) -> None:
    assert first(body).startswith(message)


@pytest.mark.parametrize(
    ("when", "message"),
    [
        ("inputs.disc > 1", "there is no input 'disc' (did you mean 'disk'?)"),
        ("tasks.one.outputs.x > inputs.disk && tasks['three'].state == 'x'", "task 'three' has not run yet"),
        ("tasks.on.outputs.x > 1", "there is no task 'on' (did you mean 'one'?)"),
        ("tasks.one.output.x > 1", "there is no `tasks.one.output` (did you mean 'outputs'?)"),
        ("element.kidn == 'x'", "there is no `element.kidn` (did you mean 'kind'?)"),
        ("disk > 1", "there is no `disk`"),
        ("inputs.disk +", "Syntax error"),
        ("string(inputs.disk)", "it must be true or false, but is text"),
    ],
)
def test_a_condition_reads_only_what_there_is(when: str, message: str) -> None:
    body = f"inputs: {{disk: {{default: 1}}}}\ntasks:\n- {{name: one, run: x}}\n- name: two\n  run: x\n  when: {when}\n"
    (problem,) = wrong(f"{HEAD}{body}- {{name: three, run: x}}\n")
    assert problem.line == 8
    assert str(problem).startswith(f"f.yaml:8: tasks[1].when: {message}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{ inputs.disc }}", "there is no input 'disc' (did you mean 'disk'?)"),
        ("{{ tasks.tow.outputs.x | default(1) }}", "there is no task 'tow'"),
        ("{{ disk }}", "there is no `disk`"),
        ("{{ inputs.disk", "not a template: unexpected end of template"),
        ("{% set x = 1 %}", "not a template: assign is not available here"),
        ("{{ inputs.disk | attr('x') }}", "not a template: No filter named 'attr'."),
    ],
)
def test_a_template_reads_only_what_there_is(text: str, message: str) -> None:
    body = (
        f"inputs: {{disk: {{default: 1}}}}\ntasks:\n- {{name: two, uses: noop, with: {{outputs: {{a: '{text}'}}}}}}\n"
    )
    if "'" in text:
        body = body.replace(f"'{text}'", f'"{text}"')
    assert first(body).startswith(f"5: tasks[0].with.outputs.a: {message}")


def child(name: str, of: str, inputs: str = "{}") -> str:
    task = f"{{name: t, uses: order, with: {{blueprint: {of}, inputs: {inputs}}}}}"
    return f"---\nkind: blueprint\nname: {name}\ntasks: [{task}]\n"


def test_child_orders_that_never_end_are_reported_with_their_way() -> None:
    assert shown(child("a", "a")) == ["f.yaml:4: tasks[0].with.blueprint: child orders would never end: a → a"]
    known = child("b", "c") + child("c", "a")
    assert shown(child("a", "b"), known + child("a", "other") + child("other", "c")) == [
        "f.yaml:4: tasks[0].with.blueprint: child orders would never end: a → b → c → a"
    ]


def test_a_way_into_somebody_elses_cycle_is_not_ones_own() -> None:
    known = child("x", "y") + child("y", "x")
    check_all(load(child("a", "x")), Catalog(known))


def test_a_child_gets_only_inputs_that_it_has() -> None:
    known = f"{HEAD}inputs: {{disk: {{default: 1}}}}\ntasks: [{{name: a, run: x}}]\n"
    assert shown(child("a", "b", "{disc: 1}"), known)[0].endswith("'b' has no input 'disc' (did you mean 'disk'?)")


@pytest.mark.parametrize(
    "text",
    [
        "echo {{ inputs.v }}",
        "echo ${{ inputs['v'] }}",
        "{{event.body.ref}}",
        "{% if tasks.a.outputs.x %}",
        "{{- order.id }}",
    ],
)
def test_a_template_in_a_script_is_refused_with_the_right_way(text: str) -> None:
    (found,) = shown(f"{HEAD}tasks: [{{name: a, run: {json.dumps(text)}}}]\n")
    assert "a script is not a template" in found
    assert '"$INPUT_NAME"' in found
    assert "`env:`" in found


@pytest.mark.parametrize(
    "text",
    [
        "docker inspect -f '{{.State}}' x",
        "docker ps --format '{{json .Names}}'",
        "echo {{a,b},c}",
        "echo ${{x}}",
        "{{ host }}",
    ],
)
def test_what_other_programs_fill_in_is_left_alone(text: str) -> None:
    check_all(load(f"{HEAD}tasks: [{{name: a, run: {json.dumps(text)}}}]\n"), Catalog(""))
