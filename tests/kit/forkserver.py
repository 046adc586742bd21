"""The `muster` command without the cost of its start: a process that has imported it, and forks for each command.

A forked command is a process like any other: it has its own arguments, environment, folder, streams and session, it is
signalled and killed, and it runs `main`.  Python only does not start anew, and imports nothing that is loaded already.
That costs a hundredth of a second rather than half a second.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NoReturn, Self

from muster.mesh.child import dies_with_parent

ROOT: Final = Path(__file__).resolve().parents[2]
MUSTER: Final = (sys.executable, "-m", "muster.cli")

LOADED: Final = ("muster.cli.main",)
"""What is imported before any command is forked; `main` then imports the module of every command."""

LINE_LIMIT: Final = 16 * 1024 * 1024
"""Bytes of the longest line that a command may print."""

_HEAD: Final = 8
"""Bytes that say how long a request is."""


def can_fork(argv: Sequence[str], env: Mapping[str, str]) -> bool:
    """Whether a fork is the same as a start: it is our command, and Python itself would start alike."""
    return tuple(argv[: len(MUSTER)]) == MUSTER and _for_python(env) == _for_python(_environment())


def _for_python(env: Mapping[str, str]) -> dict[str, str]:
    """The variables that Python reads when it starts."""
    return {
        name: value
        for name, value in env.items()
        if name.startswith(("PYTHON", "LC_", "LD_")) or name in {"LANG", "LANGUAGE"}
    }


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("MUSTER_")} | {
        "PYTHONPATH": str(ROOT)
    }


class Forked:
    """A forked command, with what the tests use of an `asyncio.subprocess.Process`."""

    stdin: asyncio.StreamWriter
    stdout: asyncio.StreamReader
    stderr: asyncio.StreamReader

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._ending: asyncio.Task[None]

    @classmethod
    async def start(cls, argv: Sequence[str], env: Mapping[str, str], cwd: Path) -> Self:
        """Fork `muster ARGS…`."""
        stdin, to_stdin = os.pipe()
        from_stdout, stdout = os.pipe()
        from_stderr, stderr = os.pipe()
        from_status, status = os.pipe()
        request = {"argv": list(argv), "env": dict(env), "cwd": str(cwd)}
        try:
            _send(_server(), request, [stdin, stdout, stderr, status])
        finally:
            for end in (stdin, stdout, stderr, status):
                os.close(end)
        reported = await _reader(from_status)
        self = cls(int(await reported.readline()))
        self.stdin = await _writer(to_stdin)
        self.stdout, self.stderr = await _reader(from_stdout), await _reader(from_stderr)
        self._ending = asyncio.create_task(self._ended(reported))
        return self

    async def _ended(self, reported: asyncio.StreamReader) -> None:
        self.returncode = int(await reported.readline() or -signal.SIGKILL)

    async def wait(self) -> int:
        """The exit code, once it has ended; minus the signal's number if one killed it."""
        await asyncio.shield(self._ending)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


async def _reader(end: int) -> asyncio.StreamReader:
    reader = asyncio.StreamReader(limit=LINE_LIMIT)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(end, "rb", buffering=0)
    )
    return reader


async def _writer(end: int) -> asyncio.StreamWriter:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.connect_write_pipe(
        asyncio.streams.FlowControlMixin, os.fdopen(end, "wb", buffering=0)
    )
    return asyncio.StreamWriter(transport, protocol, None, loop)


# -- the server -----------------------------------------------------------------------------------


@cache
def _server() -> socket.socket:
    """The way to this worker's server, which is started when it is first used, and ends with the worker."""
    ours, theirs = socket.socketpair()
    with theirs:
        subprocess.Popen(
            [sys.executable, "-m", "tests.kit.forkserver", str(theirs.fileno())],
            env=_environment(),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(),),
            start_new_session=True,
            preexec_fn=dies_with_parent(),  # noqa: PLW1509 - should somebody kill the test run
        )
    return ours


def _send(server: socket.socket, request: dict[str, Any], fds: list[int]) -> None:
    data = json.dumps(request).encode()
    socket.send_fds(server, [len(data).to_bytes(_HEAD)], fds)
    server.sendall(data)


def _serve(tests: socket.socket) -> None:
    """Fork a command for each request, until the tests are gone."""
    from muster.cli.main import application

    for name in LOADED:
        import_module(name)
    application(whole=True)
    gc.freeze()  # what is loaded is shared with every command, as long as nobody writes to it
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # keepers are reaped by the system
    while True:
        head, fds, _, _ = socket.recv_fds(tests, _HEAD, 4)
        if not head:
            return
        request = json.loads(_exactly(tests, int.from_bytes(head)))
        if os.fork() == 0:
            _keep(request, fds)
        for end in fds:
            os.close(end)


def _exactly(tests: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += tests.recv(size - len(data))
    return data


def _keep(request: dict[str, Any], fds: list[int]) -> NoReturn:
    """Fork the command, and report its process id and how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    *streams, status = fds
    die = dies_with_parent()
    pid = os.fork()
    if pid == 0:
        if die is not None:
            die()
        _become(request, streams)
    for end in streams:
        os.close(end)
    os.write(status, f"{pid}\n".encode())
    _, ended = os.waitpid(pid, 0)
    with suppress(BrokenPipeError):
        os.write(status, f"{os.waitstatus_to_exitcode(ended)}\n".encode())
    os._exit(0)


def _become(request: dict[str, Any], streams: list[int]) -> NoReturn:
    """Be the command: what `python -m muster.cli ARGS…` does."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may ignore it
    for number, end in enumerate(streams):
        os.dup2(end, number)
    os.closerange(3, 1024)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.orig_argv[:] = request["argv"]
    sys.argv[:] = [str(ROOT / "cli" / "__main__.py"), *request["argv"][len(MUSTER) :]]
    code = 1
    try:
        import_module("muster.cli.main").main()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 0
    except BaseException:  # noqa: BLE001 - as Python does
        traceback.print_exc()
    with suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
