"""`kind: cluster`: several elements that are managed as one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from muster.blueprints.objects.base import Catalog, ElementManifest, ObjectKind, profiles_used
from muster.blueprints.objects.element_checks import check_element, check_reference
from muster.mesh.errors import Problem


class Cluster(ElementManifest):
    """A group of elements with an agent that acts for the whole."""

    kind: Literal["cluster"] = "cluster"
    members: tuple[str, ...] = ()
    """Names of elements."""


def check(manifest: Cluster, catalog: Catalog) -> Iterator[Problem]:
    """Members that do not exist, or are listed twice, or are the cluster itself."""
    yield from check_element(manifest, catalog)
    for place, member in enumerate(manifest.members):
        path = f"members[{place}]"
        if member == manifest.name:
            yield Problem(path=path, message="a cluster cannot be its own member")
        elif member in manifest.members[:place]:
            yield Problem(path=path, message=f"member {member!r} is listed twice")
        else:
            yield from check_reference(member, path, catalog)


def uses(manifest: Cluster) -> Iterator[str]:
    """Yields its profiles and its members."""
    yield from profiles_used(manifest)
    yield from (f"element/{member}" for member in manifest.members)


CLUSTER = ObjectKind(kind="cluster", manifest=Cluster, check=check, is_element=True, uses=uses)
