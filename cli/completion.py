"""`muster completion`: what a shell needs to complete the command line."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from muster.mesh.errors import RefusedError, UsageError

Shell = Literal["bash", "zsh", "fish"]


def completion(
    shell: Annotated[Shell | None, Parameter(help="Which shell; the one of $SHELL if it is not given.")] = None,
    /,
    *,
    install: Annotated[bool, Parameter(help="Put it where the shell looks, instead of printing it.")] = False,
) -> None:
    """Print or install completion for bash, zsh or fish."""
    from muster.cli.main import application

    chosen = shell or _current()
    app = application()
    if not install:
        sys.stdout.write(app.generate_completion(prog_name="muster", shell=chosen))
        return
    try:
        path = app.install_completion(shell=chosen)
    except OSError as error:
        hint = f"print it with `muster completion {chosen}`, and put it where your shell looks"
        raise RefusedError(f"cannot write {error.filename}: {error.strerror}; {hint}") from error
    sys.stdout.write(f"completion for {chosen} is in {path}; start a new shell to use it\n")


def _current() -> Shell:
    name = Path(os.environ.get("SHELL", "")).name
    match name:
        case "bash" | "zsh" | "fish":
            return name
        case _:
            raise UsageError(f"which shell? write bash, zsh or fish behind the command ($SHELL is {name or 'not set'})")
