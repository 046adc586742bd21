"""Which elements are in which pool: those with a name, and those that a filter of a trigger or an order defines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from muster.blueprints.expressions import Filter
from muster.mesh.errors import InvalidError

View = Callable[[str], Mapping[str, Any]]
"""An element as filters see it."""


class Pools:
    """An index over elements; whoever changes an element or a pool brings it up to date."""

    def __init__(self) -> None:
        self.members: dict[str, set[str]] = {}
        self._filters: dict[str, Filter] = {}
        self._uses: dict[str, int] = {}
        """Pools without a name, and by how many triggers and open orders each is used."""
        self._wheres: dict[str, str] = {}
        self._of_trigger: dict[str, str] = {}

    def group(self, pool: str, where: str, elements: Mapping[str, object], view: View) -> set[str]:
        """Works out a pool's members; returns those that joined or left.

        The filter was checked before it was written, but an older Muster may have accepted what this one does not:
        what is not a filter matches nobody.
        """
        before = self.members.get(pool, set())
        self._filters.pop(pool, None)
        after: set[str] = set()
        with suppress(InvalidError):
            chosen = self._filters[pool] = Filter(where)
            after = {name for name in elements if chosen.matches(view(name))}
        self.members[pool] = after
        return before ^ after

    def drop(self, pool: str) -> set[str]:
        """Forgets a pool; returns who was a member."""
        self._filters.pop(pool, None)
        return self.members.pop(pool, set())

    def regroup(self, element: str, view: Mapping[str, Any] | None) -> list[str]:
        """Works out which pools an element is in, None: it is gone; returns the pools that it joined or left."""
        changed = []
        for pool, chosen in self._filters.items():
            members = self.members[pool]
            if (view is not None and chosen.matches(view)) == (element in members):
                continue
            members.symmetric_difference_update({element})
            changed.append(pool)
        return sorted(changed)

    def matches(self, pool: str, view: Mapping[str, Any]) -> bool:
        """Whether a pool's filter matches an element as it is given."""
        chosen = self._filters.get(pool)
        return chosen is not None and chosen.matches(view)

    def of(self, element: str) -> tuple[str, ...]:
        """Returns the pools that an element is in, by name."""
        return tuple(sorted(pool for pool, members in self.members.items() if element in members))

    # -- pools without a name -------------------------------------------------------------------

    def use(self, pool: str, where: str) -> bool:
        """One more needs the pool that a filter defines; whether it is the first."""
        self._wheres[pool] = where
        self._uses[pool] = self._uses.get(pool, 0) + 1
        return self._uses[pool] == 1

    def leave(self, pool: str) -> bool:
        """One fewer needs it; whether it was the last."""
        left = self._uses.get(pool, 0) - 1
        if left > 0:
            self._uses[pool] = left
            return False
        self._uses.pop(pool, None)
        self._wheres.pop(pool, None)
        return True

    def use_by(self, trigger: str, pool: str | None, where: str) -> list[str]:
        """A trigger needs this pool from now on, None: it needs none; returns the pools that came or went."""
        before = self._of_trigger.pop(trigger, None)
        changed = []
        if pool is not None:
            self._of_trigger[trigger] = pool
            if self.use(pool, where):
                changed.append(pool)
        if before is not None and self.leave(before):
            changed.append(before)
        return changed

    def where(self, pool: str) -> str | None:
        """Returns the filter of a pool without a name that somebody needs."""
        return self._wheres.get(pool)

    def is_queue(self, pool: str) -> bool:
        """Whether it is a pool without a name that somebody needs."""
        return pool in self._uses

    def queues(self) -> Iterator[str]:
        """Returns all pools without a name."""
        return iter(self._uses)

    def uses(self, pool: str) -> int:
        """Returns by how many triggers and open orders a pool without a name is used."""
        return self._uses.get(pool, 0)
