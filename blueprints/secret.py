"""Secrets of manifests: where one is found, never what it is."""

from __future__ import annotations

import os
from pathlib import Path

from muster.mesh.errors import UnavailableError
from muster.mesh.structs import Wire

MAX_SECRET = 64 * 1024
"""Bytes of a secret's file."""


class Secret(Wire, omit_defaults=True):
    """`{env: NAME}` or `{file: PATH}`, read by whoever checks with it, each time anew."""

    env: str | None = None
    file: str | None = None

    def read(self) -> bytes:
        """The secret itself; the line end of a file is not part of it.

        Raises:
            UnavailableError: it is missing or empty; the message never shows it.
        """
        if self.env is not None:
            found, place = os.environb.get(self.env.encode(), b""), f"the environment variable {self.env}"
        else:
            place = f"the file {self.file}"
            try:
                with Path(self.file or "").open("rb") as file:
                    found = file.read(MAX_SECRET).rstrip(b"\r\n")
            except OSError as error:
                raise UnavailableError(f"the secret in {place} cannot be read: {error.strerror}") from None
        if not found:
            raise UnavailableError(f"the secret in {place} is empty or not set for this process")
        return found
