"""Runs git without the user's settings, and a developer who commits and pushes."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final, Self

AUTHOR: Final = "Ada Byron"
GIT_TIMEOUT: Final = 60.0


class GitError(Exception):
    """git is missing or failed."""


def environment() -> dict[str, str]:
    """Returns the environment of this process, without settings of git."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    mine = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0"}
    names = {f"GIT_{who}_NAME": AUTHOR for who in ("AUTHOR", "COMMITTER")}
    emails = {f"GIT_{who}_EMAIL": "ada@example.com" for who in ("AUTHOR", "COMMITTER")}
    return kept | mine | names | emails


def run(*words: str, cwd: Path) -> str:
    """Runs a git command; returns its output.

    Raises:
        GitError: the command failed, or git is missing.
    """
    try:
        ran = subprocess.run(
            ["git", *words],
            cwd=cwd,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=GIT_TIMEOUT,
            check=False,
        )
    except FileNotFoundError:
        raise GitError("this example needs git; on Debian and Ubuntu: apt install git") from None
    if ran.returncode:
        raise GitError(f"git {' '.join(words)} ended with {ran.returncode}:\n{ran.stderr}")
    return ran.stdout


def backend() -> Path:
    """Returns the path of git's HTTP backend.

    Raises:
        GitError: the backend is missing.
    """
    place = Path(run("--exec-path", cwd=Path.cwd()).strip()) / "git-http-backend"
    if not place.exists():
        raise GitError(f"this example needs {place}; some distributions have it in a package git-daemon")
    return place


class Developer:
    """A developer with a clone of the project."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def starts(cls, package: Path, folder: Path, url: str, token: str) -> Self:
        """Creates a project from a folder of files, without pushing it."""
        shutil.copytree(package, folder, ignore=shutil.ignore_patterns("__pycache__"))
        self = cls(folder)
        self.git("init", "--quiet", "--initial-branch=main")
        self.git("remote", "add", "origin", url)
        self.git("config", "credential.helper", f"!f() {{ echo username=oauth2; echo password={token}; }}; f")
        self.commit("Begin")
        return self

    def git(self, *words: str) -> str:
        """Runs git in the clone."""
        return run(*words, cwd=self.folder)

    def branch(self, name: str) -> None:
        """Creates a branch from main, or checks out main."""
        self.git("checkout", "--quiet", *(["main"] if name == "main" else ["-B", name, "main"]))

    def change(self, path: str, old: str, new: str) -> None:
        """Changes a file; an empty `old` appends to it."""
        file = self.folder / path
        text = file.read_text()
        file.write_text(text.replace(old, new, 1) if old else text + new)

    def commit(self, message: str) -> str:
        """Commits all changes; returns the id of the commit."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)
        return self.git("rev-parse", "HEAD").strip()

    def push(self, refspec: str) -> None:
        """Pushes to the server, over HTTP."""
        self.git("push", "--quiet", "origin", refspec)
