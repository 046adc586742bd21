"""`kind: machine`: a host, or anything that one agent acts for directly."""

from __future__ import annotations

from typing import Literal

from muster.blueprints.objects.base import ElementManifest, ObjectKind
from muster.blueprints.objects.element_checks import check_element


class Machine(ElementManifest):
    """One host."""

    kind: Literal["machine"] = "machine"


MACHINE = ObjectKind(kind="machine", manifest=Machine, check=check_element, is_element=True)
