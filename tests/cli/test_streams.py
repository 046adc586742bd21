"""What becomes of output that nobody takes."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from muster.cli import output
from tests.kit.ports import free_port
from tests.kit.processes import ROOT, clean_env


def in_bash(command: str, home: Path) -> subprocess.CompletedProcess[bytes]:
    muster = f'muster() {{ {sys.executable} -m muster.cli "$@"; }}; set -o pipefail; '
    return subprocess.run(
        ["bash", "-c", muster + command], env=clean_env(home), cwd=ROOT, capture_output=True, check=False
    )


def test_a_reader_that_leaves_early_is_no_error(tmp_path: Path) -> None:
    ran = in_bash("muster completion bash | head -n 1 && muster run --help | true && muster | true", tmp_path)
    assert (ran.returncode, ran.stderr) == (0, b"")


def test_a_line_that_nobody_reads_is_reported_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    output.console.cache_clear()
    with os.fdopen(writer, "wb", 0) as raw, io.TextIOWrapper(raw, write_through=True) as gone:
        monkeypatch.setattr("sys.stdout", gone)
        with pytest.raises(BrokenPipeError):  # not rich's SystemExit(1)
            output.say("words")
    output.console.cache_clear()


def test_closed_streams_change_nothing_but_what_is_seen(tmp_path: Path) -> None:
    nowhere = f"--api http://127.0.0.1:{free_port()}"
    ran = in_bash(f"muster --version >&- && muster orders {nowhere} 2>&-", tmp_path)
    assert (ran.returncode, ran.stdout, ran.stderr) == (4, b"", b"")


def test_a_full_disk_behind_standard_output_is_reported_in_words(tmp_path: Path) -> None:
    ran = in_bash("muster completion bash >/dev/full", tmp_path)
    assert (ran.returncode, ran.stderr) == (1, b"muster: cannot write the output: No space left on device\n")
