"""`muster doctor`: check this installation, and say what is wrong in words."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from muster.cli.options import COMMON, Common
from muster.cli.output import Column, document, say, table
from muster.cli.roles import Data, Server
from muster.mesh.settings import DEFAULT_API, DEFAULT_SERVER, data_home, setting
from muster.mesh.tokens import API, NATS, find


def doctor(
    *,
    server: Server = None,
    data: Annotated[Data, Parameter(help="Folder to look at. [env: MUSTER_DATA]")] = None,
    common: Common = COMMON,
) -> int:
    """Check this installation, and say what is wrong and what to do about it."""
    from muster.cli import checks

    api, where = common.api or setting("api", DEFAULT_API), server or setting("server", DEFAULT_SERVER)
    folder = (data or data_home()).absolute()
    found = checks.all_of(
        checks.Where(
            api=api,
            token=find(API, api, folder),
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
        if check.mend:
            say("")
            say((f"{check.name}: ", "bold"), check.mend)
    say("")
    say(("all is well", "green") if not wrong else (f"{len(wrong)} of {len(found)} checks failed", "bold red"))
    return 1 if wrong else 0
