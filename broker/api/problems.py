"""Errors as RFC 9457 problems: ours, Litestar's, and bugs, all in one shape and never a traceback."""

from __future__ import annotations

from collections import defaultdict
from functools import cache
from typing import Any

import msgspec
import nats.errors
import structlog
from litestar import Litestar, Request, Response
from litestar.exceptions import HTTPException, ValidationException
from litestar.status_codes import (
    HTTP_204_NO_CONTENT,
    HTTP_404_NOT_FOUND,
    HTTP_405_METHOD_NOT_ALLOWED,
    HTTP_413_REQUEST_ENTITY_TOO_LARGE,
    HTTP_500_INTERNAL_SERVER_ERROR,
)
from litestar.types import ExceptionHandlersMap
from nats.js.errors import APIError

from muster.blueprints.suggest import did_you_mean
from muster.mesh import storing
from muster.mesh.errors import (
    BugError,
    InvalidError,
    MusterError,
    NotFoundError,
    Problem,
    TooLargeError,
    UnauthorizedError,
    UnavailableError,
    UsageError,
)

log = structlog.get_logger()

MEDIA_TYPE = "application/problem+json"


class MethodNotAllowedError(UsageError):
    """There is nothing to do so at this address."""

    status = 405
    code = "method-not-allowed"


def respond(error: MusterError, headers: dict[str, str] | None = None) -> Response[bytes]:
    """The error as an HTTP answer."""
    if isinstance(error, UnauthorizedError):
        headers = {"WWW-Authenticate": 'Bearer realm="muster"', **(headers or {})}
    return Response(
        msgspec.json.encode(error.as_problem()), status_code=error.status, media_type=MEDIA_TYPE, headers=headers or {}
    )


def unexpected(error: Exception, where: str) -> MusterError:
    """What to say about an exception that nobody caught: JetStream has refused or not answered, or it is a bug."""
    if isinstance(error, nats.errors.Error):
        log.warning("api.jetstream", where=where, error=repr(error))
        return storing.refused(error) if isinstance(error, APIError) else UnavailableError("JetStream does not answer")
    return bug(error, where)


def bug(error: Exception, where: str) -> BugError:
    """The error for an exception that nobody expected; the traceback goes to the log only."""
    log.error("api.bug", where=where, error=repr(error), exc_info=error)
    return BugError(f"{type(error).__name__} while answering {where}; the broker's log has more")


def _ours(_: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    return respond(error if isinstance(error, MusterError) else BugError(str(error)))


def _litestars(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    if not isinstance(error, HTTPException):
        return respond(unexpected(error, f"{request.method} {request.url.path}"))
    kept = {name: value for name, value in (error.headers or {}).items() if name.lower() == "allow"}
    return respond(_translated(request, error), kept)


def _translated(request: Request[Any, Any, Any], error: HTTPException) -> MusterError:
    """What Litestar refuses, in our words."""
    where = f"{request.method} {request.url.path}"
    if isinstance(error, ValidationException):
        return InvalidError("the request's parameters are not valid", *_parameter_problems(error))
    if error.status_code >= HTTP_500_INTERNAL_SERVER_ERROR:
        return bug(error, where)
    if error.status_code == HTTP_404_NOT_FOUND:
        return NotFoundError(f"there is nothing at {request.url.path}; /schema/openapi.json lists what there is")
    if error.status_code == HTTP_405_METHOD_NOT_ALLOWED:
        return MethodNotAllowedError(f"{request.method} is not allowed at {request.url.path}")
    if error.status_code == HTTP_413_REQUEST_ENTITY_TOO_LARGE:
        limit = request.app.state.max_body
        return TooLargeError(f"the body is larger than {limit} bytes; send less, or several requests")
    return UsageError(error.detail)


def _parameter_problems(error: ValidationException) -> list[Problem]:
    extra = error.extra if isinstance(error.extra, list) else []
    found = [
        Problem(message=str(item.get("message", "is not valid")), path=str(item.get("key", "")))
        for item in extra
        if isinstance(item, dict)
    ]
    return found or [Problem(message=error.detail)]


async def before_request(request: Request[Any, Any, Any]) -> Response[None] | None:
    """Answer OPTIONS; refuse parameters that the route does not have: a mistyped filter would list everything.

    Litestar's own answer to OPTIONS names the methods of the first of a path's handlers only.

    Raises:
        InvalidError: there is an unknown parameter; all are named.
    """
    if request.method == "OPTIONS":
        allowed = ", ".join(_methods(request.app)[request.scope["path_template"]])
        return Response(None, status_code=HTTP_204_NO_CONTENT, headers={"Allow": allowed})
    if request.query_params:
        _refuse_unknown_parameters(request)
    return None


@cache
def _methods(app: Litestar) -> dict[str, list[str]]:
    """The methods of each path."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for route in app.routes:
        for handler in getattr(route, "route_handlers", ()):
            found[route.path_format] |= handler.http_methods
    return {path: sorted(methods) for path, methods in found.items()}


def _refuse_unknown_parameters(request: Request[Any, Any, Any]) -> None:
    fields = request.route_handler.parsed_fn_signature.parameters
    known = {getattr(field.kwarg_definition, "query", None) or name for name, field in fields.items()}
    known -= {"api", "request"} | set(request.path_params)
    problems = [
        Problem(message=f"there is no parameter {name!r}", path=name, hint=did_you_mean(name, known))
        for name in request.query_params
        if name not in known
    ]
    if problems:
        raise InvalidError("the request has unknown parameters", *problems)


HANDLERS: ExceptionHandlersMap = {MusterError: _ours, HTTPException: _litestars, Exception: _litestars}
