"""What is checked on every kind of element."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from muster.blueprints.objects import element_kinds
from muster.blueprints.objects.base import Catalog, ElementManifest
from muster.blueprints.schemas import schema_problems
from muster.blueprints.suggest import did_you_mean
from muster.mesh.errors import Problem


def check_element(manifest: ElementManifest, catalog: Catalog) -> Iterable[Problem]:
    """Unknown and repeated profiles, and params that do not fit their declaration."""
    for place, profile in enumerate(manifest.profiles):
        path = f"profiles[{place}]"
        if catalog.get("profile", profile) is None:
            known = [other.name for other in catalog.all("profile")]
            yield Problem(path=path, message=f"there is no profile {profile!r}", hint=did_you_mean(profile, known))
        elif profile in manifest.profiles[:place]:
            yield Problem(path=path, message=f"profile {profile!r} is listed twice")
    yield from check_params(manifest.params, catalog)


def check_reference(name: str, path: str, catalog: Catalog) -> Iterator[Problem]:
    """Reports the name of an element that does not exist, of any kind."""
    kinds = element_kinds()
    if all(catalog.get(kind, name) is None for kind in kinds):
        known = [element.name for kind in kinds for element in catalog.all(kind)]
        yield Problem(path=path, message=f"there is no element {name!r}", hint=did_you_mean(name, known))


def check_params(params: Mapping[str, Any], catalog: Catalog) -> Iterator[Problem]:
    """Params against the schema of the `param` object of their name, where there is one."""
    for name, value in params.items():
        declared = catalog.get("param", name)
        if declared is not None:
            yield from schema_problems(getattr(declared, "schema", {}), value, f"params.{name}")
