"""The units of `deploy/` work as written: systemd takes them, and their lines start a mesh, an agent and triggers."""

from __future__ import annotations

import os
import pwd
import re
import shlex
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest

from tests.kit.ports import free_port
from tests.kit.processes import MUSTER, ROOT, Program, clean_env, muster
from tests.kit.waiting import eventually

UNITS = {path.name: path for path in sorted((ROOT / "deploy").glob("*.service"))}
PROGRAM = "/opt/muster/bin/muster"
HOSTS = (ROOT / "docs" / "how-to" / "hosts.md").read_text()


def settings(name: str) -> dict[str, list[str]]:
    """What a unit sets, each setting as often as it is there."""
    found = defaultdict(list)
    for line in UNITS[name].read_text().splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found[key].append(value)
    return found


class Host:
    """A host on which the units' lines are run by hand, on ports and in folders of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = {port: str(free_port()) for port in ("8642", "4222", "8643")}
        self.token = folder / "etc" / "nats.token"
        self.api = f"http://127.0.0.1:{self.ports['8642']}"

    def here(self, text: str) -> str:
        """A unit's text with this host's addresses, folders and account."""
        text = re.sub(r"127\.0\.0\.1:(\d+)", lambda found: f"127.0.0.1:{self.ports[found[1]]}", text)
        text = text.replace("/var/lib/", f"{self.folder}/lib/").replace("%l", "unit01")
        return text.replace("MUSTER_SERVER_USER=muster", f"MUSTER_SERVER_USER={pwd.getpwuid(os.geteuid()).pw_name}")

    def env(self, name: str) -> dict[str, str]:
        """What systemd would give the process; a home of its own, so that nothing is found but by the unit."""
        home = self.folder / "home" / name
        home.mkdir(parents=True)
        more = dict(self.here(value).split("=", 1) for value in settings(name)["Environment"])
        for credential in settings(name)["LoadCredential"]:
            ident, _, path = credential.partition(":")
            assert path == "/etc/muster/nats.token"
            (home / "credentials").mkdir(mode=0o700)
            shutil.copy(self.token, home / "credentials" / ident)
            more["CREDENTIALS_DIRECTORY"] = str(home / "credentials")
        return clean_env(home, **more)

    def line(self, name: str) -> list[str]:
        """The command line of a unit."""
        (text,) = settings(name)["ExecStart"]
        program, *words = shlex.split(self.here(text))
        assert program == PROGRAM
        return [*MUSTER, *words]


@pytest.mark.slow
async def test_the_lines_of_the_units_make_a_mesh(tmp_path: Path) -> None:
    host = Host(tmp_path)
    mesh, agent, triggers = "muster.service", "muster-agent.service", "muster-triggers.service"
    async with Program.start(host.line(mesh), env=host.env(mesh)) as running_mesh:
        await running_mesh.line("ready api=", 60)
        host.token.parent.mkdir()
        shutil.copy(tmp_path / "lib" / "muster" / "nats.token", host.token)  # `install`, as the page says
        async with (
            Program.start(host.line(agent), env=host.env(agent)) as running_agent,
            Program.start(host.line(triggers), env=host.env(triggers)) as running_triggers,
        ):
            await running_agent.line("agent.ready", 60, stream="err")
            await running_triggers.line("ready triggers", 60)
            root = clean_env(tmp_path, MUSTER_DATA=f"{tmp_path}/lib/muster", MUSTER_API=host.api)

            async def runs() -> bool:
                return (await muster("run", "hello", "--on", "unit01", "--wait", env=root)).code == 0

            await eventually(runs, 40, "an order that runs")
            assert await running_agent.stop() == 0
            assert await running_triggers.stop() == 0
        assert await running_mesh.stop() == 0


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="NOT TRIED: systemd is not here")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    for name, path in UNITS.items():
        (tmp_path / name).write_text(path.read_text().replace(PROGRAM, "/bin/true"))
    units = [str(tmp_path / name) for name in UNITS]
    ran = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False, timeout=50)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_only_the_agent_may_be_root_and_nothing_has_a_token_in_its_environment() -> None:
    assert settings("muster.service")["User"] == ["muster"]
    assert settings("muster-triggers.service")["DynamicUser"] == ["yes"]
    assert settings("muster-agent.service")["User"] == []
    for path in UNITS.values():
        assert not [line for line in path.read_text().splitlines() if "TOKEN=" in line and not line.startswith("#")]


def test_the_page_names_every_unit_and_what_they_read() -> None:
    for name, path in UNITS.items():
        assert name in HOSTS
        assert path.name in (ROOT / "deploy" / "README.md").read_text()
    for shown in re.findall(r"ExecStart=(\S.*)", HOSTS):
        ours = settings("muster.service")["ExecStart"][0]
        assert re.sub(r"[\d.]+:\d+", "", shown) == re.sub(r"[\d.]+:\d+", "", ours), "only the addresses differ"
    read = {value.lstrip("-") for name in UNITS for value in settings(name)["EnvironmentFile"]}
    assert {path for path in read if path not in HOSTS} <= {"/etc/muster/triggers.environment"}
