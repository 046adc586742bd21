"""Options that many commands share, and the words in which a few values are given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final, Literal

from cyclopts import Group, Parameter

from muster.blueprints.definition import duration
from muster.cli.candidates import of_kinds
from muster.mesh.errors import UsageError
from muster.mesh.settings import DEFAULT_API, data_home, setting
from muster.mesh.tokens import API, Token, find

if TYPE_CHECKING:
    from muster.cli.api import Api

Format = Literal["table", "json", "yaml"]
LogLevel = Literal["debug", "info", "warning", "error"]

HOW: Final = Group("Where and how", sort_key=90)

AnyOrder = Annotated[str, Parameter(help="The order's id, or the start of it if no other starts so.")]
AnyKind = Annotated[
    str,
    Parameter(help="A kind of object, or its plural; `muster get kinds` lists them.", completer=of_kinds),
]

PLAIN: Final = "Print job output without its escape sequences and control characters; -o json has all of it."


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Common:
    """Where the mesh is, and how to print."""

    api: Annotated[
        str | None,
        Parameter(group=HOW, help=f"URL of the HTTP API. [env: MUSTER_API] [default: {DEFAULT_API}]"),
    ] = None
    output: Annotated[
        Format,
        Parameter(name=("--output", "-o"), group=HOW, help="How to print; json and yaml are for programs."),
    ] = "table"

    def connect(self) -> Api:
        """The API that the options, the environment or the context name."""
        from muster.cli.api import Api

        url = self.api or setting("api", DEFAULT_API)
        return Api(url, token=token_for(url))


COMMON: Final = Common()


def token_for(api: str) -> Token | None:
    """The token that belongs to this API: another address is not shown it."""
    return find(API, api, data_home().absolute())


def seconds(text: str) -> float:
    """A duration that somebody typed; a bare number is seconds.

    Raises:
        UsageError: it is none.
    """
    try:
        return float(text) if text.replace(".", "", 1).isdecimal() else duration(text).total_seconds()
    except ValueError as error:
        raise UsageError(str(error)) from error


def key_value(text: str) -> tuple[str, str]:
    """`KEY=VALUE` in its two halves.

    Raises:
        UsageError: there is no `=`, or nothing before it.
    """
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UsageError(f"an input is given as KEY=VALUE, not {text!r}")
    return name, value
