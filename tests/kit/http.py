"""An HTTP client for tests: all of them speak plain HTTP on loopback."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any, Final

import httpx

_NO_CERTIFICATES: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def http_client(base_url: str, token_file: Path | None = None, **more: Any) -> httpx.AsyncClient:
    """As `httpx.AsyncClient`, which reads all certificates of the world for each one: 40 ms.

    It shows the token that the file has once it is there.
    """

    def show(request: httpx.Request) -> httpx.Request:
        if token_file is not None and token_file.exists():
            request.headers["Authorization"] = f"Bearer {token_file.read_text().strip()}"
        return request

    return httpx.AsyncClient(base_url=base_url, verify=_NO_CERTIFICATES, auth=show, **more)
