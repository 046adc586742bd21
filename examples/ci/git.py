"""Running git, without this user's settings; and a developer, who commits and pushes."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final, Self

AUTHOR: Final = "Ada Byron"
PATIENCE: Final = 60.0


class GitError(Exception):
    """git is not there, or did not do what it was asked for."""


def environment() -> dict[str, str]:
    """This process's, without what changes how git works."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    mine = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0"}
    names = {f"GIT_{who}_NAME": AUTHOR for who in ("AUTHOR", "COMMITTER")}
    emails = {f"GIT_{who}_EMAIL": "ada@example.com" for who in ("AUTHOR", "COMMITTER")}
    return kept | mine | names | emails


def run(*words: str, cwd: Path) -> str:
    """What a git command printed.

    Raises:
        GitError: it failed, or there is no git.
    """
    try:
        ran = subprocess.run(
            ["git", *words], cwd=cwd, env=environment(), capture_output=True, text=True, timeout=PATIENCE, check=False
        )
    except FileNotFoundError:
        raise GitError("this example needs git; on Debian and Ubuntu: apt install git") from None
    if ran.returncode:
        raise GitError(f"git {' '.join(words)} ended with {ran.returncode}:\n{ran.stderr}")
    return ran.stdout


def backend() -> Path:
    """The program that makes a web server serve repositories; it comes with git.

    Raises:
        GitError: it does not.
    """
    place = Path(run("--exec-path", cwd=Path.cwd()).strip()) / "git-http-backend"
    if not place.exists():
        raise GitError(f"this example needs {place}; some distributions have it in a package git-daemon")
    return place


class Developer:
    """A clone of the project, and somebody who works in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def starts(cls, package: Path, folder: Path, url: str, token: str) -> Self:
        """A new project from a folder of files; not pushed yet."""
        shutil.copytree(package, folder, ignore=shutil.ignore_patterns("__pycache__"))
        self = cls(folder)
        self.git("init", "--quiet", "--initial-branch=main")
        self.git("remote", "add", "origin", url)
        self.git("config", "credential.helper", f"!f() {{ echo username=oauth2; echo password={token}; }}; f")
        self.commit("Begin")
        return self

    def git(self, *words: str) -> str:
        """Run git in the clone."""
        return run(*words, cwd=self.folder)

    def branch(self, name: str) -> None:
        """Begin a branch at main, or go to main itself."""
        self.git("checkout", "--quiet", *(["main"] if name == "main" else ["-B", name, "main"]))

    def change(self, path: str, old: str, new: str) -> None:
        """Change a file; with an empty `old`, add to its end."""
        file = self.folder / path
        text = file.read_text()
        file.write_text(text.replace(old, new, 1) if old else text + new)

    def commit(self, message: str) -> str:
        """Commit all that changed; the commit's id."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)
        return self.git("rev-parse", "HEAD").strip()

    def push(self, refspec: str) -> None:
        """Over HTTP, to the server."""
        self.git("push", "--quiet", "origin", refspec)
