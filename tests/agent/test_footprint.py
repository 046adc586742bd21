"""An agent is small: it imports what it runs, when it runs it."""

from __future__ import annotations

import gc
import subprocess
import sys
from functools import partial
from typing import Any

import pytest

from muster.agent.attempt import Attempt
from muster.agent.lease import Delivery
from tests.agent.broker_stand_in import StandIn
from tests.kit.waiting import eventually

HEAVY = ("httpx", "jinja2", "cel_expr_python", "jsonschema_rs", "yaml", "psutil", "litestar", "uvicorn", "uvloop")


def test_starting_an_agent_imports_nothing_heavy() -> None:
    code = f"import sys, muster.agent.main; print([name for name in {HEAVY!r} if name in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_running_scripts_imports_nothing_heavy() -> None:
    code = (
        "import sys, muster.agent.main, muster.agent.process\n"
        "from muster.blueprints.kinds import task_kinds\n"
        "task_kinds()['script'], task_kinds()['noop']\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


LAST = 2
"""The last attempt and its delivery may still be in a loop's hand."""

ENDS: dict[str, list[dict[str, Any]]] = {
    "nothing": [{"name": "a", "uses": "noop"}],
    "a script": [{"name": "a", "run": "echo hello"}],
    "a failure": [{"name": "a", "run": "exit 3"}],
    "a template": [{"name": "a", "run": "cat note", "files": {"note": "{{ order.id }}"}}],
    "a wrong condition": [{"name": "a", "uses": "noop", "when": "inputs.none == 1"}],
    "being cancelled": [{"name": "a", "run": "echo started; sleep 100"}],
}


@pytest.mark.usefixtures("agent")
@pytest.mark.parametrize("end", ENDS)
async def test_ended_orders_are_freed_without_the_collector(broker: StandIn, end: str) -> None:
    gc.collect()
    gc.disable()
    try:
        for _ in range(4):
            order = await broker.order(ENDS[end])
            if end == "being cancelled":
                await eventually(partial(broker.output.get, f"{order}.a"))
                await broker.cancel(order)
            await broker.done(order)
        await broker.settled()
        await eventually(lambda: sum(isinstance(it, Attempt | Delivery) for it in gc.get_objects()) <= LAST)
    finally:
        gc.enable()
