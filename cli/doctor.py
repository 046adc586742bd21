"""`muster doctor`: check this installation, and say what is wrong in words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from muster.cli.options import COMMON, Common
from muster.cli.output import Column, document, say, table
from muster.cli.roles import Data, Server
from muster.mesh.settings import DEFAULT_API, DEFAULT_SERVER, data_home, setting
from muster.mesh.tokens import API, NATS, find, kept_address

if TYPE_CHECKING:
    from muster.cli.checks import Check


def doctor(
    *,
    server: Server = None,
    data: Annotated[Data, Parameter(help="Folder to check. [env: MUSTER_DATA]")] = None,
    common: Common = COMMON,
) -> int:
    """Check this installation, and say what is wrong and what to do about it."""
    from muster.cli import checks

    api = common.api or setting("api", DEFAULT_API)
    folder = (data or data_home()).absolute()
    token = find(API, api, folder)
    if data is None and token is not None and token.owner is not None:
        folder = Path(token.source).parent  # where the mesh at this address keeps its data
    where = server or setting("server", "") or kept_address(NATS, folder) or DEFAULT_SERVER
    found = checks.all_of(
        checks.Where(
            api=api,
            token=token,
            server=where,
            nats_token=find(NATS, where, folder),
            data=folder,
        )
    )
    wrong = [check for check in found if check.result == "wrong"]
    if common.output != "table":
        document({"healthy": not wrong, "checks": found}, common.output)
        return 1 if wrong else 0
    table(
        found,
        (
            Column(title="RESULT", value=lambda check: check.result),
            Column(title="CHECK", value=lambda check: check.name),
            Column(title="FOUND", value=lambda check: check.found, flexible=True),
        ),
    )
    for check in found:
        if check.hint:
            say("")
            say((f"{check.name}: ", "bold"), check.hint)
    say("")
    say(_verdict(found))
    return 1 if wrong else 0


def _verdict(found: Sequence[Check]) -> tuple[str, str]:
    """The last line, and its style."""
    wrong, warnings = (sum(check.result == result for check in found) for result in ("wrong", "warning"))
    if wrong:
        return f"{wrong} of {len(found)} checks failed", "bold red"
    if warnings:
        return f"nothing is wrong, but {warnings} of {len(found)} checks warn", "yellow"
    return "all is well", "green"
