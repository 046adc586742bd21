"""Blueprints that come with Muster."""

from __future__ import annotations

from pathlib import Path


def paths() -> list[Path]:
    """The manifests, in the order of their names."""
    return sorted(Path(__file__).parent.glob("*.yaml"))
