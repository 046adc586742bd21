"""Prints the steps of the example, and checks its expectations."""

from __future__ import annotations

import os
import sys
import time

_STARTED = time.monotonic()


class UnexpectedError(Exception):
    """An expectation of the example does not hold."""


def step(title: str, command: str = "") -> None:
    """Prints the title of a step."""
    say("")
    say(_styled(f"== {title}", "1;36") + _styled(f"  [{time.monotonic() - _STARTED:.1f} s]", "2"))
    if command:
        say(_styled(f"   $ {command}", "2"))


def say(text: str) -> None:
    """Prints a line."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def expect(claim: str, holds: object, found: object = "") -> None:
    """Checks an expectation, and prints it.

    Raises:
        UnexpectedError: it does not hold.
    """
    if not holds:
        raise UnexpectedError(f"{claim}; found: {found!r}")
    say(f"   {_styled('✔', '32')} {claim}")


def wrong(text: str) -> None:
    """Prints an error to standard error."""
    sys.stdout.flush()
    sys.stderr.write(f"\n{_styled('✘', '1;31')} {text}\n")


def _styled(text: str, style: str) -> str:
    return f"\033[{style}m{text}\033[0m" if sys.stdout.isatty() and not os.environ.get("NO_COLOR") else text
