"""What a task may say: retry, timeout, env, cwd, files, when, outputs, on_failure, always."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from tests.kit.blueprints import blueprint, script, words
from tests.kit.processes import is_alive
from tests.kit.roles import Roles

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def ran(mesh: Roles, *tasks: dict[str, Any], inputs: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """An order of a blueprint with these tasks, at its end."""
    given = inputs or {}
    schema: dict[str, Any] = {name: {} for name in given}
    await mesh.apply(blueprint("tasks", *tasks, inputs=schema, **more))
    return await mesh.run("tasks", inputs=given)


def jobs(order: dict[str, Any]) -> dict[str, str]:
    """Each job's state."""
    return {job["name"]: job["state"] for job in order["jobs"]}


async def test_a_failed_task_is_tried_again_later_and_later(mesh: Roles, tmp_path: Path) -> None:
    times = tmp_path / "times"
    text = f'date +%s.%N >> {times}; [ "$MUSTER_ATTEMPT" -ge 4 ]'
    order = await ran(mesh, script("flaky", text, retry={"attempts": 4, "delay": "100ms", "backoff": 2}))
    assert (order["state"], order["jobs"][0]["attempt"]) == ("finished", 4)
    at = [float(line) for line in words(times)]
    pauses = [later - earlier for earlier, later in itertools.pairwise(at)]
    assert [pause > least for pause, least in zip(pauses, (0.1, 0.2, 0.4), strict=True)] == [True] * 3
    assert sum(pauses) < 3


async def test_the_last_failed_try_fails_the_order(mesh: Roles) -> None:
    order = await ran(mesh, script("bad", "exit 7", retry={"attempts": 2, "delay": "0s"}), script("never", "true"))
    assert order["state"] == "failed"
    assert order["reason"] == "task 'bad' failed: exit code 7"
    assert (order["jobs"][0]["attempt"], order["jobs"][0]["exit_code"]) == (2, 7)
    assert "never" not in jobs(order)


async def test_a_task_out_of_time_is_ended_with_all_its_children(mesh: Roles, tmp_path: Path) -> None:
    order = await ran(mesh, script("long", f"sleep 300 & echo $! > {tmp_path}/pid; wait", timeout="300ms"))
    assert order["reason"] == "task 'long' failed: timed out after 300ms"
    assert not is_alive(int(words(tmp_path / "pid")[0]))


async def test_env_cwd_and_inputs_reach_a_script(mesh: Roles, tmp_path: Path) -> None:
    text = 'printf "%s|" "$COLOUR" "$PWD" "$INPUT_TEXT" "$INPUT_LIST" "$MUSTER_ELEMENT"; jq=$MUSTER_INPUTS; cat "$jq"'
    inputs = {"text": "$(touch /tmp/x) 'ü\n", "list": [1, {"a": None}]}
    order = await ran(mesh, script("tell", text, env={"COLOUR": "blue"}, cwd=str(tmp_path)), inputs=inputs)
    parts = (await mesh.output(order["id"])).decode().split("|")
    assert parts[:5] == ["blue", str(tmp_path), inputs["text"], '[1,{"a":null}]', "e1"]
    assert '"text"' in parts[5]


async def test_an_environment_is_made_of_templates_and_its_values_stay_data(mesh: Roles, tmp_path: Path) -> None:
    env = {"V": "{{ inputs.v }}", "LIST": "{{ inputs.list }}", "MIXED": "flag={{ inputs.flag }} {{ inputs.list }}"}
    inputs = {"v": f"$(touch {tmp_path}/x); `id`", "list": [1.5, True], "flag": True}
    order = await ran(mesh, script("tell", 'printf "%s|" "$V" "$LIST" "$MIXED"', env=env), inputs=inputs)
    assert (await mesh.output(order["id"])).decode() == f"{inputs['v']}|[1.5,true]|flag=true [1.5,true]|"
    assert not (tmp_path / "x").exists()


async def test_text_that_looks_like_a_number_stays_text(mesh: Roles) -> None:
    child = blueprint("takes-text", script("show", 'echo "got $INPUT_V"'), inputs={"v": {"type": "string"}})
    await mesh.apply(child)
    order = await ran(
        mesh,
        script("first", 'printf "version=1.10\\ncount=7\\nmajor=3.0\\n" >> "$MUSTER_OUTPUTS"'),
        {"name": "file", "run": "cat v; rm v", "files": {"v": "{{ tasks.first.outputs.version }} "}},
        *(
            {"name": f"child-{name}", "uses": "order", "with": {
                "blueprint": "takes-text", "inputs": {"v": f"{{{{ tasks.first.outputs.{name} }}}}"}}}
            for name in ("version", "count", "major")
        ),
    )  # fmt: skip
    assert order["state"] == "finished", order
    assert order["outputs"]["version"] == "1.10"


async def test_files_are_templates_of_inputs_and_earlier_outputs(mesh: Roles) -> None:
    order = await ran(
        mesh,
        script("first", 'echo "port=8080" >> "$MUSTER_OUTPUTS"; echo \'{"hosts": ["a", "b"]}\' >> "$MUSTER_OUTPUTS"'),
        script(
            "second",
            "cat etc/app.conf",
            files={"etc/app.conf": "{% for h in tasks.first.outputs.hosts %}{{ h }}:{{ tasks.first.outputs.port }};"
                   "{% endfor %}{{ inputs.name }}"},
        ),
        inputs={"name": "web"},
    )  # fmt: skip
    assert await mesh.output(order["id"], job="second") == b"a:8080;b:8080;web"
    assert order["outputs"] == {"port": 8080, "hosts": ["a", "b"]}


async def test_a_task_is_skipped_where_its_condition_does_not_hold(mesh: Roles) -> None:
    order = await ran(
        mesh,
        script("count", 'echo "n=3" >> "$MUSTER_OUTPUTS"'),
        script("many", "true", when="tasks.count.outputs.n > 2"),
        script("few", "true", when="tasks.count.outputs.n <= 2"),
    )
    assert jobs(order) == {"count": "finished", "many": "finished", "few": "skipped"}


async def test_a_condition_on_what_is_not_there_fails_with_words(mesh: Roles) -> None:
    order = await ran(mesh, script("none", "true"), script("then", "true", when="tasks.none.outputs.n > 2"))
    assert order["state"] == "failed"
    assert "when:" in order["reason"]


async def test_on_failure_runs_only_after_one_and_always_runs_always(mesh: Roles) -> None:
    ends: dict[str, Any] = {"on_failure": [script("mend", "true")], "always": [script("tidy", "true")]}
    well = await ran(mesh, script("work", "true"), **ends)
    assert jobs(well) == {"work": "finished", "tidy": "finished"}
    badly = await ran(mesh, script("work", "false"), script("next", "true"), **ends)
    assert jobs(badly) == {"work": "failed", "mend": "finished", "tidy": "finished"}
    assert badly["reason"] == "task 'work' failed: exit code 1"


async def test_a_retried_order_goes_on_at_its_first_unfinished_task(mesh: Roles, tmp_path: Path) -> None:
    file, fixed = tmp_path / "ran", tmp_path / "fixed"
    order = await ran(
        mesh,
        script("first", f"echo first >> {file}; echo x=1 >> $MUSTER_OUTPUTS"),
        script("second", f"echo second >> {file}; [ -e {fixed} ]"),
        script("third", f"echo third >> {file}"),
        always=[script("tidy", f"echo tidy >> {file}")],
    )
    assert order["state"] == "failed"
    fixed.touch()
    assert (await mesh.cli("retry", order["id"][:8])).code == 0
    order = await mesh.final(order["id"])
    assert order["state"] == "finished"
    assert words(file) == ["first", "second", "tidy", "second", "third", "tidy"]
    assert order["outputs"] == {"x": 1}


async def test_a_finished_order_cannot_be_retried(mesh: Roles) -> None:
    order = await ran(mesh, script("work", "true"))
    refused = await mesh.cli("retry", order["id"])
    assert refused.code == 3
    assert "finished well" in refused.stderr


async def test_what_a_task_needs_and_is_not_there_is_said(mesh: Roles, tmp_path: Path) -> None:
    for task, said in (
        ({"name": "a", "file": f"{tmp_path}/none.sh"}, "none.sh"),
        ({"name": "a", "run": "#!/no/such/interpreter\nhello"}, "/no/such/interpreter"),
        ({"name": "a", "run": "true", "cwd": f"{tmp_path}/none"}, "is not a folder on e1"),
        ({"name": "a", "run": "no-such-command"}, "exit code 127 (a command was not found)"),
    ):
        order = await ran(mesh, task)
        assert order["state"] == "failed"
        assert said in order["reason"], order["reason"]


async def test_an_input_of_10_mb_is_refused_with_words(mesh: Roles, tmp_path: Path) -> None:
    await ran(mesh, script("first", "true"), inputs={"text": "small"})
    huge = tmp_path / "inputs.json"
    huge.write_text('{"text": "' + "x" * 10 * 1024 * 1024 + '"}')
    reported = await mesh.cli("run", "tasks", "--on", "e1", "--inputs", str(huge))
    assert reported.code == 2, reported
    assert "larger" in reported.stderr or "8 MiB" in reported.stderr, reported.stderr
    assert len(reported.stderr) < 1000
