"""How bodies are parsed: JSON of any type, in any charset, packed or not."""

from __future__ import annotations

import gzip
import hashlib
import hmac
import json
import zlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.mesh.errors import InvalidError
from muster.triggers.bodies import parsed
from muster.triggers.packing import MOST_MEMBERS
from tests.triggers.hook_server import SECRET, Served, problem, serving

MEGABYTE = 1024**2
UTF8_MARK = b"\xef\xbb\xbf"


def packed(data: bytes) -> bytes:
    """With gzip, the same bytes each time."""
    return gzip.compress(data, mtime=0)


def raw_deflate(data: bytes) -> bytes:
    """Without zlib's wrapper."""
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize(
    ("content_type", "body", "value"),
    [
        ("text/plain; charset=UTF-8", b'{"Type": "Notification"}', {"Type": "Notification"}),  # SNS
        ("text/plain", b'[{"a": 1}]', [{"a": 1}]),
        ("text/html", b" \r\n\t{}", {}),
        ("text/json", b"7", 7),
        ("text/x-json", b'{"a": 1}', {"a": 1}),
        ("application/x-amz-json-1.1", b'{"a": 1}', {"a": 1}),
        ("application/vnd.api+json", b'{"a": 1}', {"a": 1}),
        ("Application/JSON", b'{"a": 1}', {"a": 1}),
        ("application/x-ndjson", b'{"a": 1}\n{"a": 2}', '{"a": 1}\n{"a": 2}'),
        ("text/plain", b"{not json", "{not json"),
        ("text/plain", b"[INFO] hello", "[INFO] hello"),
        ("text/plain", b'"quoted"', '"quoted"'),
        ("application/json", UTF8_MARK + b'{"a": 1}', {"a": 1}),
        ("text/plain", UTF8_MARK + b'{"a": 1}', {"a": 1}),
        ("", UTF8_MARK + b'{"a": 1}', {"a": 1}),
        ("text/plain", UTF8_MARK + b"hello", "hello"),
        ("application/json", '{"a": "ü"}'.encode("utf-16"), {"a": "ü"}),
        ("application/json; charset=utf-16le", '{"a": 1}'.encode("utf-16-le"), {"a": 1}),
        ("text/plain; charset=utf-16", '{"a": 1}'.encode("utf-16"), {"a": 1}),
        ("application/json; charset=ISO-8859-1", b'{"a": "\xfc"}', {"a": "ü"}),
        ("application/json; charset=ISO-8859-1", '{"a": "ü"}'.encode(), {"a": "ü"}),  # says it, and sends UTF-8
        ("application/json; charset=utf8mb4", b'{"a": 1}', {"a": 1}),
    ],
)
def test_json_is_found_by_its_name_or_its_form(content_type: str, body: bytes, value: Any) -> None:
    assert parsed(body, content_type) == value


@pytest.mark.parametrize(
    ("kind", "content_type", "body", "value"),
    [
        ("json", "application/xml", b"7", 7),
        ("json", "application/x-www-form-urlencoded", b"7", 7),
        ("text", "application/json", b'{"a": 1}', '{"a": 1}'),
        ("text", "text/plain", b'{"a": 1}', '{"a": 1}'),
        ("form", "text/plain", b"a=1&b=2", {"a": "1", "b": "2"}),
    ],
)
def test_a_trigger_may_say_what_bodies_are(kind: Any, content_type: str, body: bytes, value: Any) -> None:
    assert parsed(body, content_type, kind) == value


@pytest.mark.parametrize("name", ["punycode", "idna", "unicode_escape", "raw_unicode_escape", "utf-7", "zip", "x" * 40])
def test_only_charsets_are_taken_for_some(name: str) -> None:
    with pytest.raises(InvalidError, match="charset"):
        parsed(b"x\xffy", f"text/plain; charset={name}")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r'"\ud800"', "\ufffd"),
        (r'"a\udc00b"', "a\ufffdb"),
        (r'"\ud800\ud83d\ude00"', "\ufffd😀"),
        (r'"\ud83d\ude00\ude00"', "😀\ufffd"),
        (r'"\\ud800"', r"\ud800"),
        (r'"\\\ud800"', "\\\ufffd"),
        (r'{"\uDBFF": 1}', {"\ufffd": 1}),
    ],
)
def test_half_a_character_becomes_the_sign_for_one(text: str, value: Any) -> None:
    assert parsed(text.encode(), "application/json") == value


@given(st.recursive(st.text(st.characters(codec=None)) | st.integers(-9, 9), st.lists, max_leaves=5))
def test_whatever_text_json_escapes_is_text_that_can_be_written_again(value: Any) -> None:
    found = parsed(json.dumps(value).encode(), "application/json")
    assert json.dumps(found, ensure_ascii=False).encode()
    if "\\ud" not in json.dumps(value):
        assert found == value


def test_bytes_that_are_no_utf8_are_refused_in_words() -> None:
    with pytest.raises(InvalidError, match="UTF-8"):
        parsed(b'{"a": "\xed\xa0\x80"}', "application/json")
    with pytest.raises(InvalidError, match="utf-16"):
        parsed(b'\xff\xfe{"a": 1}x', "application/json")


BODY = b'{"a": 1}'


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", packed(BODY)),
        ("X-GZIP", packed(BODY)),
        ("gzip", packed(BODY[:3]) + packed(BODY[3:])),
        ("gzip", packed(BODY) + b"\0" * 100),
        ("deflate", zlib.compress(BODY)),
        ("deflate", raw_deflate(BODY)),
        ("identity", BODY),
        ("", BODY),
    ],
)
async def test_a_packed_body_is_unpacked_and_signed_as_it_was_sent(served: Served, encoding: str, body: bytes) -> None:
    served.known.add("any", "webhook", auth="hmac", secret={"env": "HOOK_SECRET"})
    signature = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    headers = {"content-type": "application/json", "content-encoding": encoding, "x-signature": signature}
    answer = await served.post("any", body, headers)
    assert answer.status_code == 202, answer.text
    assert served.fired.last["body"] == {"a": 1}


async def test_a_packed_push_of_a_forge_is_unpacked(served: Served) -> None:
    served.known.add("lab", "gitlab", secret={"env": "HOOK_SECRET"})
    body = packed(msgspec.json.encode({"object_kind": "push", "ref": "refs/heads/main"}))
    headers = {"x-gitlab-token": SECRET, "x-gitlab-event": "Push Hook", "content-encoding": "gzip"}
    assert (await served.post("lab", body, headers)).status_code == 202
    assert served.fired.last["branch"] == "main"


@pytest.mark.parametrize(
    ("encoding", "body", "status", "word"),
    [
        ("br", b"x", 415, "'br'"),
        ("zstd", b"x", 415, "'zstd'"),
        ("gzip, gzip", packed(packed(BODY)), 415, "gzip, gzip"),
        ("gzip", BODY, 400, "gzip"),
        ("gzip", packed(BODY)[:-9], 400, "end is missing"),
        ("gzip", packed(BODY) + b"rest", 400, "gzip"),
        ("deflate", b"\xff" * 9, 400, "deflate"),
        ("gzip", packed(b"") * (MOST_MEMBERS + 1), 400, "members"),
        ("gzip", packed(b" " * MEGABYTE + b"{}"), 413, str(MEGABYTE)),
        ("deflate", zlib.compress(bytes(64 * MEGABYTE), 9), 413, str(MEGABYTE)),
    ],
)
async def test_what_cannot_be_unpacked_is_refused_in_words(
    served: Served, encoding: str, body: bytes, status: int, word: str
) -> None:
    served.known.add("any", "webhook")
    answer = await served.post("any", body, {"content-encoding": encoding})
    assert word in problem(answer, status)["detail"]
    if status == 415:
        assert answer.headers["accept-encoding"] == "gzip, deflate"


async def test_a_packed_body_counts_for_what_it_may_become() -> None:
    async with serving(held=MEGABYTE) as served:
        served.known.add("any", "webhook", max_body=1000)
        served.known.add("large", "webhook", max_body=2 * MEGABYTE)
        headers = {"content-encoding": "gzip"}
        assert (await served.post("any", packed(BODY), headers)).status_code == 202
        problem(await served.post("large", packed(BODY), headers), 503)
        assert (await served.post("large", BODY)).status_code == 202
