"""Muster's own processes: `muster up`, an agent for each runner, and commands; all in a temporary folder."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, Final, Self

from examples.ci.show import UnexpectedError
from muster.mesh.child import dies_with_parent

MUSTER: Final = (sys.executable, "-m", "muster.cli")
START: Final = 60.0
STOP: Final = 30.0
POLL: Final = 0.05


class Fleet:
    """A mesh whose broker runs no orders itself, and the runners that join it."""

    def __init__(self, folder: Path, **secrets: str) -> None:
        here = "127.0.0.1,localhost"
        self._folder = folder
        # Each process gets only the secrets that it needs: the broker checks hooks, runners clone and publish.
        self._env = {name: value for name, value in os.environ.items() if not name.startswith("MUSTER_")}
        self._env |= {"NO_PROXY": here, "no_proxy": here, "XDG_CONFIG_HOME": str(folder / "config")}
        self._env["XDG_STATE_HOME"] = str(folder / "state")
        self._env |= {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}
        self._secrets = secrets
        self._stack = ExitStack()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.api = ""
        self.nats = ""

    def __enter__(self) -> Self:
        try:
            self._start_mesh()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start_mesh(self) -> None:
        ports = ["--http", "127.0.0.1:0", "--nats", "127.0.0.1:0"]
        words = ["up", "--no-agent", *ports, "--durability", "fast"]
        process = self._start("mesh", words, {"GITLAB_HOOK_SECRET": self._secrets["GITLAB_HOOK_SECRET"]})
        found = dict(word.partition("=")[::2] for word in self._ready(process).split())
        self.api, self.nats = found["api"], found["nats"]
        self._env |= {"MUSTER_API": self.api, "MUSTER_SERVER": self.nats}

    def __exit__(self, *_: object) -> None:
        """Ends every remaining process."""
        for process in self._processes.values():
            if process.poll() is None:
                process.terminate()
        for process in self._processes.values():
            try:
                process.wait(STOP)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._stack.close()

    def runner(self, name: str) -> None:
        """Starts an agent for a machine; a real site has one on each host."""
        tokens = {name: self._secrets[name] for name in ("GITLAB_TOKEN", "ARTIFACT_TOKEN")}
        self._start(name, ["agent", "--element", name, "--pass-env", *tokens], tokens)

    def stop(self) -> dict[str, int]:
        """Stops the runners first and the mesh last; returns the exit codes."""
        codes = {}
        for name, process in reversed(self._processes.items()):
            process.send_signal(signal.SIGTERM)
            codes[name] = process.wait(STOP)
        return codes

    def log(self, name: str) -> str:
        """Returns the end of the log of a process."""
        return (self._folder / f"{name}.log").read_text(errors="replace")[-4000:]

    def _start(self, name: str, words: list[str], secrets: dict[str, str]) -> subprocess.Popen[bytes]:
        log: IO[bytes] = self._stack.enter_context((self._folder / f"{name}.log").open("wb"))
        process = subprocess.Popen(
            [*MUSTER, *words, "--data", str(self._folder / name)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if name == "mesh" else log,
            stderr=log,
            env={**self._env, **secrets},
            start_new_session=True,  # Ctrl-C reaches only this process, which ends the others in order
            preexec_fn=dies_with_parent(signal.SIGTERM),  # noqa: PLW1509 - it allocates nothing
        )
        self._processes[name] = process
        if process.stdout is not None:
            self._stack.enter_context(process.stdout)
        return process

    def _ready(self, process: subprocess.Popen[bytes]) -> str:
        assert process.stdout is not None  # noqa: S101 - it was asked for
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            line = process.stdout.readline().decode() if selector.select(START) else ""
        if not line.startswith("ready "):
            raise UnexpectedError(f"the mesh did not start:\n{self.log('mesh')}")
        return line

    # -- what people and programs do ----------------------------------------------------------------

    def command(self, *words: str) -> int:
        """Runs `muster …` with its output; returns the exit code."""
        sys.stdout.flush()
        return subprocess.run([*MUSTER, *words], env=self._env, check=False, stdin=subprocess.DEVNULL).returncode

    def get(self, path: str, **params: str | float) -> Any:
        """Sends a request to the HTTP API."""
        query = f"?{urllib.parse.urlencode(params)}" if params else ""
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        token = (self._folder / "mesh" / "api.token").read_text().strip()
        request = urllib.request.Request(
            f"{self.api}/api/v1/{path}{query}", headers={"Authorization": f"Bearer {token}"}
        )
        with direct.open(request, timeout=START) as answer:
            return json.loads(answer.read())

    def final(self, order: str) -> dict[str, Any]:
        """Waits for the end of an order, and returns it."""
        end = time.monotonic() + START
        while time.monotonic() < end:
            found: dict[str, Any] = self.get(f"orders/{order}", wait=10)
            if found["finished_at"]:
                return found
        raise UnexpectedError(f"order {order} has not ended: {found['state']} {found.get('reason', '')}")

    def until(self, what: str, holds: Callable[[], Any], within: float = START) -> Any:
        """Polls until the answer is true, and returns it.

        Raises:
            UnexpectedError: the time has passed.
        """
        end = time.monotonic() + within
        while not (found := holds()):
            if time.monotonic() > end:
                raise UnexpectedError(f"{what}: not within {within:g} s; found: {found!r}")
            time.sleep(POLL)
        return found
