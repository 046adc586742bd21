"""What another account of the host can do to a mesh: nothing."""

from __future__ import annotations

import json
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from muster.mesh.private import inherited_umask
from tests.kit.meshes import Mesh, mesh_of_its_own, up_options
from tests.kit.processes import Program, clean_env, muster, running
from tests.kit.strangers import as_stranger, needs_root

pytestmark = pytest.mark.slow

ATTACK = """
found = {"http": {}, "read": []}
api, nats, data, pids = sys.argv[1].split(":"), sys.argv[2].split(":"), pathlib.Path(sys.argv[3]), sys.argv[4:]

def asked(request):
    with socket.create_connection((api[1].strip("/"), int(api[2])), 10) as connection:
        connection.sendall(request.encode())
        return int(connection.recv(4096).split()[1])

ORDER = '{"blueprint": "hello", "on": "testbox"}'
EVIL = "{kind: blueprint, name: evil, tasks: [{name: x, run: id}]}"
for method, path, body in (
    ("POST", "/api/v1/apply", EVIL), ("POST", "/api/v1/orders", ORDER),
    ("GET", "/api/v1/orders", ""), ("GET", "/metrics", ""), ("GET", "/api/v1/events", ""), ("GET", "/healthz", ""),
):
    lines = f"{method} {path} HTTP/1.1\\r\\nHost: 127.0.0.1\\r\\nContent-Length: {len(body)}\\r\\n\\r\\n{body}"
    found["http"][path] = asked(lines)

with socket.create_connection((nats[1].strip("/"), int(nats[2])), 10) as connection:
    heard = connection.recv(65536)
    with contextlib.suppress(OSError):
        publish = f"PUB muster.inbox.orders {len(ORDER)}\\r\\n{ORDER}"
        connection.sendall(f"CONNECT {{}}\\r\\n{publish}\\r\\nPING\\r\\n".encode())
        while more := connection.recv(65536):
            heard += more
    found["nats"] = heard.decode()

names = ["api.token", "nats.token", "api.url", "nats/nats.conf", "nats/nats.log", "broker/projection.sqlite", "agent"]
for path in [data, *[data / name for name in names], *[pathlib.Path(f"/proc/{pid}/environ") for pid in pids]]:
    with contextlib.suppress(PermissionError):
        list(path.iterdir()) if path.is_dir() else path.read_bytes()
        found["read"].append(str(path))
print(json.dumps(found))
"""


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that everybody reaches, as pytest's are not."""
    folder = Path(tempfile.mkdtemp(prefix="muster-access-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@needs_root
async def test_another_account_can_do_nothing(public: Path) -> None:
    for part in ("", "nats", "broker", "agent"):  # as an older version, or an operator, has left them
        (public / "data" / part).mkdir(mode=0o755, exist_ok=True)
        (public / "data" / part).chmod(0o755)
    async with mesh_of_its_own(public) as (program, mesh):
        pids = [str(process.pid) for process in program.tree()]
        async with Program.start(as_stranger(ATTACK, mesh.api, mesh.nats, str(mesh.data), *pids)) as attack:
            attack.feed(b"")
            assert await attack.ended(40) == 0, str(attack)
        reported = json.loads(attack.stdout)
        assert reported["http"].pop("/healthz") == 200
        assert set(reported["http"].values()) == {401}
        assert "Authorization Violation" in reported["nats"]
        assert reported["read"] == []
        assert json.loads(await mesh.ok("orders", "-o", "json"))["items"] == []
        _check_processes(program, mesh)
        _check_modes(mesh.data)
        shows = b"{kind: blueprint, name: shows, tasks: [{name: umask, run: umask}]}"
        await mesh.ok("apply", "-f", "-", stdin=shows)
        reported = await mesh.ok("run", "shows", "--on", mesh.element, "--follow")
        assert f"{inherited_umask():04o}" in reported, "tasks have the umask that the mesh was started with"
        assert await program.stop() == 0


def _check_processes(program: Program, mesh: Mesh) -> None:
    """No command line has a token, and no role has one that it does not need."""
    secret = mesh.api_token.read_text().strip(), mesh.nats_token
    for process in program.tree():
        assert not [token for token in secret if token in " ".join(process.cmdline())]
    agent = next(process for process in program.tree() if "agent" in process.cmdline()[:6])
    assert not {"MUSTER_TOKEN", "MUSTER_TOKEN_FILE", "CREDENTIALS_DIRECTORY"} & set(agent.environ())


def _check_modes(data: Path) -> None:
    open_ones = [str(path) for path in (data, *data.rglob("*")) if _mode(path) & 0o077 and not path.is_symlink()]
    assert open_ones == []


def _mode(path: Path) -> int:
    try:
        return stat.S_IMODE(path.lstat().st_mode)
    except FileNotFoundError:  # JetStream's own come and go
        return 0


async def test_a_mesh_is_found_by_its_address_whichever_its_folder_is(tmp_path: Path) -> None:
    env = clean_env(tmp_path)  # no MUSTER_DATA: as in another terminal
    async with running(*up_options(tmp_path / "elsewhere"), env=env) as program:
        reported = dict(word.partition("=")[::2] for word in (await program.line("ready api=", 40)).split()[1:])
        there = env | {"MUSTER_API": reported["api"]}
        ran = await muster("run", "hello", "--on", "testbox", "--wait", env=there)
        assert ran.code == 0, ran
        async with running("agent", "--server", reported["nats"], "--element", "more", env=there) as agent:
            await agent.line("agent.ready", stream="err")
            assert await agent.stop() == 0
        wrong = await muster("orders", env=there | {"MUSTER_TOKEN": "wrong"})
        assert (wrong.code, "refuses the token of MUSTER_TOKEN" in wrong.stderr) == (3, True)
        stray = await muster("orders", env=there | {"HOME": str(tmp_path / "other")})
        assert (stray.code, "none was found for it" in stray.stderr) == (3, True)
        lost = await muster("agent", "--server", reported["nats"], env=there | {"HOME": str(tmp_path / "other")})
        assert (lost.code, "MUSTER_NATS_TOKEN_FILE" in lost.stderr) == (3, True)
        assert await program.stop() == 0


@pytest.mark.parametrize("role", ["up", "broker", "server"])
async def test_open_on_an_address_that_others_reach_is_refused(role: str, tmp_path: Path) -> None:
    place = ["--nats", "0.0.0.0:0"] if role == "server" else ["--http", "0.0.0.0:0"]
    ran = await muster(role, "--open", *place, "--data", str(tmp_path), env=clean_env(tmp_path))
    assert ran.code == 2
    assert "--insecure" in ran.stderr


async def test_open_requires_nothing_says_so_and_agents_need_the_option(tmp_path: Path) -> None:
    env = clean_env(tmp_path)
    async with running(
        "server", "--open", "--insecure", "--nats", "0.0.0.0:0", "--data", str(tmp_path), env=env
    ) as server:
        url = (await server.line("ready nats=")).partition("=")[2]
        assert "access.open" in server.stderr
        assert not list(tmp_path.glob("*.token"))
        for role in (["agent"], ["triggers", "--http", "127.0.0.1:0"], ["broker", "--http", "127.0.0.1:0"]):
            ran = await muster(*role, "--server", url, env=env)
            assert (ran.code, "asks for no token" in ran.stderr) == (3, True), ran
        async with running("broker", "--open", "--server", url, "--http", "127.0.0.1:0", env=env) as broker:
            api = (await broker.line("ready broker api=")).partition("api=")[2].split()[0]
            assert (await muster("orders", "--api", api, env=env)).code == 0
            assert await broker.stop() == 0
        assert await server.stop() == 0


async def test_what_is_given_twice_is_a_contradiction(tmp_path: Path) -> None:
    ran = await muster("up", "--open", "--data", str(tmp_path), env=clean_env(tmp_path, MUSTER_TOKEN="given"))
    assert (ran.code, "MUSTER_TOKEN" in ran.stderr) == (2, True)
