"""Properties of signatures and globs: what is right always passes, what was touched never does."""

from __future__ import annotations

import base64
import hmac
import re
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from muster.blueprints.provider import HookRequest
from muster.mesh.errors import UnauthorizedError, UnavailableError
from muster.triggers.globs import Globs
from muster.triggers.schemes import Scheme
from muster.triggers.signatures import (
    MOST_SIGNATURES,
    check_signature,
    check_standard,
    check_token,
    signature,
    standard_key,
)

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
TOLERANCE = timedelta(minutes=5)

keys = st.binary(min_size=1, max_size=100)
bodies = st.binary(max_size=300)
schemes = st.builds(
    Scheme,
    header=st.just("X"),
    algorithm=st.sampled_from(["sha1", "sha256", "sha512"]),
    encoding=st.sampled_from(["hex", "base64"]),
    prefix=st.sampled_from(["", "sha256=", "v0="]),
)
headers = st.binary(max_size=100).map(lambda sent: sent.decode("latin-1"))
"""Any header, as hooks.py reads it."""
idents = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40)


def signed_by(header: str, body: bytes) -> HookRequest:
    """A delivery with this in the header X."""
    return HookRequest(method="POST", headers={"x": header}, query={}, body=body, received_at=NOW)


@given(keys, bodies, schemes, st.booleans())
def test_a_right_signature_passes(key: bytes, body: bytes, scheme: Scheme, prefixed: bool) -> None:
    right = signature(key, body, scheme).decode()
    check_signature([key], signed_by((scheme.prefix if prefixed else "") + right, body), scheme, TOLERANCE)


@given(keys, keys, bodies, schemes, st.lists(st.sampled_from(["v0=AAAA", "t=1", "x"]), max_size=3))
def test_any_secret_and_any_signature_of_a_list_fits(
    key: bytes, other: bytes, body: bytes, scheme: Scheme, others: list[str]
) -> None:
    right = signature(key, body, scheme).decode()
    proof = check_signature([other, key], signed_by(", ".join([*others, right]), body), scheme, TOLERANCE)
    assert signature(proof.secret, body, scheme).decode() == right


@given(st.binary(min_size=1, max_size=300), bodies, schemes)
def test_a_signature_is_the_hmac_of_the_standard_library(key: bytes, body: bytes, scheme: Scheme) -> None:
    right = hmac.new(key, body, scheme.algorithm).digest()
    reported = right.hex().encode() if scheme.encoding == "hex" else base64.b64encode(right)
    assert signature(key, body, scheme) == reported


@given(keys, keys, bodies, bodies, schemes)
def test_a_signature_of_something_else_is_refused(
    key: bytes, other_key: bytes, body: bytes, other_body: bytes, scheme: Scheme
) -> None:
    if body != other_body:
        given_one = signature(key, other_body, scheme).decode()
        with pytest.raises(UnauthorizedError):
            check_signature([key], signed_by(given_one, body), scheme, TOLERANCE)
    given_one = signature(other_key, body, scheme).decode()
    if given_one.encode() != signature(key, body, scheme):  # HMAC fills keys up with zeros
        with pytest.raises(UnauthorizedError):
            check_signature([key], signed_by(given_one, body), scheme, TOLERANCE)


@given(keys, bodies, schemes, headers)
def test_no_text_but_the_signature_passes(key: bytes, body: bytes, scheme: Scheme, text: str) -> None:
    right = signature(key, body, scheme)
    if right.decode().lower() not in text.lower():
        with pytest.raises(UnauthorizedError):
            check_signature([key], signed_by(text, body), scheme, TOLERANCE)


def request(body: bytes, ident: str, at: datetime, given_one: str) -> HookRequest:
    """A delivery signed as Standard Webhooks has it, received now."""
    headers = {"webhook-id": ident, "webhook-timestamp": str(int(at.timestamp())), "webhook-signature": given_one}
    return HookRequest(method="POST", headers=headers, query={}, body=body, received_at=NOW)


def made(key: bytes, body: bytes, ident: str, at: datetime) -> str:
    """Its signature."""
    content = f"{ident}.{int(at.timestamp())}.".encode() + body
    return "v1," + signature(key, content, Scheme(encoding="base64")).decode()


others_given = st.lists(st.sampled_from(["v1,AAAA", "v2,x", "", "v1a,b"]), max_size=MOST_SIGNATURES - 1)


@given(keys, bodies, idents, st.integers(-600, 600), others_given)
def test_a_standard_delivery_passes_within_its_time(
    key: bytes, body: bytes, ident: str, age: int, others: list[str]
) -> None:
    secret = b"whsec_" + base64.b64encode(key)
    at = NOW - timedelta(seconds=age)
    found = request(body, ident, at, " ".join([*others, made(key, body, ident, at)]))
    if abs(age) <= TOLERANCE.total_seconds():
        assert check_standard([secret], found, TOLERANCE).ident == ident
    else:
        with pytest.raises(UnauthorizedError):
            check_standard([secret], found, TOLERANCE)


@given(keys, bodies, bodies, idents, idents)
def test_a_standard_delivery_covers_id_and_body(
    key: bytes, body: bytes, other_body: bytes, ident: str, other_ident: str
) -> None:
    secret = b"whsec_" + base64.b64encode(key)
    mine = made(key, body, ident, NOW)
    if (ident, body) != (other_ident, other_body):
        with pytest.raises(UnauthorizedError):
            check_standard([secret], request(other_body, other_ident, NOW, mine), TOLERANCE)


def test_a_key_may_be_written_in_three_ways() -> None:
    assert standard_key(b"whsec_" + base64.b64encode(b"key!")) == b"key!"
    assert standard_key(base64.b64encode(b"key!")) == b"key!"
    assert standard_key(b"plain text!") == b"plain text!"
    with pytest.raises(UnavailableError):
        standard_key(b"whsec_plain text!")


@given(st.text(st.characters(categories=["L", "N"]), min_size=1))
@example("BEARER")
def test_a_token_in_any_script_passes(token: str) -> None:
    sent = token.encode().decode("latin-1")  # as hooks.py reads a header
    check_token([token.encode()], sent, "X")
    check_token([token.encode()], f"Bearer {sent}", "X")


@given(keys, headers)
def test_no_text_but_the_token_passes(key: bytes, text: str) -> None:
    if text.encode("latin-1") != key and not text.lower().startswith(("bearer", "basic")):
        with pytest.raises(UnauthorizedError):
            check_token([key], text, "X")


@given(st.text("ab/*?", max_size=8).filter(lambda text: "**" not in text and text), st.text("ab/", max_size=8))
def test_a_glob_is_as_the_shell_has_it_but_for_slashes(pattern: str, text: str) -> None:
    pattern = pattern.rstrip("/") or "a"
    parts, names = pattern.split("/"), text.split("/")
    expected = len(parts) == len(names) and all(map(fnmatchcase, names, parts))
    assert Globs([pattern]).matches(text) == expected


@given(st.text(max_size=10), st.text(max_size=10))
def test_any_glob_is_a_question_or_a_fault(pattern: str, text: str) -> None:
    try:
        Globs([pattern]).matches(text)
    except re.error:
        assert "[" in pattern


@pytest.mark.parametrize(
    ("patterns", "yes", "no"),
    [
        (["src/**"], ["src/a", "src/a/b.py"], ["src", "lib/src/a"]),
        (["**/test_*.py"], ["test_a.py", "x/y/test_b.py"], ["x/test.py", "xtest_a.py"]),
        (["docs/"], ["docs/a", "docs/b/c"], ["docs"]),
        (["a/**/z"], ["a/z", "a/b/z", "a/b/c/z"], ["az", "a/bz"]),
        (["**.py"], ["a.py", "b/c.py"], ["a.pyc"]),
        (["*"], ["main", ""], ["a/b"]),
        (["release-[0-9]"], ["release-1"], ["release-x", "release-10"]),
        (["[!ab]x"], ["cx"], ["ax", "/x"]),
        (["**", "!docs/**"], ["src/a"], ["docs/a"]),
        (["!docs/**"], ["src/a"], ["docs/a"]),
        (["!docs/**", "docs/keep"], ["docs/keep"], ["src/a", "docs/a"]),
        (["a.b"], ["a.b"], ["axb"]),
        (["[a"], ["[a"], ["a"]),
    ],
)
def test_globs_by_example(patterns: list[str], yes: list[str], no: list[str]) -> None:
    asked = Globs(patterns)
    assert [text for text in yes if not asked.matches(text)] == []
    assert [text for text in no if asked.matches(text)] == []
