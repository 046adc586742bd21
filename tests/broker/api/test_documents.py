"""The OpenAPI document."""

from __future__ import annotations

from typing import Any

import pytest

from muster.blueprints.objects import object_kinds
from tests.broker.api.conftest import Mesh

pytestmark = pytest.mark.asyncio(loop_scope="session")

ROUTES = {
    ("POST", "/api/v1/orders"),
    ("GET", "/api/v1/orders"),
    ("GET", "/api/v1/orders/{order}"),
    ("GET", "/api/v1/orders/{order}/jobs"),
    ("GET", "/api/v1/orders/{order}/output"),
    ("GET", "/api/v1/orders/{order}/history"),
    ("GET", "/api/v1/orders/{order}/explain"),
    ("POST", "/api/v1/orders/{order}/cancel"),
    ("POST", "/api/v1/orders/{order}/retry"),
    ("GET", "/api/v1/kinds"),
    ("GET", "/api/v1/kinds/{name}"),
    ("GET", "/api/v1/elements"),
    ("GET", "/api/v1/elements/{name}"),
    ("POST", "/api/v1/elements/{name}/mode"),
    ("POST", "/api/v1/elements/{name}/drain"),
    ("POST", "/api/v1/elements/{name}/undrain"),
    ("POST", "/api/v1/triggers/{name}/fire"),
    ("GET", "/api/v1/triggers/{name}/firings"),
    ("GET", "/api/v1/triggers/{name}/next"),
    ("GET", "/api/v1/firings/{firing}"),
    ("POST", "/api/v1/apply"),
    ("GET", "/api/v1/events"),
    ("GET", "/api/v1/info"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
    ("POST", "/hooks/{trigger}"),
}


async def served(mesh: Mesh) -> dict[str, Any]:
    """The document as it is served."""
    answer = await mesh.http.get("/schema/openapi.json")
    assert answer.headers["content-type"].startswith("application/json")
    found: dict[str, Any] = answer.json()
    return found


async def test_it_is_openapi_3_1_and_has_every_route(mesh: Mesh) -> None:
    document = await served(mesh)
    assert document["openapi"].startswith("3.1")
    found = {
        (method.upper(), path) for path, item in document["paths"].items() for method in item if method != "parameters"
    }
    wanted = set(ROUTES)
    for kind in object_kinds().values():
        wanted.add(("GET", f"/api/v1/{kind.plural}"))
        wanted |= {(method, f"/api/v1/{kind.plural}/{{name}}") for method in ("GET", "PUT", "DELETE")}
    assert found == wanted


async def test_every_reference_leads_somewhere(mesh: Mesh) -> None:
    document = await served(mesh)

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            if isinstance(reference := node.get("$ref"), str):
                place: Any = document
                for part in reference.removeprefix("#/").split("/"):
                    place = place[part]
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(document)


async def test_errors_are_reported_as_problems_only(mesh: Mesh) -> None:
    document = await served(mesh)
    for path, item in document["paths"].items():
        for method, operation in item.items():
            for status, answer in operation["responses"].items():
                if int(status) >= 400:
                    assert list(answer["content"]) == ["application/problem+json"], (method, path, status)
    create = document["paths"]["/api/v1/orders"]["post"]
    assert set(create["responses"]) >= {"201", "400", "401", "404", "409", "413", "422", "503"}


async def test_bodies_have_a_schema_and_an_example(mesh: Mesh) -> None:
    document = await served(mesh)
    for path, item in document["paths"].items():
        for method, operation in item.items():
            takes_body = (
                method == "put"
                or path.endswith(("/apply", "/mode", "/fire", "/hooks/{trigger}"))
                or (method, path) == ("post", "/api/v1/orders")
            )
            assert ("requestBody" in operation) == takes_body, (method, path)
            for content in operation.get("requestBody", {}).get("content", {}).values():
                assert content["schema"]
                assert content["example"]


async def test_parameters_have_a_description(mesh: Mesh) -> None:
    document = await served(mesh)
    for path, item in document["paths"].items():
        for method, operation in item.items():
            assert operation["summary"]
            for parameter in operation.get("parameters", ()):
                assert parameter.get("description"), (method, path, parameter["name"])


async def test_it_needs_nothing_from_elsewhere(mesh: Mesh) -> None:
    assert "jsdelivr" not in (await mesh.http.get("/schema/openapi.json")).text
    assert (await mesh.http.get("/schema")).status_code in {200, 404}


async def test_the_methods_of_a_path_are_those_that_options_names(mesh: Mesh) -> None:
    document = await served(mesh)
    for path, item in document["paths"].items():
        if path == "/hooks/{trigger}":
            continue  # a trigger service's, not the broker's
        answer = await mesh.http.options(path.replace("{", "").replace("}", ""))
        allowed = {method.strip() for method in answer.headers["allow"].split(",")}
        documented = {method.upper() for method in item if method != "parameters"}
        probe = {"HEAD"} if path in {"/healthz", "/readyz"} else set()  # as GET: the document does not repeat it
        assert allowed == documented | {"OPTIONS"} | probe, path
        refused = await mesh.http.request("PATCH", path.replace("{", "").replace("}", ""))
        assert refused.status_code == 405, path
        assert {method.strip() for method in refused.headers["allow"].split(",")} == allowed, path


async def test_every_operation_has_the_answers_that_its_parameters_can_bring_about(mesh: Mesh) -> None:
    document = await served(mesh)
    tried = 0
    for path, item in document["paths"].items():
        for method, operation in item.items():
            names = {each["name"]: each for each in operation.get("parameters", ())}
            bad = {"cursor": "x", "where": "true"}.keys() & names.keys()
            for name in bad:
                answer = await mesh.http.request(method, path.replace("{name}", "web01"), params={name: "x y"})
                assert str(answer.status_code) in operation["responses"], (method, path, name, answer.text)
                tried += 1
            if "Idempotency-Key" in names:
                order = (await mesh.order())["id"]
                place = path.replace("{order}", order).replace("{name}", "web01")
                body = b'{"blueprint":"hello","on":"web01"}'
                answer = await mesh.http.request(method, place, headers={"Idempotency-Key": "x" * 999}, content=body)
                assert answer.status_code == 400, (place, answer.text)
                assert "400" in operation["responses"], (method, path)
                tried += 1
    assert tried > 10


async def test_exactly_one_schema_fits_each_success(mesh: Mesh) -> None:
    document = await served(mesh)
    for path, item in document["paths"].items():
        for method, operation in item.items():
            for status, answer in operation["responses"].items():
                for content in answer.get("content", {}).values():
                    assert "oneOf" not in content["schema"], (method, path, status)
    created = document["paths"]["/api/v1/orders"]["post"]["responses"]
    schemas = {status: created[status]["content"]["application/json"]["schema"]["$ref"] for status in ("200", "201")}
    assert schemas == {"200": "#/components/schemas/Preview", "201": "#/components/schemas/OrdersView"}
    for path, methods in (("/api/v1/machines/{name}", "put"), ("/api/v1/triggers/{name}/fire", "post")):
        assert len([status for status in document["paths"][path][methods]["responses"] if status < "3"]) == 2
