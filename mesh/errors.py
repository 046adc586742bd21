"""All errors that a user can see, in one hierarchy.

The class docstring is the title of an error; its fields say what, where, and how to fix it.  The class defines the
exit code and the HTTP status, so that each is decided in one place.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

import msgspec

MALFORMED: Final = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)
"""The errors that msgspec raises for malformed JSON, and, as ValidationError, for JSON of another shape."""


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One problem of an input."""

    message: str
    path: str = ""
    """The place in the document: `tasks[1].with.url`, `inputs.disk_limit`."""
    file: str = ""
    line: int = 0
    column: int = 0
    hint: str = ""
    """How to fix it, in one sentence."""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}: " if self.file and self.line else f"{self.file}: " if self.file else ""
        path = f"{self.path}: " if self.path else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{place}{path}{self.message}{hint}"


class MusterError(Exception):
    """An error that is reported to the user."""

    exit_code: ClassVar[int] = 1
    status: ClassVar[int] = 500
    code: ClassVar[str] = "error"

    def __init__(self, detail: str, *problems: Problem) -> None:
        super().__init__(detail)
        self.detail = detail
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join([self.detail, *(f"  {problem}" for problem in self.problems)])

    def as_problem(self) -> dict[str, Any]:
        """Returns the error as an RFC 9457 problem."""
        body: dict[str, Any] = {
            "type": f"urn:muster:problem:{self.code}",
            "title": (type(self).__doc__ or "").split("\n", 1)[0].rstrip("."),
            "status": self.status,
            "detail": self.detail,
        }
        if self.problems:
            body["errors"] = msgspec.to_builtins(self.problems)
        return body


class BugError(MusterError):
    """This is a bug of Muster."""

    code = "bug"


class UsageError(MusterError):
    """The command or request was not understood."""

    exit_code = 2
    status = 400
    code = "usage"


class InvalidError(MusterError):
    """A manifest, filter or input is invalid."""

    exit_code = 2
    status = 422
    code = "invalid"


class TooLargeError(MusterError):
    """An input exceeds its limit."""

    exit_code = 2
    status = 413
    code = "too-large"


class RefusedError(MusterError):
    """The mesh refused the request."""

    exit_code = 3
    status = 409
    code = "refused"


class NotFoundError(RefusedError):
    """The object does not exist."""

    status = 404
    code = "not-found"


class GoneError(RefusedError):
    """Some of the events that were asked for are no longer kept."""

    status = 410
    code = "gone"

    after = ""
    """The place to continue from."""
    first: str | None = None
    """The first event that is kept; None if there is none."""

    @classmethod
    def up_to(cls, after: str, first: str | None) -> GoneError:
        """Returns the error that says what is kept."""
        kept = f"the first event that is kept is {first}" if first else "no event is kept"
        error = cls(f"events up to {after} are no longer kept; {kept}. Continue with `after` {after}")
        error.after, error.first = after, first
        return error

    def as_problem(self) -> dict[str, Any]:
        """Returns the error as an RFC 9457 problem, with where to continue."""
        return super().as_problem() | {"after": self.after, "first": self.first}


class UnauthorizedError(RefusedError):
    """The token is missing or wrong."""

    status = 401
    code = "unauthorized"


class UnreachableError(MusterError):
    """The mesh cannot be reached."""

    exit_code = 4
    status = 503
    code = "unreachable"


class UnavailableError(UnreachableError):
    """The mesh cannot process the request now."""

    code = "unavailable"


class StorageError(UnavailableError):
    """The NATS server cannot store messages now."""

    code = "storage"


class VersionError(RefusedError):
    """The versions of two processes do not match."""

    code = "version"


class ForbiddenError(RefusedError):
    """The caller must not send this request."""

    status = 403
    code = "forbidden"


class WaitTimeoutError(MusterError):
    """The timeout has passed."""

    exit_code = 124
    status = 504
    code = "timeout"


BY_CODE: dict[str, type[MusterError]] = {
    kind.code: kind
    for kind in (
        UsageError,
        InvalidError,
        TooLargeError,
        RefusedError,
        ForbiddenError,
        GoneError,
        VersionError,
        NotFoundError,
        UnauthorizedError,
        UnreachableError,
        UnavailableError,
        StorageError,
        WaitTimeoutError,
    )
}


def from_problem(body: dict[str, Any]) -> MusterError:
    """Returns the error that `as_problem` encoded.  The status of an unknown type decides its class."""
    code = str(body.get("type", "")).rpartition(":")[2]
    problems = msgspec.convert(body.get("errors", []), list[Problem], strict=False)
    status = body.get("status")
    refused = isinstance(status, int) and 400 <= status < 500  # noqa: PLR2004 - HTTP's client errors
    kind = BY_CODE.get(code) or (RefusedError if refused else MusterError)
    error = kind(str(body.get("detail", "no detail given")), *problems)
    if isinstance(error, GoneError):
        error.after, error.first = str(body.get("after") or "0"), body.get("first")
    return error
