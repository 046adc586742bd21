"""`kind: resource_broker`: an element that makes and removes other elements."""

from __future__ import annotations

from typing import Literal

from muster.blueprints.objects.base import ElementManifest, ObjectKind
from muster.blueprints.objects.element_checks import check_element


class ResourceBroker(ElementManifest):
    """Where elements come from: a hypervisor, a cloud account, a rack."""

    kind: Literal["resource_broker"] = "resource_broker"


RESOURCE_BROKER = ObjectKind(kind="resource_broker", manifest=ResourceBroker, check=check_element, is_element=True)
