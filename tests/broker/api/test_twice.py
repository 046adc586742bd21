"""No body has a key twice in one object: the later one would hide the earlier."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.broker.operations.decode import value
from muster.mesh.errors import InvalidError
from tests.broker.api.conftest import Mesh

TWICE = [
    ("POST", "/api/v1/orders", b'{"blueprint":"hello","on":"web01","blueprint":"other"}', "blueprint"),
    ("POST", "/api/v1/orders", b'{"blueprint":"hello","on":"web01","inputs":{"a":{"x":1,"x":2}}}', "x"),
    ("POST", "/api/v1/orders", b'{"blueprint":"hello","on":"web01","inputs":{"\\u003a:":1,"x":":","x":2}}', "x"),
    ("POST", "/api/v1/orders", b'{"blueprint":"hello","on":"web01","labels":{"a":"1","\\u0061":"2"}}', "a"),
    ("POST", "/api/v1/elements/web01/mode", b'{"mode":"workflow","mode":"work_order"}', "mode"),
    ("POST", "/api/v1/triggers/bell/fire", b'[{"a":1,"b":{"a":2,"a":3}}]', "a"),
    ("POST", "/api/v1/apply", b'{"files":[{"name":"a","text":"x","text":"y"}]}', "text"),
    ("POST", "/api/v1/apply", b'{"kind":"machine","name":"m","name":"n"}', "name"),
    ("PUT", "/api/v1/machines/m", b'{"labels":{"a":"1"},"labels":{}}', "labels"),
]


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize(("method", "path", "body", "key"), TWICE)
async def test_a_key_that_stands_twice_is_refused_by_its_name(
    mesh: Mesh, method: str, path: str, body: bytes, key: str
) -> None:
    answer = await mesh.http.request(method, path, content=body)
    assert answer.status_code == 422, answer.text
    assert any(error["path"].rpartition(".")[2] == key for error in answer.json()["errors"]), answer.text


def _texts(key: st.SearchStrategy[str]) -> st.SearchStrategy[tuple[str, bool]]:
    """JSON texts, and whether a key is twice in one of their objects."""
    leaf = (st.text(':"\\\\u03aA{},') | st.integers() | st.none()).map(lambda value: (json.dumps(value), False))

    def objects(inner: st.SearchStrategy[tuple[str, bool]]) -> st.SearchStrategy[tuple[str, bool]]:
        return st.lists(st.tuples(key, st.booleans(), inner), max_size=4).map(_object)

    return st.recursive(leaf, objects, max_leaves=12)


def _object(fields: list[tuple[str, bool, tuple[str, bool]]]) -> tuple[str, bool]:
    keys = [
        '"' + "".join(f"\\u{ord(char):04x}" for char in name) + '"' if escaped else json.dumps(name)
        for name, escaped, _ in fields
    ]
    text = ", ".join(f"{key} : {inner}" for key, (_, _, (inner, _)) in zip(keys, fields, strict=True))
    twice = len({name for name, *_ in fields}) < len(fields)
    return f"{{{text}}}", twice or any(inner[1] for *_, inner in fields)


@given(found=_texts(st.text(":ab\\\\u03", max_size=3)))
def test_equal_keys_are_found_however_they_are_written(found: tuple[str, bool]) -> None:
    text, twice = found
    if twice:
        with pytest.raises(InvalidError):
            value(text.encode())
    else:
        assert value(text.encode()) == json.loads(text)
