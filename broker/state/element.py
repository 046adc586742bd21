"""Elements and other objects in their current state."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from muster.mesh.canonical import canonical
from muster.mesh.model import Mode
from muster.mesh.structs import Wire


class StoredObject(Wire):
    """A manifest that was applied, and its version."""

    kind: str
    name: str
    version: int
    manifest: dict[str, Any]
    created_at: datetime
    changed_at: datetime
    seq: int = 0
    """Of the record that made this version."""
    begun_at: datetime | None = None
    """Of a trigger: from when its schedule counts."""
    active_at: datetime | None = None
    """Of a trigger: since when it has been enabled with these settings; nothing before counts."""
    is_element: bool = False
    uses: tuple[str, ...] = ()
    """What must not be deleted while it is there: `KIND/NAME`, or `element/NAME`."""
    is_deleted: bool = False
    """Whether it was deleted; name and version remain, so that a new object of this name continues to count."""

    @property
    def key(self) -> str:
        """Its id among all objects; no name has a slash."""
        return f"{self.kind}/{self.name}"

    def says(self, manifest: dict[str, Any]) -> bool:
        """Whether this very manifest was applied."""
        return canonical(self.manifest) == canonical(manifest)


class Element(Wire):
    """The state of an element, which its manifest does not contain."""

    name: str
    kind: str
    mode: Mode = Mode.WORK_ORDER
    drained: bool = False
    agent: str | None = None
    """Id of the daemon that acts for it; None while it is offline."""
    place: str = ""
    """Host and state folder of that daemon, or of the last one."""
    last: str | None = None
    """The daemon that acts for it or was the last to do so."""
    succeeds: str | None = None
    """The daemon before it in the same place, which is dead: only one can run there."""
    since: datetime | None = None
    """When it last went online or offline."""

    @property
    def takes_work(self) -> bool:
        """Whether work orders may be released to it."""
        return self.mode is Mode.WORK_ORDER and not self.drained
