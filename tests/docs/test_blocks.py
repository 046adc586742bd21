"""Every fenced block of README, CONTRIBUTING and docs does what it says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from muster.blueprints import library
from muster.blueprints.manifest import load
from tests.docs.expected import missing
from tests.docs.markdown import anchors, blocks, links, pages
from tests.docs.reader import Reader, Shelf
from tests.kit.meshes import Mesh, parse_ready, up_options
from tests.kit.processes import ROOT, clean_env, running

PAGES = [pytest.param(page, id=str(page.relative_to(ROOT))) for page in pages()]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def docs_mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mesh]:
    """What `muster up --element web01` starts: one mesh for all pages."""
    home = tmp_path_factory.mktemp("docs")
    async with running(*up_options(home / ".local" / "share" / "muster", "web01"), env=clean_env(home)) as program:
        yield parse_ready(await program.line("ready api=", 30), home, program.pid)
        await program.stop()


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("page", PAGES)
async def test_every_block_does_what_it_says(page: Path, docs_mesh: Mesh, tmp_path: Path) -> None:
    shelf = Shelf([one for path in library.paths() for one in load(path.read_text(), str(path))])
    shelf.add(load("{kind: machine, name: web01}"))  # the mesh's
    async with Reader(docs_mesh, tmp_path, shelf) as reader:
        for block in blocks(page):
            await reader.do(block)
        await reader.daemons_said_it()


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in links(page):
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{link} of {page}"
        assert not anchor or anchor in anchors(target), f"{link} of {page}: {sorted(anchors(target))}"


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("order 3pcqdlpoknbopmq5 finished on web01 in 0.08s", "order aaaabbbbccccdddd finished on web01 in 12s"),
        ("NAME  STATE\nweb01  online", "NAME   KIND     STATE\nx\nNAME  STATE\nweb01   online"),
        ("ready api=… data=…", "ready api=http://x data=y"),
    ],
)
def test_what_may_differ_differs(shown: str, printed: str) -> None:
    assert missing(shown, printed) is None


@pytest.mark.parametrize(
    ("shown", "printed"),
    [("finished", "failed"), ("b\na", "a\nb"), ("used 70", "used 71"), ("everything", "everywhere")],
)
def test_what_may_not_differ_is_reported(shown: str, printed: str) -> None:
    assert missing(shown, printed) is not None
