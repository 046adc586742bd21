"""The lease of the mesh: how long an agent may be silent before its orders go to somebody else."""

from __future__ import annotations

from datetime import timedelta


class Lease:
    """The lease that is wanted, and the one that the server still grants.

    While the setting changes they differ.  Agents already use the shorter one, and the server and this broker still
    wait for the longer one: nobody gets an order as long as another agent may run it.
    """

    def __init__(self, granted: timedelta) -> None:
        self.granted = granted
        self.wanted = granted

    @property
    def shorter(self) -> timedelta:
        """For how long an agent may run an order without having renewed it."""
        return min(self.wanted, self.granted)

    @property
    def longer(self) -> timedelta:
        """For how long an order is not given to anybody else."""
        return max(self.wanted, self.granted)

    @property
    def is_changing(self) -> bool:
        """Whether some processes still use another lease than is wanted."""
        return self.wanted != self.granted
