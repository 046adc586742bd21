"""Walls between orders.  What takes root or control groups says so where this machine has not got it."""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path
from typing import Any

import msgspec
import pytest

from muster.agent import cgroups
from muster.agent.cgroups import Cgroups
from muster.agent.isolation import Isolation, User, of_order, of_settings
from muster.agent.settings import AgentSettings
from muster.blueprints.definition import Blueprint, size
from muster.mesh.errors import RefusedError
from muster.mesh.model import OrderState
from tests.agent.broker_stand_in import StandIn
from tests.agent.conftest import running_agent
from tests.agent.test_faults import is_running, pid_in
from tests.kit.waiting import eventually

NOBODY = pwd.getpwnam("nobody")
DAEMON = "setsid sh -c 'echo $$ > {path}; exec sleep 300' > /dev/null 2>&1 & until [ -s {path} ]; do sleep 0.02; done"


def why_no_cgroups(isolation: Isolation) -> str:
    """What is missing here; empty if nothing is."""
    groups = Cgroups("probe")
    try:
        groups.prepare(isolation)
    except RefusedError as error:
        return error.detail
    finally:
        groups.close()
    return ""


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="run_as takes root")
with_cgroups = pytest.mark.skipif(
    bool(why_no_cgroups(Isolation(cgroup=True))), reason=why_no_cgroups(Isolation(cgroup=True))
)
LIMITED = Isolation(cgroup=True, memory=1 << 26, processes=20)
with_limits = pytest.mark.skipif(bool(why_no_cgroups(LIMITED)), reason=why_no_cgroups(LIMITED))


def user(name: str) -> User:
    return User(name=name, number=1, group=1, groups=(1,), home="/", shell="/bin/sh")


def blueprint(**fields: Any) -> Blueprint:
    return msgspec.convert({"kind": "blueprint", "name": "b", **fields}, Blueprint)


def test_a_blueprint_may_ask_for_more_and_never_for_less() -> None:
    floor = Isolation(user=user("nobody"), cgroup=True, memory=100, processes=10)
    assert of_order(floor, blueprint()) == floor
    assert of_order(floor, blueprint(isolation="none", memory="1GB", processes=50)) == floor
    tight = of_order(floor, blueprint(memory="50", processes=5))
    assert (tight.memory, tight.processes) == (50, 5)
    assert of_order(Isolation(), blueprint(memory="1MB")).cgroup
    with pytest.raises(RefusedError, match="runs all as nobody"):
        of_order(floor, blueprint(run_as="daemon")) if os.geteuid() == 0 else pytest.skip("run_as takes root")


@pytest.mark.parametrize("name", ["no-such-user-here", "root"])
def test_an_agent_does_not_start_with_a_user_that_it_cannot_have(agent_settings: AgentSettings, name: str) -> None:
    with pytest.raises(RefusedError, match="run_as"):
        of_settings(msgspec.structs.replace(agent_settings, run_as=name))


@pytest.mark.parametrize(("text", "number"), [("512MB", 512 << 20), ("1 GB", 1 << 30), ("12", 12), ("3KB", 3072)])
def test_sizes_are_read(text: str, number: int) -> None:
    assert size(text) == number


@as_root
async def test_run_as_changes_the_user_and_drops_every_capability(
    broker: StandIn, agent_settings: AgentSettings
) -> None:
    script = (
        "id -u; id -G; echo $HOME $USER; grep -E '^(Cap|NoNewPrivs)' /proc/self/status; echo x=1 >> $MUSTER_OUTPUTS"
    )
    async with running_agent(agent_settings, run_as="nobody"):
        task = {
            "name": "a",
            "run": f"{script}\nstat -c '%U %a' . note; cat note $MUSTER_INPUTS",
            "files": {"note": "n"},
        }
        done = await broker.done(order := await broker.order([task], inputs={"i": "v"}))
    assert (done.state, done.outputs) == (OrderState.FINISHED, {"x": 1}), done
    reported = bytes(broker.output[f"{order}.a"]).decode().splitlines()
    assert reported[:3] == [str(NOBODY.pw_uid), str(NOBODY.pw_gid), f"{NOBODY.pw_dir} nobody"]
    status = dict(line.split() for line in reported[3:9])
    assert status.pop("NoNewPrivs:") == "1"
    assert {int(value, 16) for value in status.values()} == {0}, status
    assert reported[9:] == ["nobody 700", "nobody 700", 'n{"i":"v"}']


@as_root
async def test_folders_of_others_and_the_agents_own_are_out_of_reach(
    broker: StandIn, agent_settings: AgentSettings, tmp_path: Path
) -> None:
    spy = f"ls {agent_settings.data} || echo closed; for f in /proc/[0-9]*/environ; do tr '\\0' '\\n' < $f; done; :"
    async with running_agent(agent_settings):
        held = await broker.order(
            {
                "tasks": [
                    {"name": "a", "run": f"echo $PWD > {tmp_path}/pid.folder; echo $$ > {tmp_path}/pid; sleep 300"}
                ]
            },
            inputs={"password": "hunter2"},
        )
        await pid_in(tmp_path / "pid")
        folder = (tmp_path / "pid.folder").read_text().strip()
        blueprint = {"run_as": "nobody", "tasks": [{"name": "a", "run": f"ls {folder} || echo apart; {spy}"}]}
        await broker.done(order := await broker.order(blueprint))
        await broker.cancel(held)
        await broker.done(held)
    reported = bytes(broker.output[f"{order}.a"]).decode()
    assert "apart" in reported
    assert "closed" in reported
    assert "hunter2" not in reported


@as_root
async def test_links_in_a_users_folder_lead_root_nowhere(
    broker: StandIn, agent_settings: AgentSettings, tmp_path: Path
) -> None:
    (tmp_path / "target").mkdir()
    first = f"ln -s {tmp_path}/target conf; ln -s {tmp_path}/secret .outputs-b-1; mkfifo .inputs-b"
    (tmp_path / "secret").write_text("stolen=1\n")
    async with running_agent(agent_settings, run_as="nobody"):
        tasks: list[dict[str, Any]] = [
            {"name": "a", "run": first},
            {"name": "b", "run": "true", "files": {"conf/x": "x"}},
        ]
        done = await broker.done(await broker.order(tasks, inputs={"i": 1}))
        assert "leads out of the working folder" in done.reason
        done = await broker.done(await broker.order([tasks[0], {"name": "b", "run": "true"}], inputs={"i": 1}))
        assert "cannot read $MUSTER_OUTPUTS" in done.reason
    assert list((tmp_path / "target").iterdir()) == []


@as_root
async def test_a_users_folder_goes_with_its_order_and_the_rest_with_the_agent(
    broker: StandIn, agent_settings: AgentSettings
) -> None:
    async with running_agent(agent_settings, run_as="nobody"):
        await broker.done(order := await broker.order([{"name": "a", "run": "mkdir -p a/b; touch a/b/c; pwd"}]))
        folder = Path(bytes(broker.output[f"{order}.a"]).decode().strip())
        await eventually(lambda: not folder.exists())
        assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o711
    assert not folder.parent.exists()


@with_cgroups
async def test_what_an_order_leaves_behind_dies_with_it(
    broker: StandIn, agent_settings: AgentSettings, tmp_path: Path
) -> None:
    async with running_agent(agent_settings, isolation="cgroup"):
        order = await broker.order([{"name": "a", "run": DAEMON.format(path=tmp_path / "pid")}])
        assert (await broker.done(order)).state is OrderState.FINISHED
        assert not is_running(await pid_in(tmp_path / "pid"))
        assert not [*cgroups._own().glob(f"{cgroups.BASE}*/{order}")]
    assert not [*cgroups._own().glob(f"{cgroups.BASE}*/{order}")]


@with_cgroups
async def test_a_blueprint_alone_may_ask_for_a_group(
    broker: StandIn, agent_settings: AgentSettings, tmp_path: Path
) -> None:
    task = {"name": "a", "run": DAEMON.format(path=tmp_path / "pid")}
    async with running_agent(agent_settings):
        await broker.done(await broker.order({"isolation": "cgroup", "tasks": [task]}))
        assert not is_running(await pid_in(tmp_path / "pid"))


@with_limits
async def test_limits_hold(broker: StandIn, agent_settings: AgentSettings) -> None:
    eat = "python3 -c 'x = bytearray(300_000_000)'"
    fork = "for n in $(seq 100); do sleep 5 & done"
    async with running_agent(agent_settings, memory=64 << 20, processes=20):
        for script in (eat, fork):
            assert (await broker.done(await broker.order([{"name": "a", "run": script}]))).state is OrderState.FAILED


@pytest.mark.skipif(not why_no_cgroups(LIMITED), reason="this machine has all controllers")
async def test_limits_that_cannot_be_had_are_refused_in_words(broker: StandIn, agent_settings: AgentSettings) -> None:
    with pytest.raises(RefusedError, match=r"isolation: .*Delegate=yes"):
        async with running_agent(agent_settings, memory=1 << 26):
            pass
    async with running_agent(agent_settings):
        done = await broker.done(await broker.order({"memory": "64MB", "tasks": [{"name": "a", "run": "true"}]}))
    assert done.state is OrderState.FAILED
    assert "Delegate=yes" in done.reason
