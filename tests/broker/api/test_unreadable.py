"""Objects that this broker cannot read: another version or another package has applied them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest

from muster.broker.main import Broker
from muster.mesh import names, records
from muster.mesh.caller import Caller
from tests.broker.api.conftest import BLUEPRINT, running
from tests.kit.servers import Nats

RACK: Final = {"kind": "rack", "name": "r1", "labels": {"row": "7"}, "slots": 2, "height": 42}
LATER: Final = {"kind": "machine", "name": "web02", "labels": {"role": "web"}, "since_version_9": True}
POOL: Final = {"kind": "pool", "name": "web", "where": 'element.labels.role == "web"'}


def applied_elsewhere(*manifests: dict[str, Any]) -> records.Applied:
    """The record of a broker that reads them all, and that knows which of them are elements."""
    facts = {
        f"{it['kind']}/{it['name']}": records.Facts(is_element=True) for it in manifests if it["kind"] != POOL["kind"]
    }
    return records.Applied(id=names.new_id(), manifests=manifests, facts=facts, by=Caller(name="elsewhere"))


async def unreadable(broker: Broker) -> set[str]:
    """What the broker says that it cannot read."""
    return set((await broker.status()).unreadable)


async def test_a_set_with_objects_that_cannot_be_read_is_stored_as_a_whole_and_for_good(
    fresh_nats: Nats, tmp_path: Path
) -> None:
    async with running(fresh_nats, tmp_path) as mesh:
        await mesh.apply(BLUEPRINT)
        changes = await mesh.broker.log.append(applied_elsewhere(LATER, RACK, POOL))
        assert changes.refused is None
    for folder in (tmp_path, tmp_path / "replayed"):
        async with running(fresh_nats, folder) as mesh:  # it starts: from its tables, and from the log alone
            assert await unreadable(mesh.broker) == {"machine/web02", "rack/r1"}
            machine = (await mesh.http.get("/api/v1/machines/web02")).json()
            assert "since_version_9" in machine["unreadable"]
            listed = (await mesh.http.get("/api/v1/elements")).json()["items"]
            assert {it["name"]: it["slots"] for it in listed} == {"web02": 1, "r1": 2}
            assert (await mesh.http.get("/api/v1/pools/web")).json()["members"] == ["web02"]


@pytest.mark.parametrize("element", ["web02", "r1"])
async def test_an_element_that_cannot_be_read_still_runs_orders(fresh_nats: Nats, tmp_path: Path, element: str) -> None:
    async with running(fresh_nats, tmp_path) as mesh:
        await mesh.apply(BLUEPRINT)
        await mesh.broker.log.append(applied_elsewhere(LATER, RACK))
        assert (await mesh.order(element))["state"] == "offered"


async def test_it_is_readable_again_once_it_is_applied_as_this_version_has_it(fresh_nats: Nats, tmp_path: Path) -> None:
    async with running(fresh_nats, tmp_path) as mesh:
        await mesh.broker.log.append(applied_elsewhere(LATER))
        await mesh.apply({"kind": "machine", "name": "web02"})
        assert not await unreadable(mesh.broker)
