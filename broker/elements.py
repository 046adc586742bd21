"""What people may do with an element: switch its mode, drain it."""

from __future__ import annotations

from typing import Any

from muster.broker.accepted import accepted
from muster.broker.means import Means
from muster.broker.planning.targets import suggestion
from muster.broker.state.element import Element
from muster.mesh import records
from muster.mesh.caller import Caller
from muster.mesh.errors import NotFoundError
from muster.mesh.model import Mode


class Elements:
    """The write path of elements; what is in their manifests is `Objects`'."""

    def __init__(self, means: Means) -> None:
        self._world, self._log, self._query, _ = means

    async def set_mode(self, element: str, mode: Mode, *, by: Caller) -> dict[str, Any]:
        """Switches an element to another mode, and returns the element.

        Raises:
            NotFoundError: no such element.
        """
        if self._element(element).mode is not mode:
            accepted(await self._log.append(records.ModeChanged(element=element, mode=mode, by=by)))
        return await self._query.element(element)

    async def set_drained(self, element: str, *, drained: bool, by: Caller) -> dict[str, Any]:
        """Gives an element nothing new, or work again, and returns the element.

        Raises:
            NotFoundError: no such element.
        """
        if self._element(element).drained is not drained:
            accepted(await self._log.append(records.DrainChanged(element=element, drained=drained, by=by)))
        return await self._query.element(element)

    def _element(self, name: str) -> Element:
        elements = self._world.elements
        if name not in elements:
            raise NotFoundError(f"there is no element {name!r}{suggestion(name, elements)}")
        return elements[name]
