"""The library that Muster ships: put into a new mesh, and never again over what its people made of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import structlog

from muster.cli.api import Api, segment
from muster.mesh.errors import MusterError, NotFoundError

log = structlog.get_logger()

FILE: Final = "shipped.json"
"""Names of what this folder's mesh was given: what somebody deleted since then stays deleted."""


def apply(api: Api, data: Path) -> None:
    """Applies the objects of the library that this mesh was never given; reports a failure, and continues."""
    try:
        with api:
            _apply(api, data / FILE)
    except (MusterError, OSError) as error:
        log.warning("library.not_applied", error=str(error))


def _apply(api: Api, file: Path) -> None:
    is_new = not api.get("/api/v1/info")["objects"]
    given = set() if is_new or not file.exists() else set(json.loads(file.read_text()))
    manifests = [(name, manifest) for name, manifest in _library() if name not in given]
    missing = [manifest for name, manifest in manifests if not _is_there(api, manifest)]
    if missing:
        files = [{"name": f"{one['kind']}/{one['name']}", "text": json.dumps(one)} for one in missing]
        api.post("/api/v1/apply", {"files": files})
        log.info("library.applied", names=[one["name"] for one in missing])
    if manifests:
        file.write_text(json.dumps(sorted(given | {name for name, _ in manifests})) + "\n")


def _library() -> list[tuple[str, dict[str, Any]]]:
    import yaml

    from muster.blueprints import library

    documents = [found for path in library.paths() for found in yaml.safe_load_all(path.read_text())]
    return [(f"{one['kind']}/{one['name']}", one) for one in documents if one]


def _is_there(api: Api, manifest: dict[str, Any]) -> bool:
    try:
        api.get(f"/api/v1/{segment(manifest['kind'])}s/{segment(manifest['name'])}")
    except NotFoundError:
        return False
    return True
