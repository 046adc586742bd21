"""Somebody else's package with a plug-in, built and installed in a folder of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "{name}"
version = "1.0"

[project.entry-points."{group}"]
{entry}
"""


def installed(factory: pytest.TempPathFactory, name: str, group: str, entry: str, code: str) -> Path:
    """The folder to put on PYTHONPATH; `entry` is `kind = "module:Class"`, and the module's code is `code`."""
    source, target = factory.mktemp(name), factory.mktemp("site")
    module = name.replace("-", "_")
    (source / "pyproject.toml").write_text(PROJECT.format(name=name, group=group, entry=entry))
    (source / module).mkdir()
    (source / module / "__init__.py").write_text(code)
    install(source, target)
    return target


def install(source: Path, target: Path) -> None:
    """Builds the package in a folder, and installs it into another one."""
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-index"]
    options = ["--no-deps", "--no-build-isolation", "--target", str(target), str(source)]
    done = subprocess.run([*pip, *options], capture_output=True, text=True, check=False, timeout=50)
    if "No module named pip" in done.stderr or "hatchling" in done.stderr:
        pytest.skip(f"packages cannot be built here: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
