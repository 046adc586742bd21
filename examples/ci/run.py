"""`make example-ci`: a GitLab, an artifact server and three runners on this machine, and what happens after pushes.

Everything is real: git over HTTP, webhooks, processes.  It uses a temporary folder and free ports, and cleans up.  The
exit code is 0 only if every expectation holds.
"""

from __future__ import annotations

import secrets
import signal
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from examples.ci import story
from examples.ci.artifacts import Artifacts
from examples.ci.fleet import Fleet
from examples.ci.git import Developer, GitError
from examples.ci.gitlab import GitLab
from examples.ci.show import UnexpectedError, expect, say, step, wrong
from examples.ci.story import Site

HERE: Final = Path(__file__).resolve().parent
INTERRUPTED: Final = 130
TERMINATED: Final = 143


def main() -> int:
    """Runs the example; returns the exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))  # so that all started processes are ended too
    with tempfile.TemporaryDirectory(prefix="muster-ci-") as folder, ExitStack() as stack:
        try:
            site = _start(Path(folder), stack)
            for part in story.PARTS:
                part(site)
            _stop(site)
        except (UnexpectedError, GitError) as error:
            wrong(str(error))
            return 1
        except KeyboardInterrupt:
            return INTERRUPTED
    return 0


def _start(folder: Path, stack: ExitStack) -> Site:
    step("Starting a GitLab, an artifact server and a mesh, in a temporary folder")
    token, upload, hook = (secrets.token_urlsafe(24) for _ in range(3))
    for name in ("artifacts", "mesh"):
        (folder / name).mkdir()
    gitlab = stack.enter_context(GitLab(folder / "gitlab", token=token, hook_token=hook))
    artifacts = stack.enter_context(Artifacts(folder / "artifacts", upload))
    environment = {"GITLAB_HOOK_SECRET": hook, "GITLAB_TOKEN": token, "ARTIFACT_TOKEN": upload}
    fleet = stack.enter_context(Fleet(folder / "mesh", **environment))
    say(f"   GitLab     {gitlab.git_url}")
    say(f"   artifacts  {artifacts.url}")
    say(f"   Muster     {fleet.api}, hooks at {fleet.api}/hooks/…")
    developer = Developer.starts(HERE / "package", folder / "clone", gitlab.git_url, token)
    return Site(
        gitlab=gitlab,
        artifacts=artifacts,
        fleet=fleet,
        developer=developer,
        manifests=_for_here(folder / "manifests", gitlab, artifacts),
    )


def _for_here(folder: Path, gitlab: GitLab, artifacts: Artifacts) -> Path:
    """Copies the manifests with the two addresses of this run."""
    folder.mkdir()
    places = {"http://127.0.0.1:8929": gitlab.url, "http://127.0.0.1:8930": artifacts.url}
    for file in sorted((HERE / "manifests").glob("*.yaml")):
        text = file.read_text()
        for written, real in places.items():
            text = text.replace(written, real)
        (folder / file.name).write_text(text)
    return folder


def _stop(site: Site) -> None:
    step("Stopping everything: the runners first, the mesh last")
    codes = site.fleet.stop()
    expect(f"all {len(codes)} processes ended cleanly", not any(codes.values()), codes)
    say("")
    say("   To use it with your GitLab, see examples/README.md.")


if __name__ == "__main__":
    sys.exit(main())
