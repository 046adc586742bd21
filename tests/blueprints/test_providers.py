"""Providers that are installed beside Muster's own: one that is broken stops nobody else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from structlog.testing import capture_logs

from muster.blueprints.provider import provider_kinds


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package that promises three providers: of no module, of one that fails, and of what is none."""
    info = tmp_path / "broken-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    promised = "away = broken_away:X\nfails = broken_provider:X\nother = json:dumps\n"
    (info / "entry_points.txt").write_text(f"[muster.triggers]\n{promised}")
    (tmp_path / "broken_provider.py").write_text("raise OSError('no licence')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    provider_kinds.cache_clear()
    before = structlog.get_config()
    structlog.reset_defaults()  # a command that ran in this process may have silenced everybody
    yield
    structlog.configure(**before)
    provider_kinds.cache_clear()


@pytest.mark.usefixtures("broken")
def test_a_broken_plug_in_is_reported_and_left_out() -> None:
    with capture_logs() as said:
        kinds = provider_kinds()
    assert "webhook" in kinds
    assert not {"away", "fails", "other"} & set(kinds)
    assert {(each["event"], each["provider"]) for each in said} == {
        ("provider.broken", name) for name in ("away", "fails", "other")
    }
    assert any("no licence" in each["error"] for each in said)
