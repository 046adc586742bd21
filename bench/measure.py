"""What a measurement says: figures of several runs, the floor's beside ours, and what was asked."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import msgspec


class Goal(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of a ratio, or of a figure where there is no floor."""

    least: float | None = None
    most: float | None = None
    better: float | None = None
    """What one would like to see beyond that."""

    def is_met(self, value: float) -> bool:
        """Whether a value is as asked."""
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)

    def __str__(self) -> str:
        sign, asked = (">=", self.least) if self.least is not None else ("<=", self.most)
        return "shown" if asked is None else f"{sign} {asked:g}" + (f" ({self.better:g})" if self.better else "")


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One figure, measured several times."""

    gate: str
    what: str
    unit: str
    ours: list[float]
    floor: list[float] = []
    """The same work without Muster, in the same order: each of ours is compared with its own neighbour."""
    against: str = ""
    """What the floor is."""
    goal: Goal = Goal()
    note: str = ""

    @property
    def ratios(self) -> list[float]:
        """Ours by the floor's, pair by pair."""
        return [ours / floor for ours, floor in zip(self.ours, self.floor, strict=True)] if self.floor else []

    @property
    def judged(self) -> float:
        """What the goal is about: the median ratio, or the median figure."""
        return statistics.median(self.ratios or self.ours)

    @property
    def is_met(self) -> bool:
        """Whether it is as asked."""
        return self.goal.is_met(self.judged)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of the values does not exceed."""
    ranked = sorted(values)
    return ranked[max(0, math.ceil(share * len(ranked)) - 1)]
