"""Libraries without what they would take along: a process is started often, and most of its start is imports."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without(*modules: str) -> Iterator[None]:
    """Within it, importing these modules fails, so that a library which can do without them does.

    For the optional ones that it would import for nothing.  They can be imported afterwards, and
    those that are there already stay.
    """
    hidden = [name for name in modules if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None is how Python forbids an import
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
