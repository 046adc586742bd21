"""Tables on narrow terminals."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from muster.cli import kinds, orders, output
from muster.cli.output import table

LONG = "a-name-of-sixty-three-characters-which-is-as-long-as-any-may-be"
ORDER = {
    "id": "3f6a" * 4,
    "blueprint": LONG,
    "element": LONG,
    "state": "cancelling",
    "reason": "words " * 9,
    "created_at": "2020-01-01T00:00:00Z",
}
MACHINE = {"name": LONG, "kind": "machine", "mode": "work_order", "online": True, "labels": {"role": "w" * 40}}


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    output.console.cache_clear()
    yield
    output.console.cache_clear()


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_long_names_are_cut_before_what_matters_is_lost(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    for row, columns in ((ORDER, orders.COLUMNS), (MACHINE, kinds.columns("elements"))):
        table([row], columns)
        title, line = capsys.readouterr().out.splitlines()[:2]
        assert max(len(title), len(line)) <= width
        told = [column.title for column in columns if not column.optional]
        assert all(word[:4] in title for word in told), title
        if width >= 60:
            whole = ("cancelling",) if row is ORDER else ("online", "work_order", "machine")
            assert all(word in line for word in whole), line
