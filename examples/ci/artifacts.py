"""A small artifact server: PUT with a bearer token and a checksum, GET for everybody."""

from __future__ import annotations

import hashlib
import hmac
import re
from http import HTTPStatus
from pathlib import Path
from typing import Final

from examples.ci.web import Handler, Server

MAX_SIZE: Final = 64 * 1024 * 1024
_PATH: Final = re.compile(r"/[a-z0-9-]+/[0-9a-f]{40}/[a-z0-9.-]+")


class Artifacts(Server):
    """Stores files in a folder, and never replaces a file with other content."""

    def __init__(self, folder: Path, token: str) -> None:
        super().__init__(_Handler)
        self.folder = folder
        self.token = token

    @property
    def names(self) -> list[str]:
        """Returns the paths of the published files."""
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*.pyz"))


class _Handler(Handler):
    server: Artifacts

    def do_PUT(self) -> None:  # noqa: N802 - http.server's name
        """Stores a file if its checksum matches."""
        given = self.headers.get("Authorization", "").encode()
        data = self.body(MAX_SIZE)
        if not hmac.compare_digest(given, f"Bearer {self.server.token}".encode()):
            self.answer(HTTPStatus.UNAUTHORIZED)
        elif not _PATH.fullmatch(self.path):
            self.answer(HTTPStatus.BAD_REQUEST)
        elif hashlib.sha256(data).hexdigest() != self.headers.get("X-Checksum-Sha256"):
            self.answer(HTTPStatus.UNPROCESSABLE_ENTITY)
        else:
            self.answer(self._keep(self.server.folder / self.path[1:], data))

    def _keep(self, place: Path, data: bytes) -> HTTPStatus:
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            with place.open("xb") as file:
                file.write(data)
        except FileExistsError:  # the same file again, from a retried task, is accepted
            return HTTPStatus.OK if place.read_bytes() == data else HTTPStatus.CONFLICT
        return HTTPStatus.CREATED

    def do_GET(self) -> None:  # noqa: N802 - http.server's name
        """Sends a file."""
        place = self.server.folder / self.path[1:]
        if _PATH.fullmatch(self.path) and place.is_file():
            self.answer(HTTPStatus.OK, place.read_bytes(), "application/octet-stream")
        else:
            self.answer(HTTPStatus.NOT_FOUND)
