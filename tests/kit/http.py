"""An HTTP client for tests: all of them speak plain HTTP on loopback."""

from __future__ import annotations

import ssl
from typing import Any, Final

import httpx

_NO_CERTIFICATES: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def http_client(base_url: str, **more: Any) -> httpx.AsyncClient:
    """As `httpx.AsyncClient`, which reads all certificates of the world for each one: 40 ms."""
    return httpx.AsyncClient(base_url=base_url, verify=_NO_CERTIFICATES, **more)
