"""The reader's mesh: `muster up` was typed, and answers."""

from __future__ import annotations

import textwrap
from collections.abc import Awaitable, Callable

import pytest

from tests.kit.meshes import Mesh

Say = Callable[..., Awaitable[str]]
Apply = Callable[[str], Awaitable[str]]


@pytest.fixture
def muster(mesh: Mesh) -> Say:
    """Type a command that ends well; what it printed.  Words are split at spaces, further arguments are not."""

    async def say(words: str, *more: str) -> str:
        return await mesh.ok(*words.split(), *more)

    return say


@pytest.fixture
def apply(mesh: Mesh) -> Apply:
    """`muster apply -f -` with manifests on standard input."""

    async def say(manifests: str) -> str:
        return await mesh.ok("apply", "-f", "-", stdin=textwrap.dedent(manifests).encode())

    return say
