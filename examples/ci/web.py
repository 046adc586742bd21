"""HTTP servers on free ports of this machine, each in a thread during its `with` block."""

from __future__ import annotations

import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self


class Server(ThreadingHTTPServer):
    """Listens from its creation on, and answers inside its `with` block."""

    daemon_threads = True

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def url(self) -> str:
        """Returns the URL of the server."""
        return f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    """Reads bodies, answers with a length, and logs nothing."""

    protocol_version = "HTTP/1.1"
    timeout = 30

    def body(self, most: int) -> bytes:
        """Returns the body of a request; closes the connection if it exceeds `most` bytes."""
        length = int(self.headers.get("Content-Length") or 0)
        if length > most:
            self.close_connection = True
            return b""
        return self.rfile.read(length)

    def answer(
        self, status: HTTPStatus, data: bytes = b"", kind: str = "text/plain", headers: dict[str, str] | None = None
    ) -> None:
        """Sends an answer."""
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Logs nothing."""
