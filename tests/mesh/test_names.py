"""Names and ids, which must be the same in every version: what is on a log stays there."""

from __future__ import annotations

import base64
import hashlib

from hypothesis import given
from hypothesis import strategies as st

from muster.mesh import names


@given(st.lists(st.text(), min_size=1, max_size=3))
def test_an_id_of_parts_is_the_start_of_their_digest_in_base_32(parts: list[str]) -> None:
    digest = hashlib.sha256("\n".join(parts).encode()).digest()
    assert names.digest_id(*parts) == base64.b32encode(digest[:10]).decode().lower()


def test_an_id_of_parts_never_changes() -> None:
    assert names.digest_id("nightly", "2026-05-01T12:00:00Z") == "oucre5x7muulkif5"
    assert names.order_of("nightly", 0) == names.digest_id("nightly", "0")
