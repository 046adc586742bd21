"""An agent is small: it imports what it runs, when it runs it."""

from __future__ import annotations

import subprocess
import sys

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
