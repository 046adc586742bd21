"""Working folders: an empty one is used again, any other is removed."""

from __future__ import annotations

from pathlib import Path

import pytest

from muster.agent import context


@pytest.fixture(autouse=True)
def no_folder_is_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context, "_idle", {})


def made(tmp_path: Path, name: str) -> Path:
    folder = tmp_path / name
    folder.mkdir(mode=0o700)
    return folder


async def test_an_empty_folder_is_kept_for_the_next_order(tmp_path: Path) -> None:
    folder = made(tmp_path, "a")
    await context.remove(folder, is_shared=True)
    assert context._idle == {tmp_path: [folder]}
    assert folder.is_dir()


async def test_a_folder_with_something_in_it_or_other_rights_is_removed(tmp_path: Path) -> None:
    full, deep, open_to_all = made(tmp_path, "full"), made(tmp_path, "deep"), made(tmp_path, "open")
    (full / "file").write_text("x")
    (deep / "folder").mkdir()
    open_to_all.chmod(0o777)
    for folder in (full, deep, open_to_all):
        await context.remove(folder, is_shared=True)
        assert not folder.exists()
    assert not any(context._idle.values())


async def test_a_folder_that_its_task_removed_or_replaced_does_no_harm(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    await context.remove(gone, is_shared=True)
    elsewhere = made(tmp_path, "elsewhere")
    link = tmp_path / "link"
    link.symlink_to(elsewhere)
    await context.remove(link, is_shared=True)
    assert elsewhere.is_dir()
    assert not any(context._idle.values())
