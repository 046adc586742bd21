"""Names go into subjects and come back, and none can widen one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.mesh import names

NAMES = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,62}", fullmatch=True).filter(names.is_name)


@given(NAMES)
def test_a_name_is_one_token_and_comes_back(name: str) -> None:
    assert "." not in names.token(name)
    assert names.untoken(names.token(name)) == name


@given(NAMES, NAMES, NAMES)
def test_a_log_subject_is_read_as_it_was_written(kind: str, ident: str, actor: str) -> None:
    kind = kind.replace(".", "")
    assert names.log_parts(names.log(kind, ident, actor)) == [kind, ident, actor]


@given(st.text(max_size=70))
def test_what_is_a_name_has_nothing_that_nats_would_read_otherwise(text: str) -> None:
    if names.is_name(text):
        assert not set(text) & set(" *>\t\r\n/=")


@pytest.mark.parametrize("name", ["0..", "a..b", "a."])
def test_dots_of_a_name_are_no_dots_of_a_subject(name: str) -> None:
    assert names.is_name(name)
    assert "." not in names.token(name) + names.key(name) + names.element_consumer(name)
    assert names.untoken(names.token(name)) == name
