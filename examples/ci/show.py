"""What the example says while it goes, and what it holds to be true."""

from __future__ import annotations

import os
import sys
import time

_BEGAN = time.monotonic()


class UnexpectedError(Exception):
    """Something was not as the example says that it is."""


def step(title: str, command: str = "") -> None:
    """Begin a part of the story."""
    say("")
    say(_styled(f"== {title}", "1;36") + _styled(f"  [{time.monotonic() - _BEGAN:.1f} s]", "2"))
    if command:
        say(_styled(f"   $ {command}", "2"))


def say(text: str) -> None:
    """Print a line."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def expect(claim: str, holds: object, found: object = "") -> None:
    """Say what was expected, and go on if it is so.

    Raises:
        UnexpectedError: it is not.
    """
    if not holds:
        raise UnexpectedError(f"{claim}; found: {found!r}")
    say(f"   {_styled('✔', '32')} {claim}")


def wrong(text: str) -> None:
    """Say what went wrong, on standard error."""
    sys.stdout.flush()
    sys.stderr.write(f"\n{_styled('✘', '1;31')} {text}\n")


def _styled(text: str, style: str) -> str:
    return f"\033[{style}m{text}\033[0m" if sys.stdout.isatty() and not os.environ.get("NO_COLOR") else text
