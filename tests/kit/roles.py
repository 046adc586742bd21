"""A whole mesh of real processes, one role each, all started by the `muster` command; any of them can be killed."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Self

import httpx
import msgspec
import psutil

from tests.kit import record
from tests.kit.http import http_client
from tests.kit.leaks import MARK, marked
from tests.kit.ports import free_port
from tests.kit.processes import MUSTER, ROOT, Program, Ran, clean_env, muster, running
from tests.kit.waiting import eventually

Manifest = dict[str, Any]
Tables = dict[str, list[tuple[Any, ...]]]

ENDS = frozenset({"finished", "failed", "cancelled"})


class Client:
    """A mesh as programs and people see it: HTTP and the command."""

    def __init__(self, api: str, env: dict[str, str], token_file: Path) -> None:
        self.api = api
        self.env = env
        self.http = http_client(api, token_file, timeout=30, limits=httpx.Limits(max_keepalive_connections=0))

    async def cli(self, *args: str, stdin: bytes = b"", within: float = 30.0) -> Ran:
        """Run `muster ARGS…` against it."""
        return await muster(*args, env=self.env, stdin=stdin, within=within)

    @asynccontextmanager
    async def background(self, *args: str) -> AsyncIterator[Program]:
        """`muster ARGS…` against it, in the background."""
        async with running(*args, env=self.env) as program:
            yield program

    async def get(self, path: str, **params: Any) -> Any:
        """Returns the answer at a path, at once."""
        return _checked(await self.http.get(f"/api/v1/{path}", params=params))

    async def post(self, path: str, body: Any = None) -> Any:
        """What is answered to a POST."""
        return _checked(await self.http.post(f"/api/v1/{path}", json=body))

    async def apply(self, *manifests: Manifest) -> None:
        """Create or change objects."""
        text = "\n---\n".join(msgspec.json.encode(manifest).decode() for manifest in manifests)
        _checked(await self.http.post("/api/v1/apply", content=text))

    async def order(self, blueprint: str, on: str | None = "e1", **more: Any) -> str:
        """Make one order; its id."""
        body = {"blueprint": blueprint, **({"on": on} if on and not more.keys() & {"pool", "where"} else {}), **more}
        return str((await self.post("orders", body))["orders"][0]["id"])

    async def final(self, order: str, within: float = 20.0) -> dict[str, Any]:
        """An order once it has ended, even if parts are offline meanwhile."""
        return await self.until(order, lambda found: found["state"] in ENDS, within)

    async def until(self, order: str, holds: Callable[[dict[str, Any]], Any], within: float = 20.0) -> dict[str, Any]:
        """An order once something holds for it, even if parts are offline meanwhile."""

        async def look() -> dict[str, Any] | None:
            with suppress(httpx.TransportError):
                answer = await self.http.get(f"/api/v1/orders/{order}", params={"wait": 0.3}, timeout=10)
                assert answer.is_success, answer.text
                found: dict[str, Any] = answer.json()
                assert holds(found), found
                return found
            return None

        found: dict[str, Any] | None = await eventually(look, within, f"order {order} as wanted")
        assert found is not None
        return found

    async def run(self, blueprint: str, on: str | None = "e1", within: float = 20.0, **more: Any) -> dict[str, Any]:
        """Make one order, and wait for its end."""
        return await self.final(await self.order(blueprint, on, **more), within)

    async def output(self, order: str, **params: Any) -> bytes:
        """What an order printed."""
        answer = await self.http.get(f"/api/v1/orders/{order}/output", params=params)
        assert answer.is_success, answer.text
        return answer.content

    async def events(self, kind: str, after: str = "0") -> list[dict[str, Any]]:
        """Events of a kind so far."""
        params = {"kind": kind, "after": after, "limit": "1000"}
        answer = await self.http.get("/api/v1/events", params=params, headers={"Accept": "application/json"})
        found: list[dict[str, Any]] = _checked(answer)["items"]
        return found

    async def firings(self, trigger: str) -> list[dict[str, Any]]:
        """What came of a trigger so far, oldest first; empty while it does not exist."""
        answer = await self.http.get(f"/api/v1/triggers/{trigger}/firings", params={"limit": "1000"})
        return list(reversed(answer.json()["items"])) if answer.is_success else []

    async def fired(self, trigger: str, number: int = 1, within: float = 10.0) -> list[dict[str, Any]]:
        """Its firings, once there are so many."""

        async def enough() -> list[dict[str, Any]]:
            found = await self.firings(trigger)
            assert len(found) >= number, found
            return found

        return await eventually(enough, within, f"{number} firings of {trigger}")

    async def online(self, element: str, within: float = 15.0) -> None:
        """Wait until an agent acts for an element."""

        async def look() -> bool:
            with suppress(httpx.TransportError):
                return bool((await self.http.get(f"/api/v1/machines/{element}")).json().get("online"))
            return False

        await eventually(look, within, f"{element} is online")


class Roles(Client):
    """Server, broker and agents, each a process group of its own."""

    def __init__(self, folder: Path, lease: str, stack: AsyncExitStack) -> None:
        self.folder = folder
        self.mark = uuid.uuid4().hex
        self.nats_port, self.http_port = free_port(), free_port()
        env = clean_env(folder / "home", MUSTER_API=f"http://127.0.0.1:{self.http_port}", MUSTER_SERVER=self.server_url)
        super().__init__(env["MUSTER_API"], env | {MARK: self.mark}, folder / "broker" / "api.token")
        self.hooks = ""
        self.programs: dict[str, Program] = {}
        self._all: list[tuple[str, Program]] = []
        self.options: dict[str, list[str]] = {
            "server": ["--nats", f"127.0.0.1:{self.nats_port}", "--durability", "fast"],
            "broker": ["--http", f"127.0.0.1:{self.http_port}", "--durability", "fast", "--lease", lease],
        }
        self._stack = stack

    @classmethod
    @asynccontextmanager
    async def started(cls, folder: Path, *agents: str, lease: str = "2s", path: str = str(ROOT)) -> AsyncIterator[Self]:
        """A running mesh with an agent for each of these elements; nothing of it is left afterwards.

        Args:
            folder: where everything of it lies.
            agents: elements.
            lease: after how long a silent agent has lost its orders.
            path: where Python finds modules.
        """
        (folder / "home").mkdir(parents=True, exist_ok=True)
        async with AsyncExitStack() as stack:
            mesh = cls(folder, lease, stack)
            mesh.env["PYTHONPATH"] = path
            stack.push_async_callback(mesh.http.aclose)
            await mesh.start("server")
            await mesh.start("broker")
            for element in agents:
                await mesh.agent(element)
            try:
                yield mesh
                await mesh.stop()
            finally:
                mesh.keep_logs()
        left = [process for process in marked(mesh.mark) if process.status() != psutil.STATUS_ZOMBIE]
        names = [" ".join(process.cmdline()) for process in left]
        for process in left:
            process.kill()
        assert not names, f"left running by the mesh: {names}"

    @property
    def server_url(self) -> str:
        """Where NATS is."""
        return f"nats://127.0.0.1:{self.nats_port}"

    @property
    def plain_url(self) -> str:
        """Where NATS is, with its token in it, for clients that are not ours."""
        token = (self.folder / "server" / "nats.token").read_text().strip()
        return f"nats://{token}@127.0.0.1:{self.nats_port}"

    @property
    def projection(self) -> Path:
        """The SQLite file."""
        return self.folder / "broker" / "broker" / "projection.sqlite"

    async def agent(self, *elements: str, name: str = "", ready: bool = True) -> Program:
        """Start an agent for elements; called after the first one."""
        name = name or elements[0]
        self.options[name] = ["--element", *elements]
        return await self.start(name, ready=ready)

    async def another_broker(self, name: str = "broker2") -> int:
        """Start one more broker, with tables of its own; its port."""
        port = free_port()
        mine, its = f"127.0.0.1:{self.http_port}", f"127.0.0.1:{port}"
        self.options[name] = [its if option == mine else option for option in self.options["broker"]]
        await self.start(name)
        return port

    async def triggers(self, name: str = "triggers") -> str:
        """Start a trigger service; where its hooks are, as `hooks` reports too.  A second one is called `triggers2`."""
        place = f"127.0.0.1:{free_port()}"
        self.options[name] = ["--http", place]
        await self.start(name)
        self.hooks = f"http://{place}"
        return self.hooks

    async def start(self, name: str, *, ready: bool = True, env: dict[str, str] | None = None) -> Program:
        """Start a role, or start it again after it has ended."""
        role = name.rstrip("2") if name.rstrip("2") in {"server", "broker", "triggers"} else "agent"
        place = [] if role == "triggers" else ["--data", str(self.folder / name)]
        argv = [*MUSTER, role, *self.options[name], *place]
        program = await self._stack.enter_async_context(Program.start(argv, env={**self.env, **(env or {})}))
        self.programs[name] = program
        self._all.append((name, program))
        if not ready:
            return program
        if role == "agent":
            await program.line("agent.ready", stream="err")
        else:
            await program.line("ready ")
        return program

    async def kill(self, *names: str) -> None:
        """SIGKILL to these processes, all at once; to the server itself, not only to who watches it."""
        for name in names:
            victims = self.programs[name].tree() if name == "server" else [psutil.Process(self.programs[name].pid)]
            for victim in victims:
                with suppress(psutil.NoSuchProcess):
                    victim.kill()
        for name in names:
            await self.programs[name].ended()

    async def restart(self, *names: str) -> None:
        """SIGKILL, and start again."""
        await self.kill(*names)
        for name in names:
            await self.start(name)

    async def stop(self, *names: str) -> None:
        """SIGTERM, one after the other: agents first, the server last."""
        for name in names or list(reversed(self.programs)):
            if self.programs[name].process.returncode is None:
                await self.programs[name].stop()

    async def quiet(self) -> None:
        """Let all agents go, and wait until the record has it: nothing writes any more."""
        await self.stop(*[name for name in self.programs if name not in {"server", "broker", "broker2"}])

        async def all_offline() -> bool:
            return not any(machine["online"] for machine in (await self.get("machines"))["items"])

        await eventually(all_offline, what="agents that said good-bye")

    async def rebuilt(self) -> tuple[Tables, Tables]:
        """The tables as they are, and as they are made anew from the log once the file is deleted."""
        await self.stop("broker")
        before = record.rows(self.projection)
        record.remove(self.projection)
        await self.start("broker")
        await self.stop("broker")
        return before, record.rows(self.projection)

    def keep_logs(self) -> None:
        """Put what each process said into its folder, for whoever asks why a test failed."""
        for place, (name, program) in enumerate(self._all):
            (self.folder / f"{place:03}-{name}.log").write_text(program.stdout + program.stderr)

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to a role's own process."""
        os.kill(self.programs[name].pid, number)


def _checked(answer: httpx.Response) -> Any:
    assert answer.is_success, answer.text
    return answer.json() if answer.content else None
