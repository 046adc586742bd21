"""The table of operations: each row is served through every door that it names, and described once."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest

from muster.broker.api import nats, routes
from muster.broker.operations.operation import Call, Operation, Route, one, perform
from muster.broker.operations.table import ON_NATS, OPERATIONS
from muster.mesh.caller import Caller, CallerKind
from muster.mesh.errors import ForbiddenError
from muster.mesh.structs import Wire
from tests.broker.api.conftest import running
from tests.kit.servers import Nats


class Greeting(Wire):
    """A person to greet, and how often."""

    name: Annotated[str, msgspec.Meta(description="Who is greeted.")]
    times: Annotated[int, msgspec.Meta(ge=1, le=3, description="How often.")]
    loud: bool = False


class Greeted(msgspec.Struct, frozen=True):
    """What was said, and who asked."""

    text: str
    caller: str
    key: str | None


async def greet(call: Call, request: Greeting) -> Greeted:
    """Greet somebody."""
    text = " ".join([f"hello {request.name}"] * request.times)
    return Greeted(text.upper() if request.loud else text, str(call.caller), call.key)


def row(**fields: Any) -> Operation:
    """An operation that nobody knew before."""
    route = Route(path="/greetings/{who}", renamed={"who": "name"}, id="greet", tag="orders", **fields)
    return Operation(
        name="greetings.create",
        summary="Greet somebody",
        verb="run",
        kind="greeting",
        request=Greeting,
        answer=Greeted,
        handler=greet,
        routes=one(route),
    )


@pytest.mark.parametrize(
    ("method", "body", "query", "times"),
    [("POST", {"times": 2, "loud": True}, {}, 2), ("GET", None, {"times": 2, "loud": "true"}, 2)],
)
async def test_one_row_is_served_through_every_door(  # noqa: PLR0913, PLR0917 - a table of cases
    fresh_nats: Nats, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, body: Any, query: Any, times: int
) -> None:
    more = {"body": "Greeting", "example": body, "idempotent": True, "status": 201} if body else {}
    new = row(method=method, **more)
    monkeypatch.setattr(routes, "OPERATIONS", (*OPERATIONS, new))
    monkeypatch.setattr("muster.broker.api.documents.OPERATIONS", (*OPERATIONS, new))
    monkeypatch.setattr(nats, "ON_NATS", (*ON_NATS, new))
    async with running(fresh_nats, tmp_path) as mesh:
        headers = {"Idempotency-Key": "k"} if body else {}
        path = "/api/v1/greetings/ada"
        answer = await mesh.http.request(method, path, json=body, params=query, headers=headers)
        assert answer.status_code == (201 if body else 200), answer.text
        said = {"text": "HELLO ADA HELLO ADA", "key": "k" if body else None}
        assert answer.json() == {**said, "caller": "http"}
        request = {"name": "ada", "times": times, "loud": True}
        replied = await mesh.nats.request(new.subject, json.dumps(request).encode(), headers=headers)
        assert json.loads(replied.data) == {**said, "caller": "nats"}
        wrong = await mesh.http.request(method, path, json=body and {"times": 9}, params=query and {"times": 9})
        assert wrong.status_code == 422
        assert "times" in wrong.text
        document = (await mesh.http.get("/schema/openapi.json")).json()
        operation = document["paths"]["/api/v1/greetings/{who}"][method.lower()]
        assert (operation["operationId"], operation["summary"]) == ("greet", "Greet somebody")
        places = {each["name"]: each["in"] for each in operation["parameters"]}
        if body:
            assert places == {"who": "path", "Idempotency-Key": "header"}
            assert set(document["components"]["schemas"]["Greeting"]["properties"]) == {"times", "loud"}
        else:
            assert places == {"who": "path", "times": "query", "loud": "query"}


def test_no_two_rows_are_served_in_one_place() -> None:
    every = [route for operation in OPERATIONS for route in operation.routes()]
    for names in (
        [operation.name for operation in OPERATIONS],
        [operation.subject for operation in ON_NATS],
        [(route.method, route.path) for route in every],
        [route.id for route in every],
    ):
        assert len(set(names)) == len(names)


def test_each_row_says_what_it_does_and_what_it_needs() -> None:
    for operation in OPERATIONS:
        assert operation.on_nats or operation.routes(), operation.name
        assert operation.summary[:1].isupper(), operation.name
        assert not operation.summary.endswith("."), operation.name
        assert operation.verb.isalpha(), operation.name
        assert operation.kind.isalpha(), operation.name
        assert inspect.iscoroutinefunction(operation.handler), operation.name


async def test_an_agent_may_ask_for_its_own_element_only() -> None:
    class Ask(Wire):
        element: str

    async def echo(call: Call, request: Ask) -> str:
        return f"{call.caller} asks for {request.element}"

    operation = Operation(name="a.b", summary="Echo", verb="act", kind="element", request=Ask, answer=str, handler=echo)

    def call(caller: Caller) -> Call:
        return Call(None, caller)  # type: ignore[arg-type]  # the handler uses no service

    agent = Caller(kind=CallerKind.AGENT, name="web01", door="nats")
    assert await perform(operation, call(agent), Ask(element="web01")) == "agent web01 asks for web01"
    assert await perform(operation, call(Caller(door="http")), Ask(element="web02")) == "http asks for web02"
    with pytest.raises(ForbiddenError, match="the agent of web01 must not ask for web02"):
        await perform(operation, call(agent), Ask(element="web02"))
