"""What opens the mesh: the agent has it in its environment, and no task may."""

from __future__ import annotations

from typing import Final

MESH_KEYS: Final = frozenset(
    {
        "MUSTER_TOKEN",
        "MUSTER_TOKEN_FILE",
        "MUSTER_NATS_TOKEN",
        "MUSTER_NATS_TOKEN_FILE",
        "MUSTER_SERVER",
        "CREDENTIALS_DIRECTORY",
    }
)
"""Variables of the environment (a server's URL may hold a password)."""
