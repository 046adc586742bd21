"""Objects over HTTP: applied as manifests, read, deleted; and what is done to elements."""

from __future__ import annotations

from typing import Any

import pytest

from muster.blueprints.objects import element_kinds, object_kinds
from tests.broker.api.conftest import Mesh
from tests.broker.api.test_problems import problem

pytestmark = pytest.mark.asyncio(loop_scope="session")

BAD = """\
kind: machine
name: good
---
kind: machine
name: Bad Name
lables: {role: web}
slots: many
"""


async def test_every_installed_kind_has_its_routes(mesh: Mesh) -> None:
    for kind in object_kinds().values():
        answer = await mesh.http.get(f"/api/v1/{kind.plural}")
        assert set(answer.json()) == {"items", "next"}, kind.plural


async def test_the_kinds_that_are_installed_are_listed(mesh: Mesh) -> None:
    found = (await mesh.http.get("/api/v1/kinds?limit=1000")).json()["items"]
    assert {kind["name"]: kind["is_element"] for kind in found} == {
        name: kind.is_element for name, kind in object_kinds().items()
    }
    one = (await mesh.http.get("/api/v1/kinds/machine")).json()
    assert (one["plural"], one["summary"]) == ("machines", "One host.")
    problem(await mesh.http.get("/api/v1/kinds/machin"), 404)


async def test_elements_of_every_kind_are_listed_and_filtered_as_one(mesh: Mesh) -> None:
    await mesh.apply({"kind": "machine", "name": "all1"}, {"kind": "cluster", "name": "all2", "members": ["all1"]})
    where = 'element.name.startsWith("all")'
    first = (await mesh.http.get("/api/v1/elements", params={"where": where, "limit": 1})).json()
    second = (await mesh.http.get("/api/v1/elements", params={"where": where, "cursor": first["next"]})).json()
    assert [item["kind"] for item in (*first["items"], *second["items"])] == ["machine", "cluster"]
    assert (await mesh.http.get("/api/v1/elements/all2")).json()["members"] == ["all1"]
    problem(await mesh.http.get("/api/v1/elements/all3"), 404)
    refused = problem(await mesh.http.get("/api/v1/pools", params={"where": where}), 400)
    assert all(kind in refused["detail"] for kind in element_kinds())


async def test_put_makes_then_changes_an_object(mesh: Mesh) -> None:
    first = await mesh.http.put("/api/v1/machines/put1", json={"labels": {"a": "1"}})
    assert (first.status_code, first.json()["version"]) == (201, 1)
    again = await mesh.http.put("/api/v1/machines/put1", json={"labels": {"a": "1"}})
    assert (again.status_code, again.json()["version"]) == (200, 1)
    changed = await mesh.http.put("/api/v1/machines/put1", content="labels: {a: '2'}\nkind: machine\nname: put1\n")
    assert (changed.json()["version"], changed.json()["labels"]) == (2, {"a": "2"})
    found = (await mesh.http.get("/api/v1/machines/put1")).json()
    assert (found["online"], found["drained"], found["mode"]) == (False, False, "work_order")


async def test_put_refuses_what_is_another_object(mesh: Mesh) -> None:
    answer = await mesh.http.put("/api/v1/machines/here", json={"kind": "pool", "name": "there", "where": "true"})
    assert {error["path"] for error in problem(answer, 422)["errors"]} == {"kind", "name"}
    two = "kind: machine\nname: a\n---\nkind: machine\nname: b\n"
    problem(await mesh.http.put("/api/v1/machines/a", content=two), 422)


async def test_delete_removes_it(mesh: Mesh) -> None:
    await mesh.apply({"kind": "machine", "name": "gone"})
    answer = await mesh.http.delete("/api/v1/machines/gone")
    assert (answer.status_code, answer.content) == (204, b"")
    problem(await mesh.http.get("/api/v1/machines/gone"), 404)
    problem(await mesh.http.delete("/api/v1/machines/gone"), 404)


async def test_what_is_needed_is_not_deleted(mesh: Mesh) -> None:
    await mesh.apply({"kind": "machine", "name": "busy"})
    await mesh.order("busy")
    assert "open orders" in problem(await mesh.http.delete("/api/v1/machines/busy"), 409)["detail"]
    await mesh.apply({"kind": "profile", "name": "worn"}, {"kind": "machine", "name": "grouped", "profiles": ["worn"]})
    await mesh.apply({"kind": "cluster", "name": "group", "members": ["grouped"]})
    for place, user in (("profiles/worn", "machine grouped"), ("machines/grouped", "cluster group")):
        assert f"used by {user}" in problem(await mesh.http.delete(f"/api/v1/{place}"), 409)["detail"]
    for place in ("clusters/group", "machines/grouped", "profiles/worn"):
        assert (await mesh.http.delete(f"/api/v1/{place}")).status_code == 204


async def test_problems_carry_file_line_and_path(mesh: Mesh) -> None:
    answer = await mesh.http.post("/api/v1/apply", params={"file": "fleet.yaml"}, content=BAD)
    errors = problem(answer, 422)["errors"]
    assert {(error["file"], error["line"]) for error in errors} >= {("fleet.yaml", 6), ("fleet.yaml", 7)}
    assert any("labels" in error.get("hint", "") for error in errors)
    problem(await mesh.http.get("/api/v1/machines/good"), 404)


async def test_several_files_are_applied_all_or_nothing(mesh: Mesh) -> None:
    files: list[dict[str, Any]] = [
        {"name": "a.yaml", "text": "kind: machine\nname: file-a\n"},
        {"name": "b.yaml", "text": "kind: machine\nname: file-b\nlables: {}\n"},
    ]
    answer = await mesh.http.post("/api/v1/apply", json={"files": files})
    assert {error["file"] for error in problem(answer, 422)["errors"]} == {"b.yaml"}
    problem(await mesh.http.get("/api/v1/machines/file-a"), 404)
    files[1]["text"] = "kind: machine\nname: file-b\n"
    changes = (await mesh.http.post("/api/v1/apply", json={"files": files})).json()["changes"]
    assert [(change["name"], change["action"]) for change in changes] == [("file-a", "created"), ("file-b", "created")]


async def test_a_dry_run_of_apply_changes_nothing(mesh: Mesh) -> None:
    manifest = {"kind": "machine", "name": "never"}
    answer = (await mesh.http.post("/api/v1/apply", params={"dry_run": "true"}, json=manifest)).json()
    assert (answer["dry_run"], answer["changes"][0]["action"]) == (True, "created")
    problem(await mesh.http.get("/api/v1/machines/never"), 404)


@pytest.mark.parametrize(
    "body", [b"", b"\n\n", b"# only a comment", b"\xff", b"{]", b"a: b: c", b'{"files": [{"nam": 1}]}']
)
async def test_what_is_no_manifest_is_reported(mesh: Mesh, body: bytes) -> None:
    answer = await mesh.http.post("/api/v1/apply", content=body)
    problem(answer, 422 if answer.status_code == 422 else 400)


async def test_an_unknown_kind_is_reported_with_the_one_that_was_meant(mesh: Mesh) -> None:
    answer = await mesh.http.post("/api/v1/apply", json={"kind": "machin", "name": "x"})
    assert "machine" in str(problem(answer, 422)["errors"])
    problem(await mesh.http.get("/api/v1/machin"), 404)


async def test_elements_are_filtered_and_listed_in_pages(mesh: Mesh) -> None:
    await mesh.apply(*({"kind": "machine", "name": f"page{n}", "labels": {"page": "yes"}} for n in range(3)))
    params: dict[str, Any] = {"where": 'element.labels.page == "yes"', "limit": 2}
    page = (await mesh.http.get("/api/v1/machines", params=params)).json()
    assert [item["name"] for item in page["items"]] == ["page0", "page1"]
    rest = (await mesh.http.get("/api/v1/machines", params={**params, "cursor": page["next"]})).json()
    assert ([item["name"] for item in rest["items"]], rest["next"]) == (["page2"], None)


async def test_an_element_is_drained_and_its_mode_is_switched(mesh: Mesh) -> None:
    await mesh.apply({"kind": "machine", "name": "turn"})
    base = "/api/v1/elements/turn"
    assert (await mesh.http.post(f"{base}/drain")).json()["drained"] is True
    assert (await mesh.http.post(f"{base}/undrain")).json()["drained"] is False
    assert (await mesh.http.post(f"{base}/mode", json={"mode": "workflow"})).json()["mode"] == "workflow"
    (error,) = problem(await mesh.http.post(f"{base}/mode", json={"mode": "workflo"}), 422)["errors"]
    assert "workflow" in error["hint"]
    problem(await mesh.http.post("/api/v1/elements/nobody/drain"), 404)
