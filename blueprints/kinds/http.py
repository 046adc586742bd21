"""`uses: http`: one HTTP request.  httpx is imported with the first one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from muster.blueprints.definition import Task, duration
from muster.blueprints.kinds.fields import check_fields, read_fields
from muster.blueprints.kinds.http_fields import HttpFields, Secret, fits, is_expectation, shown_url
from muster.blueprints.kinds.http_reply import ACCEPTED_CODING, Reply, read_reply
from muster.blueprints.paths import join
from muster.blueprints.reach import Reach
from muster.blueprints.task import Context, Done, Failed, Outcome
from muster.blueprints.templates import is_template
from muster.mesh.environment import KEYS
from muster.mesh.errors import Problem
from muster.mesh.lean import without

if TYPE_CHECKING:
    import httpx

MOST_REDIRECTS = 20
"""In a row."""


class Http:
    """Asks a server, and takes its answer as outputs."""

    def check(self, task: Task, path: str) -> Iterator[Problem]:
        """Unknown fields, two bodies, a URL or timeout or expectation that is none."""
        yield from check_fields(HttpFields, task, path)
        inside = join(path, "with")
        bodies = [name for name in ("json", "body", "form") if name in task.with_]
        if len(bodies) > 1:
            yield Problem(path=inside, message=f"say one of {' and '.join(bodies)}: a request has one body")
        url, span, expect = (task.with_.get(name) for name in ("url", "timeout", "expect"))
        if isinstance(url, str) and not is_template(url) and not url.startswith(("http://", "https://")):
            yield Problem(
                path=join(inside, "url"), message=f"{shown_url(url)!r} does not start with http:// or https://"
            )
        if isinstance(span, str) and not is_template(span):
            try:
                duration(span)
            except ValueError as error:
                yield Problem(path=join(inside, "timeout"), message=str(error))
        for place, wanted in enumerate(expect if isinstance(expect, list) else [expect]):
            if isinstance(wanted, int | str) and not is_template(str(wanted)) and not is_expectation(wanted):
                at = join(inside, "expect", place) if isinstance(expect, list) else join(inside, "expect")
                yield Problem(path=at, message=f"{wanted!r} is not a status", hint="write 200, 2xx or a list of them")
        yield from _check_secrets(task.with_.get("headers"), join(inside, "headers"))

    async def run(self, task: Task, context: Context) -> Outcome:
        """Send the request, read the answer, compare its status."""
        fields = read_fields(HttpFields, task)
        if isinstance(fields, str):
            return Failed(error=fields, final=True)
        try:
            headers, secrets = _headers(fields)
            limit = duration(fields.timeout)
        except ValueError as error:
            return Failed(error=str(error), final=True)
        request = f"{fields.method.upper()} {shown_url(fields.url)}"
        started = time.monotonic()
        reply = await _exchange(fields, headers, limit, secrets, context.reach)
        if isinstance(reply, Failed):
            await context.write(f"{request}: {reply.error}\n".encode())
            return Failed(error=f"{request}: {reply.error}", final=reply.final)
        spent = round((time.monotonic() - started) * 1000)
        size = f"{reply.size} bytes{' or more' if reply.truncated else ''}"
        await context.write(f"{request} → {reply.status} {reply.reason}, {size}, {spent} ms\n".encode())
        if not any(fits(reply.status, wanted) for wanted in _expected(fields)):
            wanted = " or ".join(str(each) for each in _expected(fields))
            return Failed(
                error=f"{request} answered {reply.status} {reply.reason}, not {wanted}{reply.excerpt()}",
                outputs=reply.outputs(),
            )
        return Done(outputs=reply.outputs())


def _check_secrets(headers: Any, path: str) -> Iterator[Problem]:
    for name, value in headers.items() if isinstance(headers, dict) else ():
        env = value.get("env") if isinstance(value, dict) else None
        if isinstance(env, str) and env in KEYS:
            message = f"{env} opens the mesh, and is not for tasks"
            yield Problem(path=join(path, name, "env"), message=message, hint="name a variable of your own")


def _expected(fields: HttpFields) -> Sequence[int | str]:
    return [fields.expect] if isinstance(fields.expect, int | str) else fields.expect


def _headers(fields: HttpFields) -> tuple[dict[str, str], list[str]]:
    """The headers, and those of their values that are secret.

    Raises:
        ValueError: a secret is missing, or cannot be a header.
    """
    headers: dict[str, str] = {}
    secrets: list[str] = []
    for name, value in fields.headers.items():
        if isinstance(value, Secret):
            secret = value.read()
            secrets.append(secret)
            headers[name] = value.prefix + secret
        else:
            headers[name] = str(value)
        if not name.isascii() or not headers[name].isprintable():
            raise ValueError(f"with.headers: the value of {name!r} cannot be in a header")
    return headers, secrets


async def _exchange(
    fields: HttpFields, headers: dict[str, str], limit: timedelta, secrets: Sequence[str], reach: Reach
) -> Reply | Failed:
    with without("click"):  # else its command line comes along, with rich and pygments: memory for nothing
        import httpx
    from muster.blueprints.kinds.http_connect import DeniedError

    try:
        async with asyncio.timeout(limit.total_seconds()), _client(fields, reach) as client:
            request = client.build_request(
                fields.method.upper(), fields.url, headers=headers, params=fields.query or None, **_body(fields)
            )
            response = await _answer(client, request, fields)
            try:
                return await read_reply(response, secrets)
            finally:
                await response.aclose()
    except TimeoutError:
        return Failed(error=f"no answer within {fields.timeout}")
    except (DeniedError, httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.TooManyRedirects) as error:
        return Failed(error=str(error), final=True)
    except httpx.LocalProtocolError:
        return Failed(error="the request cannot be sent: a header or its name is not valid", final=True)
    except (httpx.HTTPError, OSError) as error:
        return Failed(error=str(error) or type(error).__name__)
    except (ValueError, TypeError):
        return Failed(error="the request cannot be made of these fields", final=True)


async def _answer(client: httpx.AsyncClient, request: httpx.Request, fields: HttpFields) -> httpx.Response:
    """The last answer.  Redirects are followed here: httpx takes any header but Authorization to any server."""
    import httpx

    for _ in range(MOST_REDIRECTS + 1):
        response = await client.send(request, stream=True)
        following = response.next_request
        if following is None or not fields.redirects:
            return response
        await response.aclose()
        if _server(following.url) != _server(request.url):
            for name in [name for name, value in fields.headers.items() if isinstance(value, Secret)]:
                following.headers.pop(name, None)
        request = following
    raise httpx.TooManyRedirects(f"more than {MOST_REDIRECTS} redirects", request=request)


def _server(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _client(fields: HttpFields, reach: Reach) -> httpx.AsyncClient:
    from muster.blueprints.kinds import http_connect

    # Only https needs the certificates, and reading them takes longer than most requests.
    is_plain = fields.url.startswith("http://") and not fields.redirects
    certificates = None if is_plain else _certificates()
    return http_connect.client(reach, certificates, {"accept-encoding": ACCEPTED_CODING})


def _certificates() -> Any:
    global _context  # noqa: PLW0603 - one for the process
    if _context is None:
        import httpx

        _context = httpx.create_ssl_context()
    return _context


_context: Any = None


def _body(fields: HttpFields) -> dict[str, Any]:
    if fields.has_json:
        return {"json": fields.json}
    if fields.form is not None:
        return {"data": {name: str(value) for name, value in fields.form.items()}}
    if fields.body is not None:
        return {"content": fields.body if isinstance(fields.body, str) else str(fields.body)}
    return {}
