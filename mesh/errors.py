"""All errors that a user can meet, in one hierarchy.

The class docstring is the first half of the message, the fields the second: what, where, and the
hint.  Exit code and HTTP status stand on the class, so each is decided in one place.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

import msgspec

MALFORMED: Final = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)
"""What msgspec raises for bytes that are no JSON; its ValidationError, for JSON of another shape, is one of them."""


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing wrong with what somebody gave us."""

    message: str
    path: str = ""
    """Where in the document: `tasks[1].with.url`, `inputs.disk_limit`."""
    file: str = ""
    line: int = 0
    column: int = 0
    hint: str = ""
    """What to do about it, a sentence."""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}: " if self.file and self.line else f"{self.file}: " if self.file else ""
        path = f"{self.path}: " if self.path else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{place}{path}{self.message}{hint}"


class MusterError(Exception):
    """Something went wrong that the user should know of."""

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
        """The error as an RFC 9457 problem."""
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
    """A manifest, filter or input is not valid."""

    exit_code = 2
    status = 422
    code = "invalid"


class TooLargeError(MusterError):
    """Something is larger than its limit."""

    exit_code = 2
    status = 413
    code = "too-large"


class RefusedError(MusterError):
    """The mesh refused it."""

    exit_code = 3
    status = 409
    code = "refused"


class NotFoundError(RefusedError):
    """There is no such thing."""

    status = 404
    code = "not-found"


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
    """The mesh cannot take this just now."""

    code = "unavailable"


class StorageError(UnavailableError):
    """The NATS server cannot store anything just now."""

    code = "storage"


class VersionError(RefusedError):
    """Processes of versions that do not fit."""

    code = "version"


class ForbiddenError(RefusedError):
    """This may not be asked from there."""

    status = 403
    code = "forbidden"


class WaitTimeoutError(MusterError):
    """The time given to wait has passed."""

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
    """The error that `as_problem` told of, on the other side of the wire; what is not known here goes by its status."""
    code = str(body.get("type", "")).rpartition(":")[2]
    problems = msgspec.convert(body.get("errors", []), list[Problem], strict=False)
    status = body.get("status")
    refused = isinstance(status, int) and 400 <= status < 500  # noqa: PLR2004 - HTTP's client errors
    kind = BY_CODE.get(code) or (RefusedError if refused else MusterError)
    return kind(str(body.get("detail", "no detail given")), *problems)
