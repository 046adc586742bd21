"""How many levels JSON may have."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.mesh.nesting import DEEPEST, check_levels, from_json

JSON = st.recursive(
    st.none() | st.integers() | st.text(alphabet='[]{}"\\/ax\u00e9', max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text('{["\\', max_size=4), inner, max_size=4),
    max_leaves=20,
)


def levels(value: Any) -> int:
    if not isinstance(value, dict | list):
        return 0
    return 1 + max(map(levels, value.values() if isinstance(value, dict) else value), default=0)


@given(JSON, st.booleans())
def test_levels_are_those_of_arrays_and_objects_whatever_texts_say(value: Any, is_ascii: bool) -> None:
    text, found = json.dumps(value, ensure_ascii=is_ascii).encode(), levels(value)
    check_levels(text, found)
    if found:
        with pytest.raises(RecursionError):
            check_levels(text, found - 1)


@pytest.mark.parametrize(
    ("start", "inside", "end"), [(b"[", b"", b"]"), (b'{"a":', b"0", b"}"), (b'[{"[":', b"0", b"}]")]
)
def test_what_has_too_many_levels_is_no_value(start: bytes, inside: bytes, end: bytes) -> None:
    most = DEEPEST // (start.count(b"{") + start.startswith(b"["))
    assert from_json(start * most + inside + end * most)
    with pytest.raises(RecursionError, match=f"more than {DEEPEST} levels"):
        from_json(start * (most + 1) + inside + end * (most + 1))


def test_however_many_there_are_it_is_asked_in_the_same_way() -> None:
    with pytest.raises(RecursionError):
        from_json(b"[" * 100_000)
