"""The kinds of task, one a file, each found by its entry point in the group `muster.tasks`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points

from muster.blueprints.task import Kind


class _Kinds(Mapping[str, Kind]):
    """Loads each kind when it is first asked for: an agent imports only what it runs."""

    def __init__(self, points: Mapping[str, EntryPoint]) -> None:
        self._points = points
        self._loaded: dict[str, Kind] = {}

    def __getitem__(self, name: str) -> Kind:
        kind = self._loaded.get(name)
        if kind is None:
            made = self._points[name].load()()
            if not isinstance(made, Kind):
                raise TypeError(f"{self._points[name].value} is not a kind of task: it needs `check` and `run`")
            kind = self._loaded[name] = made
        return kind

    def __iter__(self) -> Iterator[str]:
        return iter(self._points)

    def __len__(self) -> int:
        return len(self._points)

    def __contains__(self, name: object) -> bool:
        return name in self._points


@lru_cache(maxsize=1)
def task_kinds() -> Mapping[str, Kind]:
    """Every kind of task that is installed, by the name that `uses:` says."""
    return _Kinds({point.name: point for point in entry_points(group="muster.tasks")})
