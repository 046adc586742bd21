"""Small disks: file systems in memory, of a size of their own, that other programs can fill."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

MIB: Final = 1024**2


class Disk:
    """A mounted file system."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def free(self) -> int:
        """The bytes that are free."""
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize

    def fill(self, leave: int = 0) -> None:
        """Take what is free, as another program would, except for so many bytes."""
        file = os.open(self.path / "filler", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            while (left := self.free - leave) > 0:
                os.write(file, bytes(min(left, MIB)))
        except OSError:
            assert not leave
        finally:
            os.close(file)

    def clear(self) -> None:
        """Give back what `fill` took."""
        (self.path / "filler").unlink()

    def resize(self, size: int) -> None:
        """Make it smaller or larger, with all that is on it."""
        subprocess.run(["mount", "-o", f"remount,size={size}", str(self.path)], check=True)


@contextmanager
def small_disk(path: Path, size: int, files: int = 0) -> Iterator[Disk]:
    """A disk of so many bytes, mounted at a folder while the test runs; with at most `files` files, or any number."""
    path.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size},nr_inodes={files},mode=700", "tmpfs", str(path)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"NOT TESTED: this account cannot mount a small disk ({mounted.stderr.strip()})")
    try:
        yield Disk(path)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)
