"""What of an address may be said."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.mesh.addresses import has_password, shown

WORD = st.text(st.characters(codec="utf-8", exclude_characters="@,/"), min_size=1)
SECRET = "s3cret"


@pytest.mark.parametrize(
    "url",
    [
        f"nats://u:{SECRET}@mesh.example:4222",
        f"nats://{SECRET}@mesh.example:4222",
        f"u:{SECRET}@mesh.example:4222",
        f"nats://u:{SECRET}@{SECRET}@mesh.example:4222",
        f"nats://u:{SECRET}://x@mesh.example:4222",
        f"nats://mesh.example:4222,tls://u:{SECRET}@other.example:4222",
    ],
)
def test_a_password_is_not_shown_and_the_host_is(url: str) -> None:
    assert SECRET not in shown(url)
    assert "mesh.example:4222" in shown(url)
    assert has_password(url)


@pytest.mark.parametrize("url", ["nats://127.0.0.1:4222", "nats://a:1, nats://b:2", "http://h/x", "", "h:1"])
def test_an_address_without_a_password_is_shown_as_it_is(url: str) -> None:
    assert shown(url) == url
    assert not has_password(url)


@given(WORD, WORD)
def test_no_user_and_no_password_gets_through(user: str, password: str) -> None:
    assert shown(f"nats://{user}:{password}@host:1") == "nats://host:1"
