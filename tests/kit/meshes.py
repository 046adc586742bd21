"""A whole mesh, started as a user would: `muster up`."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import msgspec
import pytest

from muster.mesh.child import dies_with_parent
from tests.kit.processes import MUSTER, ROOT, Program, Ran, clean_env, muster, running

OBEY = ROOT / "tests" / "blueprints" / "obey.yaml"


class Mesh(msgspec.Struct, frozen=True, kw_only=True):
    """A mesh that runs, and where."""

    api: str
    nats: str
    element: str
    data: Path
    env: dict[str, str]
    pid: int

    @property
    def api_token(self) -> Path:
        """The file with the token of the HTTP API."""
        return self.data / "api.token"

    @property
    def nats_token(self) -> str:
        """What a plain NATS client shows."""
        return (self.data / "nats.token").read_text().strip()

    @property
    def plain_url(self) -> str:
        """Where NATS is, with its token in it, for clients that are not ours."""
        return self.nats.replace("//", f"//{self.nats_token}@")

    async def muster(self, *args: str, stdin: bytes = b"", within: float = 30.0, **env: str) -> Ran:
        """Run a command against it."""
        return await muster(*args, env=self.env | env, stdin=stdin, within=within)

    async def ok(self, *args: str, stdin: bytes = b"", within: float = 30.0) -> str:
        """Runs a command that must succeed; returns its output."""
        ran = await self.muster(*args, stdin=stdin, within=within)
        assert ran.code == 0, ran
        return ran.stdout

    @asynccontextmanager
    async def running(self, *args: str) -> AsyncIterator[Program]:
        """A command against it in the background."""
        async with running(*args, env=self.env) as program:
            yield program


def up_options(data: Path, element: str = "testbox") -> list[str]:
    """`muster up` on free ports."""
    ports = ["--http", "127.0.0.1:0", "--nats", "127.0.0.1:0"]
    return ["up", "--data", str(data), *ports, "--element", element, "--durability", "fast"]


def parse_ready(line: str, home: Path, pid: int) -> Mesh:
    """The mesh of a ready line."""
    facts = dict(word.partition("=")[::2] for word in line.split()[1:])
    env = clean_env(home, MUSTER_API=facts["api"], MUSTER_SERVER=facts["nats"], MUSTER_DATA=facts["data"])
    return Mesh(
        api=facts["api"],
        nats=facts["nats"],
        element=facts["element"],
        data=Path(facts["data"]),
        env=env,
        pid=pid,
    )


@asynccontextmanager
async def mesh_of_its_own(home: Path, *more: str, within: float = 30.0) -> AsyncIterator[tuple[Program, Mesh]]:
    """A mesh for one test that breaks it."""
    async with running(*up_options(home / "data"), *more, env=clean_env(home)) as program:
        line = await program.line("ready api=", within)
        yield program, parse_ready(line, home, program.pid)


@pytest.fixture(scope="session")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """One mesh for all tests of this process; a test that uses it leaves its element as it was."""
    home = tmp_path_factory.mktemp("mesh")
    with (home / "up.log").open("wb") as log, _started(home, log) as process:
        timer = threading.Timer(55, process.kill)
        timer.start()
        assert process.stdout is not None
        line = process.stdout.readline().decode()
        timer.cancel()
        assert line.startswith("ready "), (home / "up.log").read_text()
        found = parse_ready(line, home, process.pid)
        applied = subprocess.run([*MUSTER, "apply", "-f", str(OBEY)], env=found.env, capture_output=True, check=False)
        assert applied.returncode == 0, applied.stderr.decode()
        yield found


@contextmanager
def _started(home: Path, log: object) -> Iterator[subprocess.Popen[bytes]]:
    argv = [*MUSTER, *up_options(home / "data")]
    process = subprocess.Popen(
        argv,
        env=clean_env(home),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=log,  # type: ignore[call-overload]  # an open file
        start_new_session=True,
        preexec_fn=dies_with_parent(),  # noqa: PLW1509 - should somebody kill the test run
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        finally:
            process.kill()
            if process.stdout is not None:
                process.stdout.close()
