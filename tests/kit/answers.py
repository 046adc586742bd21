"""An HTTP server that answers as it is asked: another program than the client hopes for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = tuple[int, str, bytes]


class Recorded:
    """A server that answers as it is asked, and keeps what it was asked."""

    def __init__(self, answers: Callable[[int], Answer | None]) -> None:
        self.asked: list[tuple[str, dict[str, str], bytes]] = []
        recorded = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                recorded.asked.append((self.path, {key.lower(): value for key, value in self.headers.items()}, body))
                found = answers(len(recorded.asked))
                self.close_connection = True
                if found is None:  # break the connection in the middle
                    return
                status, kind, content = found
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_DELETE = answer  # noqa: N815 - http.server's names

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@contextmanager
def answering(answers: Callable[[int], Answer | None]) -> Iterator[Recorded]:
    recorded = Recorded(answers)
    thread = threading.Thread(target=recorded.server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield recorded
    finally:
        recorded.server.shutdown()
        thread.join()
        recorded.server.server_close()
