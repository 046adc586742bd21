"""What works without a mesh: usage, help, exit codes, and how things are printed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from muster.blueprints.objects import object_kinds
from muster.cli import output
from muster.cli.examples import EXAMPLES
from muster.cli.main import NAMES, run
from muster.cli.options import key_value, seconds, token_for
from muster.cli.output import Column, table
from muster.cli.roles import default_element, folder
from muster.mesh.errors import RefusedError, UsageError
from muster.mesh.names import is_name
from muster.mesh.tokens import Token
from tests.kit.ports import free_port
from tests.kit.processes import ROOT, clean_env


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    output.console.cache_clear()
    yield
    output.console.cache_clear()


@pytest.mark.parametrize("command", sorted(NAMES))
def test_every_command_explains_itself_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--help"]) == 0
    reported = capsys.readouterr().out
    assert "Usage: muster " in reported
    assert f"  muster {command}" in reported


def test_the_help_lists_every_command_with_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for command in NAMES:
        assert any(line.startswith(f"│ {command} ") and len(line.strip("│ ").split()) > 2 for line in lines), command


def test_examples_belong_to_commands() -> None:
    assert set(EXAMPLES) == {"", *NAMES}


@pytest.mark.parametrize(
    ("argv", "word"),
    [
        (["rum"], "Did you mean"),
        (["run"], "BLUEPRINT"),
        (["run", "x", "--onn", "y"], "--on"),
        (["get", "machines", "-o", "xml"], "json"),
        (["orders", "--limit", "many"], "many"),
        (["run", "x", "--on", "y", "-i", "novalue"], "KEY=VALUE"),
        (["run", "x", "--on", "y", "--timeout", "soon"], "duration"),
        (["run", "x", "--on", "y", "--timeout", "99999999999999d"], "longer than"),
        (["broker", "--lease", "0s"], "--lease"),
        (["broker", "--replicas", "0"], "--replicas"),
        (["broker", "--replicas", "6"], "--replicas"),
        (["orders", "--api", "nonsense"], "http://HOST:PORT"),
        (["get", "machines", "--api", "ftp://host"], "http://HOST:PORT"),
        (["orders", "--api", "http://127.0.0.1:abc"], "http://HOST:PORT"),
        (["orders", "--api", "http://[::1"], "http://HOST:PORT"),
    ],
)
def test_bad_usage_exits_2_and_says_what_was_wrong(
    argv: list[str], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(argv) == 2
    reported = capsys.readouterr()
    assert word in reported.err
    assert reported.out == ""


def test_settings_that_make_no_sense_are_bad_usage(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MUSTER_TOKEN", "b\u00e4d")
    assert run(["orders"]) == 2
    assert "MUSTER_TOKEN" in capsys.readouterr().err
    monkeypatch.delenv("MUSTER_TOKEN")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "muster").mkdir()
    for content in ('current = "a"\ncontexts = "x"', 'current = ["a"]\n[contexts.a]', 'current = "b"\n[contexts.a]'):
        (tmp_path / "muster" / "config.toml").write_text(content)
        assert run(["orders"]) == 2
        assert "config.toml has no table [contexts." in capsys.readouterr().err


def test_a_context_s_token_is_sent_to_its_own_api_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MUSTER_TOKEN", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "muster").mkdir()
    lab = 'current = "lab"\n[contexts.lab]\napi = "http://lab:8642/"\ntoken = "of-the-lab"\n'
    (tmp_path / "muster" / "config.toml").write_text(lab)
    assert token_for("http://lab:8642") == Token("of-the-lab", "the context's token")
    assert token_for("http://other:8642") is None
    monkeypatch.setenv("MUSTER_TOKEN", "given")
    assert token_for("http://other:8642") == Token("given", "MUSTER_TOKEN")


def test_folders_that_cannot_be_written_are_reported_in_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for part in ("", "broker"):
        with pytest.raises(RefusedError, match="choose another folder with --data"):
            folder(Path("/dev/null/x"), part)
    monkeypatch.setenv("HOME", "/dev/null")
    assert run(["completion", "bash", "--install"]) == 3
    assert "muster completion bash" in capsys.readouterr().err


def test_no_mesh_exits_4_and_says_how_to_start_one(capsys: pytest.CaptureFixture[str]) -> None:
    for command in (
        ["orders"],
        ["run", "x", "--on", "y"],
        ["events"],
        ["apply", "-f", str(ROOT / "tests/blueprints/obey.yaml")],
    ):
        assert run([*command, "--api", f"http://127.0.0.1:{free_port()}"]) == 4
        assert "muster up" in capsys.readouterr().err


def test_a_bug_is_reported_in_a_line_with_the_details_in_a_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("muster.cli.options.Common.connect", broken)
    assert run(["orders"]) == 70
    reported = capsys.readouterr().err
    assert "oops" in reported
    assert "Traceback" not in reported
    file = Path(reported.split("report it with ")[1].split()[0])
    assert "Traceback" in file.read_text()
    file.unlink()
    monkeypatch.setenv("MUSTER_DEBUG", "1")
    assert run(["orders"]) == 70
    assert "Traceback" in capsys.readouterr().err


def test_options_for_all_commands_may_stand_before_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--api", f"http://127.0.0.1:{free_port()}", "-o", "json", "orders"]) == 4
    assert run(["--output=xml", "orders"]) == 2


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a=1", "1"),
        ("a=", ""),
        ('a={"b": [1]}', '{"b": [1]}'),
        ("a=b=c", "b=c"),
        ('a="1"', '"1"'),
    ],
)
def test_an_input_is_sent_as_it_was_typed(text: str, value: str) -> None:
    assert key_value(text) == ("a", value)


def test_durations_are_words_or_seconds() -> None:
    assert [seconds(text) for text in ("30s", "1m30s", "250ms", "2", "0.5")] == [30, 90, 0.25, 2, 0.5]
    with pytest.raises(UsageError):
        seconds("fast")


COLUMNS = (
    Column(title="NAME", value=lambda row: row["name"]),
    Column(title="SUMMARY", value=lambda row: row["summary"], optional=1, flexible=True),
    Column(title="EXTRA", value=lambda row: row["extra"], optional=2),
)
ROW = {"name": "a-name", "summary": "words " * 20, "extra": "x" * 30}


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_a_table_fits_the_terminal_and_keeps_names_whole(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    table([ROW], COLUMNS)
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= width for line in lines)
    assert "a-name" in lines[1]
    assert ("EXTRA" in lines[0]) == (width >= 80)


def test_a_pipe_gets_whole_lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("COLUMNS")
    table([ROW], COLUMNS)
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_what_others_wrote_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    table([{**ROW, "name": "\033[31m[red]evil", "summary": "\a"}], COLUMNS)
    reported = capsys.readouterr().out
    assert "\033" not in reported
    assert "\a" not in reported
    assert "[red]evil" in reported


def test_documents_keep_what_tables_shorten(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"text": "ü\n" * 3, "deep": {"list": [1, None]}}
    output.document(value, "json")
    assert json.loads(capsys.readouterr().out) == value


def test_the_default_element_is_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    for host in ("Web01.example.com", "---", "ÜBER", "a" * 80, "x_y.z"):
        monkeypatch.setattr("socket.gethostname", lambda host=host: host)
        assert is_name(default_element())


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_the_commands(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "undrain" in script
    assert "follow" in script
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=script.encode(), check=True)
        for option in ("--inputs", "--event", "--file", "-f"):
            assert "compgen -f" in script.split(f" {option})\n")[1].splitlines()[0], option


def test_completion_offers_the_installed_kinds_if_no_mesh_answers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MUSTER_API", "http://127.0.0.1:1")
    assert run(["__complete", "get", ""]) == 0
    assert {*object_kinds(), "order"} <= {line.partition("\t")[0] for line in capsys.readouterr().out.splitlines()}


def test_completion_asks_which_shell_if_it_cannot_know(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SHELL", "/bin/tcsh")
    assert run(["completion"]) == 2
    assert "bash" in capsys.readouterr().err


def test_arguments_that_are_no_text_are_bad_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["run", "echo", "--on", "box", "-i", "v=\udcff"]) == 2
    assert r"'v=\udcff' is not UTF-8" in capsys.readouterr().err


def test_help_imports_no_more_than_it_draws_with(tmp_path: Path) -> None:
    """A person notices half a second; the libraries of servers and clients take longer than that to import."""
    code = (
        "import sys; before = set(sys.modules); from muster.cli.main import run; run(['--help']); "
        "found = {name.partition('.')[0] for name in set(sys.modules) - before} - sys.stdlib_module_names; "
        "print(*(name for name in found if not name.startswith('_')), file=sys.stderr)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], env=clean_env(tmp_path), cwd=ROOT, capture_output=True, check=True, text=True
    )
    drawing = {"attr", "attrs", "cyclopts", "docstring_parser", "msgspec", "muster", "rich", "typing_extensions"}
    assert set(ran.stderr.split()) <= drawing
