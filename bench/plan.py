"""How thorough a run is."""

from __future__ import annotations

import sys
import time

import msgspec


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for on the command line."""

    runs: int = 3
    """Pairs of floor and subject."""
    quick: bool = False
    """Small sizes: to see that everything works, not how fast it is."""

    def size(self, whole: int) -> int:
        """How much to do: all of it, or a fifth."""
        return whole // 5 if self.quick else whole

    def say(self, gate: str, text: str) -> None:
        """Progress, for whoever watches."""
        sys.stderr.write(f"{time.strftime('%H:%M:%S')} {gate} {text}\n")
