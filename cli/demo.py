"""`muster demo`: a whole mesh in a temporary folder, one real order on this machine, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from muster.cli.options import Common
from muster.cli.output import say
from muster.mesh.errors import UnavailableError

BLUEPRINT: Final = "host-report"
ELEMENT: Final = "this-machine"
STOP_TIMEOUT: Final = 30.0


def demo() -> int:
    """Show the whole mesh at work: start it in a temporary folder, run a real order here, and clean up."""
    from muster.mesh.child import dies_with_parent

    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="muster-demo-") as folder:
        _step("Starting NATS, a broker and an agent for this machine, in a temporary folder")
        with (Path(folder) / "up.log").open("wb") as log:
            mesh = subprocess.Popen(
                _command(folder),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                preexec_fn=dies_with_parent(),  # noqa: PLW1509 - no thread is running yet
            )
        try:
            api = _ready(mesh, Path(folder) / "up.log")
            say(f"  ready after {time.monotonic() - began:.1f} s: {api}")
            os.environ["MUSTER_DATA"] = folder  # its token is there, should this account have no home
            code = _show(api)
        finally:
            _stop(mesh)
    _goodbye(code)
    return code


def _command(folder: str) -> list[str]:
    from muster.mesh.child import python

    ports = ["--http", "127.0.0.1:0", "--nats", "127.0.0.1:0"]
    return [*python("muster.cli", "up", "--data", folder, *ports, "--element", ELEMENT)]


def _ready(mesh: subprocess.Popen[bytes], log: Path) -> str:
    assert mesh.stdout is not None  # noqa: S101 - it was asked for
    line = mesh.stdout.readline().decode()
    if not line.startswith("ready "):
        mesh.wait(STOP_TIMEOUT)
        raise UnavailableError(f"the mesh did not start:\n{log.read_text(errors='replace')[-3000:]}")
    return dict(word.partition("=")[::2] for word in line.split())["api"]


def _show(api: str) -> int:
    from muster.cli.explain import explain
    from muster.cli.objects import get
    from muster.cli.run import run

    common = Common(api=api)
    _step("Who is there", "muster get elements")
    get("elements", common=common)
    _step("A work order, live", f"muster run {BLUEPRINT} --on {ELEMENT} --follow")
    code = run(BLUEPRINT, on=ELEMENT, follow=True, common=common)
    with common.connect() as client:
        order = client.get("/api/v1/orders", limit=1)["items"][0]["id"]
    _step("The record that it left", f"muster explain {order[:6]}")
    explain(order, common=common)
    return code


def _step(title: str, command: str = "") -> None:
    say("")
    say((f"== {title}", "bold cyan"))
    if command:
        say((f"   $ {command}", "dim"))
        say("")


def _stop(mesh: subprocess.Popen[bytes]) -> None:
    mesh.send_signal(signal.SIGTERM)
    try:
        mesh.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        mesh.kill()
        mesh.wait()


def _goodbye(code: int) -> None:
    muster = ".venv/bin/muster" if Path(sys.prefix).name == ".venv" else "muster"
    _step("That was it; everything is stopped and removed" if code == 0 else "The order failed; everything is stopped")
    say(f"   Next: {muster} up                 a mesh that stays")
    say(f"         {muster} get blueprints     what it can do already, from another terminal")
    say(f"         {muster} --help")
