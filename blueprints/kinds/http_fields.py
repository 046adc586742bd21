"""What `with:` of an HTTP task may say."""

from __future__ import annotations

import os
import re
from typing import Any
from urllib.parse import urlsplit

import msgspec

from muster.blueprints.kinds.fields import Fields
from muster.mesh.environment import KEYS

_STATUS = re.compile(r"[1-5](?:[0-9]{2}|xx)")

Scalar = str | int | float | bool
"""A template that is one expression keeps its value's type, so numbers are as good as text."""


class Secret(Fields):
    """A value that is read on the agent and never printed."""

    env: str
    """A variable of the agent's environment."""
    prefix: str = ""
    """Comes before it: `Bearer `."""

    def read(self) -> str:
        """The value.

        Raises:
            ValueError: there is no such variable, it opens the mesh, or it has a line break; never with the value.
        """
        if self.env in KEYS:
            raise ValueError(f"{self.env} opens the mesh, and is not for tasks")
        found = os.environ.get(self.env)
        if found is None:
            raise ValueError(f"the agent's environment has no {self.env}")
        found = found.strip()
        if not found.isprintable():
            raise ValueError(f"the value of {self.env} in the agent's environment has a line break or the like")
        return found


class HttpFields(Fields):
    """What `with:` may say."""

    url: str
    method: str = "GET"
    headers: dict[str, Scalar | Secret] = {}
    """Text, or `{env: NAME}` for a secret of the agent's environment."""
    query: dict[str, Scalar] = {}
    json: Any | msgspec.UnsetType = msgspec.UNSET
    """The body as JSON; or `form`, or `body` (text)."""
    form: dict[str, Scalar] | None = None
    body: Scalar | None = None
    expect: int | str | tuple[int | str, ...] = "2xx"
    """Statuses that are well: 200, `2xx`, or a list of them."""
    timeout: str = "30s"
    """For the whole exchange."""
    redirects: bool = False
    """Whether to follow them."""

    @property
    def has_json(self) -> bool:
        """Whether a JSON body was given, be it null."""
        return self.json is not msgspec.UNSET


def is_expectation(wanted: int | str) -> bool:
    """Whether it is a status or a class of them."""
    return _STATUS.fullmatch(str(wanted)) is not None


def fits(status: int, wanted: int | str) -> bool:
    """Whether a status is what `expect` says."""
    text = str(wanted)
    return str(status).startswith(text[0]) if text.endswith("xx") else str(status) == text


def shown_url(url: str) -> str:
    """A URL without what could be secret in it: user, password, query."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return "the URL"
    return f"{parts.scheme}://{host}{parts.path}" if host else parts.path or url[:0]
