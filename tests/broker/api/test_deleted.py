"""What is left of deleted pools and elements on the server: nothing, even if the broker that removes it died."""

from __future__ import annotations

from pathlib import Path

from nats.js.errors import NoKeysError

from muster.mesh import names, records
from muster.mesh.caller import Caller
from muster.mesh.connection import connect
from tests.broker.api.conftest import BLUEPRINT, Mesh, running
from tests.kit.servers import Nats
from tests.kit.waiting import eventually

WEB01 = {"kind": "machine", "name": "web01"}
POOL = {"kind": "pool", "name": "web", "where": "true"}


async def consumers(mesh: Mesh) -> set[str]:
    return {info.name for info in await mesh.nats.jetstream().consumers_info(names.WORK_STREAM)}


async def assigned(mesh: Mesh) -> list[str]:
    bucket = await mesh.nats.jetstream().key_value(names.ASSIGNMENT_BUCKET)
    try:
        return await bucket.keys()
    except NoKeysError:
        return []


async def offers(mesh: Mesh) -> int:
    return int((await mesh.nats.jetstream().stream_info(names.WORK_STREAM)).state.messages)


async def test_cancelled_offers_of_a_deleted_element_are_removed(own_mesh: Mesh) -> None:
    async def offered() -> bool:
        return await offers(own_mesh) == 1

    async def gone() -> bool:
        return not await offers(own_mesh)

    order = await own_mesh.order()
    await eventually(offered)
    await own_mesh.http.post(f"/api/v1/orders/{order['id']}/cancel")
    await own_mesh.http.delete("/api/v1/machines/web01")
    await eventually(gone)


async def test_the_next_leader_removes_what_the_last_one_left(fresh_nats: Nats, tmp_path: Path) -> None:
    async with running(fresh_nats, tmp_path) as mesh:
        await mesh.apply(BLUEPRINT, WEB01, POOL)

        async def made() -> bool:
            return len(await consumers(mesh)) == 2 and await assigned(mesh) == ["web01"]

        await eventually(made)
    async with connect(fresh_nats.url, name="test") as client:  # a broker that died before it acted
        for kind, name in (("pool", "web"), ("machine", "web01")):
            deleted = records.Deleted(id=names.new_id(), object_kind=kind, name=name, by=Caller(name="test"))
            await client.jetstream().publish(records.subject(deleted), records.encode(deleted))
    async with running(fresh_nats, tmp_path) as mesh:

        async def gone() -> bool:
            return not await consumers(mesh) and not await assigned(mesh)

        await eventually(gone)
