"""A script: what goes in, what comes out, and every way it can go wrong."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.blueprints.definition import Task
from muster.blueprints.kinds import script
from muster.blueprints.kinds.script_values import MAX_OUTPUTS, parse_outputs, variable
from muster.blueprints.task import Done, Failed, Outcome
from tests.blueprints.context import FakeContext, run_task
from tests.kit.disks import small_disk


async def run(tmp_path: Path, text: str | None = None, **given: Any) -> tuple[Outcome, FakeContext]:
    task = Task(name="t", run=text, **{key: given.pop(key) for key in ("file", "env", "cwd", "files") if key in given})
    return await run_task(task, tmp_path / "work", **given)


async def test_inputs_are_variables_and_a_file(tmp_path: Path) -> None:
    inputs = {"name": "a b; $(id)", "max-size": 3, "list": [1, {"a": None}], "flag": True}
    text = 'printf "%s|" "$INPUT_NAME" "$INPUT_MAX_SIZE" "$INPUT_LIST" "$INPUT_FLAG"; cat "$MUSTER_INPUTS"'
    outcome, context = await run(tmp_path, text, inputs=inputs)
    assert outcome == Done(exit_code=0)
    *values, file = context.output.decode().split("|")
    assert values == ["a b; $(id)", "3", '[1,{"a":null}]', "true"]
    assert msgspec.json.decode(file) == inputs


async def test_a_script_knows_whose_it_is_and_has_no_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSTER_TOKEN", "secret")
    monkeypatch.setenv("INPUT_STALE", "x")
    monkeypatch.setenv("LC_GREETING", "hi")
    text = (
        'echo "$MUSTER_ORDER $MUSTER_JOB $MUSTER_ELEMENT $MUSTER_ATTEMPT" '
        '"$LC_GREETING $MINE ${MUSTER_TOKEN-} ${INPUT_STALE-}"'
    )
    _, context = await run(tmp_path, text, job="j", attempt=2, env={"MINE": "own"})
    assert context.output.split() == [b"order1", b"j", b"web01", b"2", b"hi", b"own"]
    monkeypatch.setenv("LC_GREETING", "changed")
    _, context = await run(tmp_path, "echo $LC_GREETING")
    assert context.output == b"changed\n"


async def test_without_inputs_the_inputs_file_is_an_empty_object(tmp_path: Path) -> None:
    _, context = await run(tmp_path, 'cat "$MUSTER_INPUTS"')
    assert msgspec.json.decode(context.output) == {}
    assert list((tmp_path / "work").iterdir()) == []


@pytest.mark.parametrize("files", [0, 8])
async def test_a_script_waits_for_space_on_the_disk_instead_of_failing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: int
) -> None:
    monkeypatch.setattr(script, "FULL_PAUSE", 0.01)
    with small_disk(tmp_path / "disk", 1024 * 1024, files) as small:
        fillers = [small.path / f"filler{number}" for number in range(files - 1)]
        for filler in fillers:
            filler.touch()
        if not fillers:
            small.fill()
        running = asyncio.create_task(run(small.path, 'cat "$MUSTER_INPUTS"', inputs={"name": "x" * 20_000}))
        await asyncio.wait({running}, timeout=0.3)
        assert not running.done()
        for filler in fillers or [small.path / "filler"]:
            filler.unlink()
        outcome, context = await running
        assert outcome == Done(exit_code=0)
        assert len(context.output) > 20_000


@pytest.mark.parametrize("text", ["false; echo on", "false | cat; echo on", "echo $UNSET_THING; echo on"])
async def test_bash_stops_at_the_first_fault(tmp_path: Path, text: str) -> None:
    outcome, context = await run(tmp_path, text)
    assert isinstance(outcome, Failed)
    assert not outcome.final
    assert b"on\n" not in context.output


async def test_outputs_are_lines_of_values_or_objects(tmp_path: Path) -> None:
    text = """
    echo 'used=42' >> "$MUSTER_OUTPUTS"
    echo 'name=web 01=x' >> "$MUSTER_OUTPUTS"
    echo 'list=[1, "a"]' >> "$MUSTER_OUTPUTS"
    echo '{"deep": {"a": 1}, "load": 0.10}' >> "$MUSTER_OUTPUTS"
    printf 'text<<END\\na=1\\n\\n{"b": 2}\\nEND\\n' >> "$MUSTER_OUTPUTS"
    echo 'version=1.10' >> "$MUSTER_OUTPUTS"
    printf 'number=007' >> "$MUSTER_OUTPUTS"
    """
    outcome, _ = await run(tmp_path, text)
    assert isinstance(outcome, Done)
    assert outcome.outputs == {
        "used": 42, "name": "web 01=x", "list": [1, "a"], "deep": {"a": 1}, "load": 0.1, "text": 'a=1\n\n{"b": 2}',
        "version": "1.10", "number": "007",
    }  # fmt: skip


async def test_a_failed_script_keeps_what_it_said(tmp_path: Path) -> None:
    outcome, _ = await run(tmp_path, 'echo a=1 >> "$MUSTER_OUTPUTS"; exit 7')
    assert outcome == Failed(error="exit code 7", outputs={"a": 1}, exit_code=7)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('echo "a=1" >> "$MUSTER_OUTPUTS"; echo oops >> "$MUSTER_OUTPUTS"', "line 2 is neither key=value"),
        ('echo \'{"a": \' >> "$MUSTER_OUTPUTS"', "line 1 is not a JSON object"),
        ('printf "a=1\\na=2\\n" >> "$MUSTER_OUTPUTS"', "line 2: the output 'a' was set before"),
        ('printf "a<<END\\nb=1\\n" >> "$MUSTER_OUTPUTS"', "line 1: no line 'END' ends the text"),
        ("printf 'a=\\377' >> \"$MUSTER_OUTPUTS\"", "line 1 is not UTF-8"),
        ('head -c 1100000 /dev/zero >> "$MUSTER_OUTPUTS"', "larger than 1024 KB"),
        ('mkfifo "$MUSTER_OUTPUTS"', "no longer a file"),
        ('ln -s /etc/passwd "$MUSTER_OUTPUTS"', "cannot read $MUSTER_OUTPUTS"),
        ('mkdir "$MUSTER_OUTPUTS"', "no longer a file"),
    ],
)
async def test_bad_outputs_fail_a_script_that_ended_well(tmp_path: Path, text: str, error: str) -> None:
    outcome, _ = await run(tmp_path, text)
    assert isinstance(outcome, Failed)
    assert error in outcome.error


async def test_a_signal_and_a_missing_command_are_reported_in_words(tmp_path: Path) -> None:
    outcome, _ = await run(tmp_path, "kill -KILL $$")
    assert isinstance(outcome, Failed)
    assert (outcome.error, outcome.exit_code) == ("ended by SIGKILL (9)", -9)
    outcome, _ = await run(tmp_path, "no-such-command-here")
    assert isinstance(outcome, Failed)
    assert outcome.error == "exit code 127 (a command was not found)"


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("#!/usr/bin/env python3", b"python"),
        ("#!/usr/bin/env -S python3 -u", b"python"),
        ("#! /usr/bin/python3 -u", b"python"),
    ],
)
async def test_any_interpreter_by_its_line(tmp_path: Path, line: str, shown: bytes) -> None:
    if line.startswith("#! ") and not Path("/usr/bin/python3").exists():
        pytest.skip("no /usr/bin/python3 here")
    outcome, context = await run(tmp_path, f"{line}\nimport sys\nprint('python', sys.argv[1:])\n")
    assert outcome == Done(exit_code=0)
    assert context.output.split()[0] == shown


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("#!/no/such/interpreter -x", "the interpreter /no/such/interpreter does not exist"),
        ("#!/usr/bin/env no-such-interpreter", "the program 'no-such-interpreter' is not installed here"),
        ("#!", "names no interpreter"),
        ("#!/etc/passwd", "is not executable"),
    ],
)
async def test_a_missing_interpreter_is_reported_and_not_tried_again(tmp_path: Path, line: str, error: str) -> None:
    outcome, _ = await run(tmp_path, f"{line}\necho hi\n")
    assert isinstance(outcome, Failed)
    assert outcome.final
    assert error in outcome.error


async def test_a_long_script_is_a_file(tmp_path: Path) -> None:
    outcome, context = await run(tmp_path, "#" * 150_000 + "\necho end\n")
    assert outcome == Done(exit_code=0)
    assert context.output == b"end\n"


@pytest.mark.parametrize(
    "text",
    [
        "case x in\n  x) echo one ;;\nesac\n",
        "cat <<END\none\nEND\nexit 0\n",
        "echo \\\n  one",
        "#!/bin/bash\necho one\nexit 0\n",
        "#!/usr/bin/env python3\nprint('one',\\\n end='')\n",
        "#!/usr/bin/env -S python3 -u\nprint('one')",
        "#" * 150_000 + "\necho one\nexit 0\n",
    ],
)
async def test_lines_of_a_script_may_end_as_on_windows(tmp_path: Path, text: str) -> None:
    outcome, context = await run(tmp_path, text.replace("\n", "\r\n"))
    assert outcome == Done(exit_code=0)
    assert context.output.removesuffix(b"\n") == b"one"


async def test_other_carriage_returns_of_a_script_and_all_of_its_files_stay(tmp_path: Path) -> None:
    text = "printf '%s' 'a\rb' | od -An -c\r\nod -An -c data\r\n"
    outcome, context = await run(tmp_path, text, files={"data": "c\r\n"})
    assert outcome == Done(exit_code=0)
    assert context.output.split() == [b"a", rb"\r", b"b", b"c", rb"\r", rb"\n"]


async def test_a_script_file_runs_by_its_path(tmp_path: Path) -> None:
    place = tmp_path / "deploy.sh"
    outcome, _ = await run(tmp_path, file=str(place))
    assert isinstance(outcome, Failed)
    assert outcome.final
    assert "does not exist" in outcome.error
    place.write_text("#!/bin/sh\necho deployed\n")
    outcome, _ = await run(tmp_path, file=str(place))
    assert isinstance(outcome, Failed)
    assert "is not executable" in outcome.error
    place.chmod(0o755)
    outcome, context = await run(tmp_path, file=str(place))
    assert outcome == Done(exit_code=0)
    assert context.output == b"deployed\n"


async def test_a_program_without_an_interpreter_line_is_reported(tmp_path: Path) -> None:
    place = tmp_path / "x"
    place.write_text("echo hi\n")
    place.chmod(0o755)
    outcome, _ = await run(tmp_path, file=str(place))
    assert isinstance(outcome, Failed)
    assert outcome.final
    assert "it is not a program" in outcome.error


async def test_files_are_made_before_the_script_runs(tmp_path: Path) -> None:
    files = {"conf/app.ini": "a=1\n", "run.sh": "#!/bin/sh\ncat conf/app.ini\n"}
    outcome, context = await run(tmp_path, "./run.sh", files=files)
    assert outcome == Done(exit_code=0)
    assert context.output == b"a=1\n"


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "a//b", "", ".", "a/./b", ".outputs-x"])
async def test_a_file_never_leaves_the_folder(tmp_path: Path, name: str) -> None:
    outcome, _ = await run(tmp_path, "echo hi", files={name: "x"})
    assert isinstance(outcome, Failed)
    assert outcome.final


async def test_a_link_does_not_lead_a_file_out_of_the_folder(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (work / "out").symlink_to(tmp_path)
    (tmp_path / "target").write_text("old")
    (work / "link").symlink_to(tmp_path / "target")
    outcome, _ = await run(tmp_path, "echo hi", files={"out/x": "x"})
    assert isinstance(outcome, Failed)
    assert not (tmp_path / "x").exists()
    outcome, _ = await run(tmp_path, "cat link", files={"link": "new"})
    assert isinstance(outcome, Done)
    assert (tmp_path / "target").read_text() == "old"


async def test_the_working_folder_can_be_chosen_and_must_be_there(tmp_path: Path) -> None:
    outcome, context = await run(tmp_path, "pwd", cwd=str(tmp_path))
    assert outcome == Done(exit_code=0)
    assert context.output.decode().strip() == os.path.realpath(tmp_path)
    outcome, _ = await run(tmp_path, "pwd", cwd=str(tmp_path / "nope"))
    assert isinstance(outcome, Failed)
    assert outcome.final


async def test_a_huge_input_is_only_in_the_file(tmp_path: Path) -> None:
    inputs = {"big": "x" * 3_000_000, **{f"i{n}": "y" * 30_000 for n in range(200)}, "small": 1}
    text = 'echo "${INPUT_BIG-none} $INPUT_SMALL"; wc -c < "$MUSTER_INPUTS"'
    outcome, context = await run(tmp_path, text, inputs=inputs)
    assert outcome == Done(exit_code=0)
    assert context.output.split()[:2] == [b"none", b"1"]


async def test_an_input_that_no_variable_can_hold_is_reported(tmp_path: Path) -> None:
    outcome, _ = await run(tmp_path, "true", inputs={"a": "x\0y"})
    assert isinstance(outcome, Failed)
    assert outcome.final
    assert "NUL" in outcome.error


@given(st.text(min_size=1))
def test_a_variable_is_always_a_name(name: str) -> None:
    assert variable(name).replace("_", "").isalnum()
    assert variable(name).isascii()


JSON = st.none() | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | st.text() | st.lists(st.integers(0, 9))


@given(st.dictionaries(st.from_regex(r"[a-z_][a-z0-9_.-]{0,8}", fullmatch=True), JSON))
def test_outputs_written_as_json_come_back_the_same(values: dict[str, Any]) -> None:
    lines = [key.encode() + b"=" + msgspec.json.encode(value) for key, value in values.items()]
    assert parse_outputs(b"\n".join(lines)) == values
    assert parse_outputs(msgspec.json.encode(values)) == values


@given(st.binary(max_size=200))
def test_any_outputs_are_read_or_refused(data: bytes) -> None:
    try:
        msgspec.json.encode(parse_outputs(data))
    except ValueError as error:
        assert "line" in str(error)  # noqa: PT017 - both ends are fine
    assert len(data) < MAX_OUTPUTS
