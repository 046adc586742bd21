"""The line between an agent and its spawner: JSON, one message a line, and file descriptors beside them.

A Unix socket that nobody else has.  Neither end waits for the other one: what it does not take is kept, and
sent once it does.  JSON escapes line ends and the half characters that represent bytes outside UTF-8.
"""

from __future__ import annotations

import json
import os
import socket
from collections import deque
from collections.abc import Iterator
from typing import Any, Final

CHUNK: Final = 65536
SPACE: Final = socket.CMSG_SPACE(4)
"""For one file descriptor: the kernel ends a read before a second one.  `socket.recv_fds` would drop the flag below."""


class Channel:
    """One end."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._end = end
        self._out: deque[tuple[memoryview, int | None]] = deque()
        self._in = bytearray()
        self.files: deque[int] = deque()
        """What came with messages, in their order."""

    def fileno(self) -> int:
        """For whoever waits until it may be read or written."""
        return self._end.fileno()

    def send(self, message: Any, file: int | None = None) -> bool:
        """Sends a message, and a copy of a file descriptor; True if some of it is left for `flush`.

        Raises:
            OSError: the other end is gone.
        """
        data = memoryview(json.dumps(message).encode() + b"\n")
        self._out.append((data, os.dup(file) if file is not None else None))
        return self.flush()

    def flush(self) -> bool:
        """Sends what is left; True if the other end does not take all of it now.

        Raises:
            OSError: the other end is gone.
        """
        while self._out:
            data, file = self._out[0]
            try:
                count = self._end.send(data) if file is None else socket.send_fds(self._end, [data], [file])
            except BlockingIOError:
                return True
            if file is not None:
                os.close(file)
            if count < len(data):
                self._out[0] = data[count:], None
            else:
                self._out.popleft()
        return False

    def receive(self) -> Iterator[Any]:
        """The messages that have come.

        Raises:
            EOFError: the other end is gone.
        """
        while True:
            try:
                data, beside, _, _ = self._end.recvmsg(CHUNK, SPACE, socket.MSG_CMSG_CLOEXEC)
            except BlockingIOError:
                return
            except OSError as error:
                raise EOFError(str(error)) from error
            if not data:
                raise EOFError
            for _, _, files in beside:
                self.files.extend(memoryview(files).cast("i"))
            searched = len(self._in)
            self._in += data
            while (end := self._in.find(b"\n", searched)) >= 0:
                line = bytes(self._in[:end])
                del self._in[: end + 1]
                searched = 0
                yield json.loads(line)

    def close(self) -> None:
        """Closes it, and what was not sent or taken."""
        self._end.close()
        for _, file in self._out:
            if file is not None:
                os.close(file)
        for file in self.files:
            os.close(file)
        self._out.clear()
        self.files.clear()
