"""Working folders: each order has a new one, and it is removed."""

from __future__ import annotations

import asyncio
from pathlib import Path

from muster.agent import context
from tests.agent.broker_stand_in import StandIn


def made(tmp_path: Path, name: str) -> Path:
    folder = tmp_path / name
    folder.mkdir(mode=0o700)
    return folder


async def test_each_order_has_a_folder_of_its_own_that_is_gone_afterwards(
    broker: StandIn, agent: asyncio.Event, tmp_path: Path
) -> None:
    for _ in range(3):
        await broker.done(await broker.order([{"name": "a", "run": f"pwd >> {tmp_path}/folders"}]))
    folders = (tmp_path / "folders").read_text().split()
    assert len(set(folders)) == 3
    await broker.settled()
    assert not any(Path(folder).exists() for folder in folders)


async def test_whatever_is_in_it_a_folder_is_removed(tmp_path: Path) -> None:
    empty, full, deep, open_to_all = (made(tmp_path, name) for name in ("empty", "full", "deep", "open"))
    for number in range(context.MOST_REMOVED_AT_ONCE + 1):
        (full / f"file{number}").write_text("x")
    (deep / "folder").mkdir()
    open_to_all.chmod(0o777)
    for folder in (empty, full, deep, open_to_all):
        await context.remove(folder)
        assert not folder.exists()


async def test_a_folder_that_its_task_removed_or_replaced_does_no_harm(tmp_path: Path) -> None:
    await context.remove(tmp_path / "gone")
    elsewhere = made(tmp_path, "elsewhere")
    (elsewhere / "file").write_text("x")
    link = tmp_path / "link"
    link.symlink_to(elsewhere)
    await context.remove(link)
    assert (elsewhere / "file").exists()
