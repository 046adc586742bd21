"""`kind: profile`: params that several elements share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from muster.blueprints.objects.base import Catalog, Manifest, ObjectKind
from muster.blueprints.objects.element_checks import check_params
from muster.mesh.errors import Problem


class Profile(Manifest):
    """A named set of params."""

    kind: Literal["profile"] = "profile"
    params: dict[str, Any] = {}


def check(manifest: Profile, catalog: Catalog) -> Iterable[Problem]:
    """Params that do not fit their declaration."""
    return check_params(manifest.params, catalog)


PROFILE = ObjectKind(kind="profile", manifest=Profile, check=check)
