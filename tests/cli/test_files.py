"""Files that people give to commands: inputs, events."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from muster.cli.files import STANDARD_INPUT, text, value
from muster.mesh.errors import InvalidError, UsageError


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("", None),
        ("v: 1", {"v": 1}),
        ('{"v":\t[1, "\\u00fc"]}', {"v": [1, "ü"]}),
        ("v: {1: a, null: b, on: yes}", {"v": {"1": "a", "null": "b", "on": "yes"}}),
        ("v: 2024-01-01", {"v": "2024-01-01"}),
    ],
)
def test_a_file_says_what_a_manifest_would(content: str, found: object, tmp_path: Path) -> None:
    (tmp_path / "inputs").write_text(content)
    assert value(tmp_path / "inputs") == found


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ('{"v": 1e999}', "too large"),
        ("v: 1\nv: 2", "inputs:2: v: is here twice"),
        ('{"v": 1, "v": 2}', "twice"),
        ("v: !!set {a, b}", "set"),
        ("v: &a [*a]", "anchor"),
        ('{"v": "\\ud800"}', "Unicode"),
        ("[" * 3000, "levels deep"),
        ("v: [", "not YAML"),
    ],
)
def test_what_would_be_changed_or_lost_is_refused(content: str, word: str, tmp_path: Path) -> None:
    (tmp_path / "inputs").write_text(content)
    with pytest.raises(InvalidError) as caught:
        value(tmp_path / "inputs")
    assert word in str(caught.value)


def test_what_cannot_be_read_is_bad_usage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "two").write_text("a: 1\n---\na: 2\n")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    for name, word in (("two", "2 documents"), ("bytes", "UTF-8"), ("none", "No such file")):
        with pytest.raises(UsageError, match=word):
            value(tmp_path / name)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff")))
    with pytest.raises(UsageError, match="standard input is not UTF-8"):
        text(STANDARD_INPUT)
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(UsageError, match="closed"):
        text(STANDARD_INPUT)
