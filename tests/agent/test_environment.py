"""What a task finds in its environment, and in that of the processes above it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from muster.agent.settings import AgentSettings
from muster.mesh.environment import passed
from tests.agent.broker_stand_in import StandIn
from tests.agent.conftest import running_agent
from tests.agent.test_faults import agent_process

SECRETS = {"MUSTER_TOKEN": "t1", "MUSTER_NATS_TOKEN": "t2", "HOOK_SECRET": "t3", "MUSTER_SERVER": "nats://u:t4@h:1"}

ABOVE = """\
env
pid=$PPID
while [ "$pid" -gt 1 ]; do
  echo "process $pid"
  tr '\\0' '\\n' < /proc/$pid/environ || echo denied
  pid=$(sed -n 's/^PPid:[^0-9]*//p' /proc/$pid/status)
  [ "$pid" != STOP ] || break
done
"""


def test_plain_variables_are_passed_and_others_only_by_name() -> None:
    given = {"PATH": "/bin", "LC_TIME": "C", "https_proxy": "p", "JAVA_HOME": "j", "AWS_KEY": "k", **SECRETS}
    assert passed(given) == {"PATH": "/bin", "LC_TIME": "C", "https_proxy": "p"}
    assert passed(given, ["AWS_*"]) == {"PATH": "/bin", "LC_TIME": "C", "https_proxy": "p", "AWS_KEY": "k"}
    assert passed(given, ["*"]).keys() == given.keys() - {"MUSTER_TOKEN", "MUSTER_NATS_TOKEN", "MUSTER_SERVER"}


async def test_a_task_has_what_is_passed_and_its_order(
    broker: StandIn, agent_settings: AgentSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**SECRETS, "GIVEN": "yes"}.items():
        monkeypatch.setenv(name, value)
    async with running_agent(agent_settings, pass_env=("GIV*",)):
        await broker.done(order := await broker.order([{"name": "a", "run": "env"}]))
    reported = bytes(broker.output[f"{order}.a"]).decode().splitlines()
    names = {line.partition("=")[0] for line in reported}
    assert {"GIVEN", "PATH", "MUSTER_ORDER", "MUSTER_OUTPUTS"} <= names
    assert not names & SECRETS.keys()


async def test_an_http_task_connects_where_its_agent_may(broker: StandIn, agent_settings: AgentSettings) -> None:
    task = {"name": "a", "uses": "http", "with": {"url": "http://127.0.0.1:1/"}}
    async with running_agent(agent_settings, http_deny=("127.0.0.0/8",)):
        await broker.done(order := await broker.order([task]))
    assert b"the agent has --http-deny 127.0.0.0/8" in bytes(broker.output[f"{order}.a"])


async def test_no_process_above_a_task_shows_a_secret(
    broker: StandIn, agent_settings: AgentSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    async with agent_process(agent_settings):
        script = ABOVE.replace("STOP", str(os.getpid()))
        await broker.done(order := await broker.order([{"name": "a", "run": script}]))
    reported = bytes(broker.output[f"{order}.a"]).decode()
    assert reported.count("process ") == 2, "the spawner and the agent"
    assert not [value for value in SECRETS.values() if f"={value}\n" in reported]


def test_a_role_blanks_its_environment_and_keeps_its_own_copy() -> None:
    code = (
        "import os; from muster.mesh.environment import conceal; conceal();"
        "print(open('/proc/self/environ').read().split('\\0')); print(os.environ['HOOK_SECRET'])"
        if os.getuid() == 0
        else "import os; from muster.mesh.environment import conceal; conceal(); print(os.environ['HOOK_SECRET'])"
    )
    environment = {"HOOK_SECRET": "t3", "LANG": "C.UTF-8", "PYTHONPATH": str(Path(__file__).parents[2])}
    shown = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    *block, own = shown.stdout.splitlines()
    assert own == "t3"
    assert "t3" not in "".join(block)
    if block:
        assert "LANG=C.UTF-8" in block[0]
