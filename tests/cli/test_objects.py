from __future__ import annotations

import json
from pathlib import Path

import yaml

from tests.kit.meshes import Mesh

POOL = "kind: pool\nname: {name}\nwhere: 'element.labels.role == \"{role}\"'\n"


async def test_applying_creates_changes_and_leaves_alone(mesh: Mesh, tmp_path: Path) -> None:
    file = tmp_path / "pool.yaml"
    file.write_text(POOL.format(name="apply-one", role="web"))
    assert "created" in await mesh.ok("apply", "-f", str(file))
    assert "unchanged" in await mesh.ok("apply", "-f", str(file))
    file.write_text(POOL.format(name="apply-one", role="db"))
    assert "changed" in await mesh.ok("apply", "-f", str(file))
    await mesh.ok("delete", "pool", "apply-one")


async def test_a_dry_run_shows_the_difference_and_changes_nothing(mesh: Mesh, tmp_path: Path) -> None:
    await mesh.ok("apply", "-f", "-", stdin=POOL.format(name="dry", role="web").encode())
    shown = await mesh.ok("apply", "-f", "-", "--dry-run", stdin=POOL.format(name="dry", role="db").encode())
    assert '-where: element.labels.role == "web"' in shown
    assert '+where: element.labels.role == "db"' in shown
    assert "web" in json.loads(await mesh.ok("get", "pool", "dry", "-o", "json"))["where"]
    await mesh.ok("delete", "pool", "dry")


async def test_one_wrong_manifest_keeps_all_from_being_applied(mesh: Mesh, tmp_path: Path) -> None:
    (tmp_path / "good.yaml").write_text(POOL.format(name="all-or-nothing", role="web"))
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "bad.yml").write_text("kind: pool\nname: bad\nwhre: 'true'\n")
    ran = await mesh.muster("apply", "-f", str(tmp_path))
    assert ran.code == 2
    assert "bad.yml:3" in ran.stderr
    assert "did you mean 'where'" in ran.stderr
    assert (await mesh.muster("get", "pool", "all-or-nothing")).code == 3


async def test_what_a_shell_expands_is_applied_together(mesh: Mesh, tmp_path: Path) -> None:
    for name in ("glob-a", "glob-b"):
        (tmp_path / f"{name}.yaml").write_text(POOL.format(name=name, role="web"))
    files = sorted(str(path) for path in tmp_path.glob("*.yaml"))
    assert (await mesh.ok("apply", "-f", *files)).count("created") == 2
    for name in ("glob-a", "glob-b"):
        await mesh.ok("delete", "pool", name)


async def test_files_that_cannot_be_read_are_bad_usage(mesh: Mesh, tmp_path: Path) -> None:
    assert (await mesh.muster("apply", "-f", str(tmp_path / "none.yaml"))).code == 2
    assert (await mesh.muster("apply", "-f", str(tmp_path))).code == 2
    assert (await mesh.muster("apply")).code == 2
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe")
    ran = await mesh.muster("apply", "-f", str(tmp_path / "bytes.yaml"))
    assert ran.code == 2
    assert "UTF-8" in ran.stderr


async def test_lists_are_documents_for_programs(mesh: Mesh) -> None:
    page = json.loads(await mesh.ok("get", "machines", "-o", "json"))
    assert mesh.element in [item["name"] for item in page["items"]]
    assert page["next"] is None
    assert yaml.safe_load(await mesh.ok("get", "machine", mesh.element, "-o", "yaml"))["name"] == mesh.element
    assert json.loads(await mesh.ok("-o", "json", "get", "machine", mesh.element))["online"] is True


async def test_the_kinds_are_listed_and_offered_for_completion(mesh: Mesh) -> None:
    assert [line for line in (await mesh.ok("get", "kinds")).splitlines() if "machine" in line and "yes" in line]
    offered = await mesh.ok("__complete", "get", "")
    assert {"machine\tOne host.", "element\tElements of every kind."} <= set(offered.splitlines())
    assert mesh.element in (await mesh.ok("__complete", "describe", "machines", "")).splitlines()
    for command in (["drain", ""], ["run", "hello", "--on", ""], ["get", "element", ""]):
        assert mesh.element in (await mesh.ok("__complete", *command)).splitlines(), command


async def test_an_element_is_found_whatever_its_kind(mesh: Mesh) -> None:
    assert "machine" in await mesh.ok("get", "elements")
    assert mesh.element in await mesh.ok("describe", "element", mesh.element)


async def test_a_filter_chooses_elements(mesh: Mesh) -> None:
    assert mesh.element in await mesh.ok("get", "machines", "--where", f'element.name == "{mesh.element}"')
    assert mesh.element not in await mesh.ok("get", "machines", "--where", 'element.name == "nobody"')
    assert (await mesh.muster("get", "machines", "--where", "element.nme == 1")).code == 2


async def test_what_is_not_there_is_refused_with_its_name(mesh: Mesh) -> None:
    for command in (["get", "machine", "nobody"], ["delete", "pool", "nobody"], ["describe", "element", "nobody"]):
        ran = await mesh.muster(*command)
        assert ran.code == 3
        assert "nobody" in ran.stderr


async def test_kinds_that_there_are_not_are_bad_usage(mesh: Mesh) -> None:
    for command, word in (
        (["get", "machnes"], "did you mean 'machine'"),
        (["describe", "nope", "x"], "`muster get kinds` lists them"),
        (["delete", "order", "3f6a"], "on the record"),
        (["get", "orders", "--where", "true"], "muster orders --help"),
    ):
        ran = await mesh.muster(*command)
        assert ran.code == 2, ran
        assert word in ran.stderr


async def test_a_blueprint_is_described_with_its_inputs_and_tasks(mesh: Mesh) -> None:
    reported = await mesh.ok("describe", "blueprint", "hello")
    assert "greeting" in reported
    assert "greet" in reported


async def test_a_drained_element_takes_nothing_until_it_is_undrained(mesh: Mesh) -> None:
    await mesh.ok("drain", mesh.element)
    try:
        assert "drained" in await mesh.ok("get", "machine", mesh.element)
        ran = await mesh.muster("run", "obey", "--on", mesh.element, "--wait", "--timeout", "1s")
        assert ran.code == 124
        order = ran.stderr.split("order ")[1].split()[0]
        assert "drained" in await mesh.ok("explain", order)
    finally:
        await mesh.ok("undrain", mesh.element)
    assert "ok" in await mesh.ok("logs", order, "--follow")


async def test_a_drain_waits_for_what_runs(mesh: Mesh) -> None:
    made = json.loads(await mesh.ok("run", "obey", "--on", mesh.element, "-i", "how=hang", "-o", "json"))
    order = made["orders"][0]["id"]
    try:
        waited = await mesh.muster("drain", mesh.element, "--wait", "--timeout", "1s")
        assert (waited.code, "still runs" in waited.stderr) == (124, True), waited
        await mesh.ok("cancel", order)
        assert "nothing runs on it" in await mesh.ok("drain", mesh.element, "--wait")
    finally:
        await mesh.ok("undrain", mesh.element)


async def test_a_mode_is_switched_there_and_back(mesh: Mesh) -> None:
    assert "workflow" in await mesh.ok("mode", mesh.element, "workflow")
    assert json.loads(await mesh.ok("mode", mesh.element, "work_order", "-o", "json"))["mode"] == "work_order"
    assert (await mesh.muster("mode", mesh.element, "holiday")).code == 2
