"""The table of all operations."""

from __future__ import annotations

from typing import Final

from muster.broker.operations import agents, elements, mesh, objects, orders, triggers
from muster.broker.operations.operation import Operation

OPERATIONS: Final[tuple[Operation, ...]] = (
    *orders.OPERATIONS,
    *objects.OPERATIONS,
    *elements.OPERATIONS,
    *triggers.OPERATIONS,
    *agents.OPERATIONS,
    *mesh.OPERATIONS,
)

ON_NATS: Final = tuple(operation for operation in OPERATIONS if operation.on_nats)
"""Those that NATS serves."""
