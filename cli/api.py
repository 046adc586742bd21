"""The HTTP client: one request, one answer, or one error that says what to do."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import SplitResult, quote, urlsplit

import msgspec

import muster
from muster.mesh.addresses import shown
from muster.mesh.errors import (
    MusterError,
    RefusedError,
    UnauthorizedError,
    UnavailableError,
    UnreachableError,
    UsageError,
    from_problem,
)
from muster.mesh.lean import without
from muster.mesh.peers import check_listener
from muster.mesh.tokens import API, Token, refused

with without("click"):  # else its own command line comes along, with rich and pygments: most of the import
    import httpx

CONNECT_TIMEOUT: Final = 5.0
READ_TIMEOUT: Final = 30.0
PULSE_TIMEOUT: Final = 45.0
"""Streams send a comment every 15 s; three missed ones mean that nobody is there."""
LONGEST_LINE: Final = 16 * 1024 * 1024
"""Bytes; twice what a NATS message may have, in base64."""
TRIES: Final = 3
"""For requests that are safe to repeat, when the connection broke in the middle."""

_PORTS: Final = {"http": 80, "https": 443}
LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class ServerEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One message of an event stream (WHATWG HTML §9.2)."""

    name: str
    ident: str
    data: Any


class Api:
    """The mesh's HTTP API.  Safe to use from several threads."""

    def __init__(self, url: str, *, token: Token | None = None) -> None:
        self.token = token
        self.url = shown(url.rstrip("/"))
        parts = _parts(url)
        if token and token.owner is not None:
            check_listener(self.url, parts.hostname or "", parts.port or _PORTS[parts.scheme], token.owner)
        headers = {"User-Agent": f"muster/{muster.__version__}", "Accept": "application/json"}
        if token:
            headers["Authorization"] = f"Bearer {token.text}"
        self._client = httpx.Client(
            base_url=url.rstrip("/"),
            headers=headers,
            timeout=httpx.Timeout(READ_TIMEOUT, connect=CONNECT_TIMEOUT),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=8),
            verify=parts.scheme == "https",  # loading the root certificates takes longer than a request
            trust_env=parts.hostname not in LOOPBACK,  # a proxy knows another localhost
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._client.close()

    def get(self, path: str, *, within: float = READ_TIMEOUT, **params: Any) -> Any:
        """Returns what is at `path`, answered `within` seconds; leaves out parameters that are None."""
        return self.request("GET", path, params=params, timeout=within)

    def raw(self, path: str, **params: Any) -> bytes:
        """Returns the bytes at `path`."""
        answer = self.answer("GET", path, params=params)
        self._check(answer)
        return answer.content

    def post(self, path: str, body: Any = None, *, key: str | None = None, **params: Any) -> Any:
        """Send `body` to `path`; with a `key`, repeating it does no harm."""
        return self.request("POST", path, body=body, params=params, key=key)

    def delete(self, path: str) -> Any:
        """Removes what is at `path`."""
        return self.request("DELETE", path)

    def items(self, path: str, *, limit: int | None = None, **params: Any) -> dict[str, Any]:
        """A list, page after page, as one: `{"items", "next"}`."""
        found: list[Any] = []
        cursor: str | None = None
        while True:
            room = 500 if limit is None else min(500, limit - len(found))
            page = self.get(path, limit=room, cursor=cursor, **params)
            found += page["items"]
            cursor = page.get("next")
            if cursor is None or (limit is not None and len(found) >= limit):
                return {"items": found, "next": cursor}

    def request(self, method: str, path: str, **how: Any) -> Any:
        """One request, and what was answered; repeated if the connection broke and repeating is harmless.

        Raises:
            MusterError: what the mesh answered, or that it did not.
        """
        return self.checked(self.answer(method, path, **how))

    def answer(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        params: Mapping[str, Any] | None = None,
        key: str | None = None,
        timeout: float = READ_TIMEOUT,
    ) -> httpx.Response:
        """One request, and the answer as it came.

        Raises:
            UnreachableError: there was none.
        """
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if key is not None:
            headers["Idempotency-Key"] = key
        tries = TRIES if method == "GET" or key is not None else 1
        for left in reversed(range(tries)):
            try:
                return self._client.request(
                    method,
                    path,
                    content=msgspec.json.encode(body) if body is not None else None,
                    params=_given(params),
                    headers=headers,
                    timeout=httpx.Timeout(timeout, connect=min(timeout, CONNECT_TIMEOUT)),
                )
            except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError) as error:
                if not left:
                    raise self._away(error) from error
                time.sleep(0.3)
            except (httpx.TransportError, httpx.InvalidURL) as error:
                raise self._away(error) from error
        raise AssertionError

    @contextmanager
    def stream(self, path: str, *, after: str | None = None, **params: Any) -> Iterator[Iterator[ServerEvent]]:
        """An event stream, from behind the event `after`.

        Raises:
            MusterError: as for a request; also in the middle, when the connection breaks.
        """
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": after} if after else {})
        timeout = httpx.Timeout(PULSE_TIMEOUT, connect=CONNECT_TIMEOUT)
        try:
            with self._client.stream("GET", path, params=_given(params), headers=headers, timeout=timeout) as answer:
                if not answer.is_success:
                    answer.read()
                    self._check(answer)
                if not answer.headers.get("content-type", "").startswith("text/event-stream"):
                    raise UnreachableError(self._stranger("the answer is not an event stream"))
                yield _events(_lines(answer.iter_bytes()))
        except (httpx.TransportError, httpx.StreamError) as error:
            raise self._away(error) from error

    def checked(self, answer: httpx.Response) -> Any:
        """What an answer says.

        Raises:
            MusterError: the problem in it.
        """
        self._check(answer)
        if not answer.content:
            return None
        try:
            return answer.json()
        except ValueError as error:
            raise UnreachableError(self._stranger(f"{_at(answer)} answered something other than JSON")) from error

    def _check(self, answer: httpx.Response) -> None:
        if answer.is_success:
            return
        if "problem+json" in answer.headers.get("content-type", ""):
            error = _error(answer)
            raise self._unauthorized() if isinstance(error, UnauthorizedError) else error
        raise self._unexplained(answer)

    def _unexplained(self, answer: httpx.Response) -> MusterError:
        status = answer.status_code
        words = f"{_at(answer)} answered {status} {answer.reason_phrase}"
        if status == 401:  # noqa: PLR2004 - HTTP
            return self._unauthorized()
        if status == 403:  # noqa: PLR2004 - HTTP
            return UnauthorizedError(f"{words}; set MUSTER_TOKEN to a token that may do this")
        if status >= 500:  # noqa: PLR2004 - HTTP's server errors
            return UnavailableError(f"{words}; try again, and read the broker's log")
        if status == 404 or status < 400:  # noqa: PLR2004 - a redirect leads somewhere else
            return UnreachableError(self._stranger(words))
        return RefusedError(words)

    def _unauthorized(self) -> UnauthorizedError:
        return UnauthorizedError(refused(API, f"the broker at {self.url}", self.token))

    def _stranger(self, words: str) -> str:
        return f"{words}; is {self.url} a Muster API? say where it is with --api URL or MUSTER_API"

    def _away(self, error: Exception) -> UnreachableError:
        hint = "start it with `muster up`, or say where it is with --api URL or MUSTER_API"
        if isinstance(error, httpx.ConnectTimeout):
            return UnreachableError(f"{self.url} did not answer in {CONNECT_TIMEOUT:g} s; {hint}")
        if isinstance(error, httpx.TimeoutException):
            again = "try again" if error.request.method == "GET" else "look whether it was done before you try again"
            return UnreachableError(f"{self.url} took the request but did not answer in time; {again}")
        if isinstance(error, httpx.ConnectError):
            return UnreachableError(f"no mesh answers at {self.url} ({error}); {hint}")
        return UnreachableError(f"the connection to {self.url} broke ({str(error) or type(error).__name__}); try again")


def _parts(url: str) -> SplitResult:
    try:
        httpx.URL(url)
        parts = urlsplit(url)
        if parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0:
            return parts
    except (ValueError, httpx.InvalidURL):
        pass
    raise UsageError(f"{shown(url)!r} is no URL of an API; write http://HOST:PORT (--api or MUSTER_API)")


def segment(text: str) -> str:
    """What somebody typed, as one segment of a path."""
    if not text or text in {".", ".."}:
        raise UsageError(f"{text!r} is not a name")
    return quote(text, safe="")


def _given(params: Mapping[str, Any] | None) -> dict[str, str]:
    words = {True: "true", False: "false"}
    return {
        name: words[value] if isinstance(value, bool) else str(value)
        for name, value in (params or {}).items()
        if value is not None
    }


def _error(answer: httpx.Response) -> MusterError:
    try:
        return from_problem(answer.json())
    except (ValueError, msgspec.ValidationError, AttributeError):
        return UnreachableError(f"{_at(answer)} answered {answer.status_code} without a problem document")


def _at(answer: httpx.Response) -> str:
    return shown(str(answer.request.url))


def _lines(parts: Iterator[bytes]) -> Iterator[str]:
    """The lines of an event stream, which LF or CR LF ends (WHATWG HTML §9.2.5), and nothing that text may hold.

    Raises:
        UnreachableError: a line is longer than any that Muster sends.
    """
    rest = b""
    for part in parts:
        *whole, rest = (rest + part).replace(b"\r\n", b"\n").split(b"\n")
        yield from (line.decode(errors="replace") for line in whole)
        if len(rest) > LONGEST_LINE:
            raise UnreachableError(f"the event stream has a line of more than {LONGEST_LINE >> 20} MiB")


def _events(lines: Iterator[str]) -> Iterator[ServerEvent]:
    name, ident, data = "", "", list[str]()
    for text in lines:
        if not text:
            if data:
                event = ServerEvent(name=name or "message", ident=ident, data=_decoded("\n".join(data)))
                if event.name == "error" and isinstance(event.data, dict):
                    raise from_problem(event.data)
                yield event
            name, data = "", []
            continue
        field, _, value = text.partition(":")
        value = value.removeprefix(" ")
        match field:
            case "event":
                name = value
            case "id":
                ident = value
            case "data":
                data.append(value)


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise UnreachableError("the event stream has a message that is not JSON") from error
