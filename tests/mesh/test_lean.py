"""What a process that is started often does without."""

from __future__ import annotations

import subprocess
import sys

import pytest

from muster.mesh.lean import without


def test_what_is_left_out_can_be_imported_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "this", raising=False)
    with without("this"), pytest.raises(ImportError):
        import this  # noqa: F401
    assert "this" not in sys.modules


def test_what_is_there_already_stays() -> None:
    with without("sys"):
        import sys as again
    assert again is sys


@pytest.mark.parametrize(
    "code",
    [
        "import muster.cli.api",
        "from muster.cli.logging import set_up; set_up('info', 'broker'); import muster.broker.main",
        "from muster.cli.logging import set_up; set_up('info', 'triggers'); import muster.triggers.main",
    ],
)
def test_no_library_takes_along_what_draws_on_terminals(code: str) -> None:
    reported = f"{code}\nimport sys; print([name for name in ('rich', 'pygments') if name in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", reported], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
