"""Every account of a host can read command lines: a password does not stay on ours."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Final

from muster.mesh.addresses import has_password

VARIABLES: Final = {"--server": "MUSTER_SERVER", "--api": "MUSTER_API"}
"""Options whose URL may have a password, and the variables that say the same."""


def hide_passwords(argv: Sequence[str]) -> None:
    """Start this command anew, with the URL in the environment, if its command line has a password in it."""
    kept, moved = without_passwords(argv)
    if moved:
        own = sys.orig_argv[: len(sys.orig_argv) - len(argv)]
        os.execve(sys.executable, [*own, *kept], {**os.environ, **moved})  # noqa: S606 - our own command line


def without_passwords(argv: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """What of the arguments may stay, and the variables that take the place of the others."""
    kept, moved = list[str](), dict[str, str]()
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        option, equals, value = word.partition("=")
        if option in VARIABLES and not equals and rest:
            value = rest[0]
        if option in VARIABLES and has_password(value):
            moved[VARIABLES[option]] = value
            del rest[: 0 if equals else 1]
        else:
            kept.append(word)
    return kept, moved
