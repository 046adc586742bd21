"""The smallest provider, for tests of what is behind all of them."""

from __future__ import annotations

from types import MappingProxyType
from typing import Literal

import pytest

from muster.blueprints import provider
from muster.blueprints.provider import Happening, Hook, HookRequest
from muster.blueprints.secret import Secret
from muster.mesh.errors import Problem


class Bell(Hook):
    """Fires whenever a message is sent."""

    tone: Literal["high", "low"] = "low"
    times: int = 1
    keys: dict[str, Secret] = {}

    def problems(self) -> list[Problem]:
        return [Problem(path="times", message="a bell rings at least once")] if self.times < 1 else []

    def receive(self, request: HookRequest) -> Happening:
        return Happening(event={"body": request.body.decode()})


@pytest.fixture
def bell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Installs the provider `bell`, beside those that are there."""
    kinds = MappingProxyType({**provider.provider_kinds(), "bell": Bell})
    monkeypatch.setattr(provider, "provider_kinds", lambda: kinds)
