"""Where settings come from: the environment before the context before the default."""

from __future__ import annotations

from pathlib import Path

import pytest

from muster.mesh.errors import RefusedError
from muster.mesh.private import private_folder
from muster.mesh.settings import context, data_home, state_home


def test_the_data_folder_is_the_environments_or_the_contexts_or_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", "/home/of/data")
    for name in ("MUSTER_DATA", "MUSTER_CONTEXT"):
        monkeypatch.delenv(name, raising=False)
    assert data_home() == Path("/home/of/data/muster")
    (tmp_path / "muster").mkdir()
    (tmp_path / "muster" / "config.toml").write_text('current = "lab"\n[contexts.lab]\ndata = "/srv/lab"\n')
    assert data_home() == Path("/srv/lab")
    monkeypatch.setenv("MUSTER_DATA", "/srv/mine")
    assert data_home() == Path("/srv/mine")


def test_an_account_without_a_home_is_asked_to_name_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("MUSTER_DATA", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "MUSTER_CONTEXT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert context() == {}
    assert not state_home().exists()
    with pytest.raises(RefusedError, match="--data or MUSTER_DATA"):
        private_folder(data_home())
