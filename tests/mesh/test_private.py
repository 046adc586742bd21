"""What we write is for our own account."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from muster.mesh.errors import RefusedError
from muster.mesh.private import private_folder
from tests.kit.strangers import STRANGER, needs_root

UMASKS = """
import os
from muster.mesh.private import inherited_umask, keep_private
print(inherited_umask())
keep_private()
keep_private()
print(os.umask(0), inherited_umask())
"""


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_folder_is_made_for_us_alone_and_an_older_one_closed_to_others(tmp_path: Path) -> None:
    assert mode(private_folder(tmp_path / "new")) == 0o700
    old = tmp_path / "old"
    (old / "broker").mkdir(parents=True)
    for path in (old, old / "broker"):
        path.chmod(0o755)
    assert mode(private_folder(old, "broker")) == 0o700
    assert mode(old) == 0o700


def test_a_folder_with_other_things_in_it_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    tmp_path.chmod(0o755)
    private_folder(tmp_path, "broker")
    assert (mode(tmp_path), mode(tmp_path / "broker")) == (0o755, 0o700)


def test_a_folder_in_which_everybody_may_write_is_refused(tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    tmp_path.chmod(0o777)
    with pytest.raises(RefusedError, match="every account may write"):
        private_folder(tmp_path)


@needs_root
def test_another_account_s_folder_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    os.seteuid(STRANGER)
    try:
        with pytest.raises(RefusedError, match=r"belongs to|cannot write"):
            private_folder(tmp_path, "broker")
    finally:
        os.seteuid(0)


def test_the_umask_is_ours_and_the_one_before_is_remembered_for_tasks() -> None:
    ran = subprocess.run([sys.executable, "-c", UMASKS], umask=0o027, capture_output=True, check=True, timeout=50)
    assert ran.stdout.split() == [str(number).encode() for number in (0o027, 0o077, 0o027)]
