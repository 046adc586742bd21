"""Deliveries in the shape that GitHub's documentation shows (webhook-events-and-payloads), one a shape."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

BEFORE: Final = "6113728f27ae82c7b1a177c8d03f9e96e0adf246"
AFTER: Final = "ec26c3e57ca3a959ca5aad62de7213c562f8c821"
NONE: Final = "0" * 40
TAG: Final = "7d3c5a1f0e9b8a76543210fedcba98765432100f"
"""An annotated tag, which is an object of its own beside the commit."""

REPOSITORY: Final = {
    "id": 1296269,
    "name": "rocket",
    "full_name": "space/rocket",
    "owner": {"login": "space", "id": 1},
    "private": False,
    "html_url": "https://github.com/space/rocket",
    "clone_url": "https://github.com/space/rocket.git",
    "default_branch": "main",
}
COMMON: Final = {"repository": REPOSITORY, "sender": {"login": "ada", "id": 4, "type": "User"}}
LABELS: Final = [{"id": 1, "name": "bug", "color": "f29513"}]


def push(**more: Any) -> dict[str, Any]:
    """To main: one commit."""
    commit = {
        "id": AFTER,
        "message": "Fix the pump",
        "author": {"name": "Ada Byron", "email": "ada@example.com", "username": "ada"},
        "added": ["docs/pump.md"],
        "removed": ["old/pipe.py"],
        "modified": ["src/pump.py"],
    }
    return {
        "ref": "refs/heads/main",
        "before": BEFORE,
        "after": AFTER,
        "created": False,
        "deleted": False,
        "forced": False,
        "base_ref": None,
        "compare": "https://github.com/space/rocket/compare/6113728f27ae...ec26c3e57ca3",
        "commits": [commit],
        "head_commit": commit,
        "pusher": {"name": "ada", "email": "ada@example.com"},
        **COMMON,
    } | more


def pull_request(action: str = "opened", **more: Any) -> dict[str, Any]:
    """From fix-pump into main."""
    request = {
        "number": 7,
        "state": "open",
        "merged": False,
        "title": "Fix the pump",
        "labels": LABELS,
        "head": {"ref": "fix-pump", "sha": AFTER, "label": "ada:fix-pump"},
        "base": {"ref": "main", "sha": BEFORE, "label": "space:main"},
    }
    return {"action": action, "number": 7, "pull_request": request | more, **COMMON}


def run(kind: str, fork: str = "", **more: Any) -> dict[str, Any]:
    """What ran on main and succeeded."""
    owner = fork or "space"
    found = {
        "id": 30433642,
        "name": "Build",
        "head_branch": "main",
        "head_sha": AFTER,
        "status": "completed",
        "conclusion": "success",
        "head_repository": {"full_name": f"{owner}/rocket", "owner": {"login": owner}},
    }
    return {"action": "completed", kind: found | more, **COMMON}


class Sent(NamedTuple):
    """A delivery, and what we should make of it."""

    kind: str
    body: dict[str, Any]
    facts: dict[str, Any] = {}


_MAIN: Final = {"ref": "refs/heads/main", "branch": "main", "commit": AFTER}
_REQUEST: Final = {
    "ref": "refs/pull/7/head",
    "branch": "fix-pump",
    "source_branch": "fix-pump",
    "target_branch": "main",
    "commit": AFTER,
    "status": "open",
    "labels": ["bug"],
}
_DEPLOYMENT: Final = {"ref": "main", "sha": AFTER, "environment": "staging"}
_CHECK: Final = {
    "head_sha": AFTER,
    "status": "completed",
    "conclusion": "failure",
    "check_suite": {"head_branch": "main", "head_sha": AFTER},
}
_GROUP: Final = {"head_sha": AFTER, "head_ref": "refs/heads/gh-readonly-queue/main/pr-7", "base_ref": "refs/heads/main"}

DELIVERIES: Final = (
    Sent(
        "push",
        push(),
        _MAIN
        | {
            "project": "space/rocket",
            "user": "ada",
            "action": "updated",
            "files": ["docs/pump.md", "src/pump.py", "old/pipe.py"],
        },
    ),
    Sent("push", push(ref="refs/tags/v1", before=NONE), {"tag": "v1", "branch": "", "action": "created"}),
    Sent("push", push(ref="refs/tags/v2", after=TAG), {"tag": "v2", "commit": AFTER}),
    Sent("push", push(after=NONE, deleted=True, commits=[]), {"commit": "", "action": "deleted", "files": []}),
    Sent("create", {"ref": "v1", "ref_type": "tag", **COMMON}, {"ref": "refs/tags/v1", "tag": "v1"}),
    Sent("delete", {"ref": "old", "ref_type": "branch", **COMMON}, {"ref": "refs/heads/old", "branch": "old"}),
    Sent("pull_request", pull_request(), _REQUEST | {"action": "opened"}),
    Sent("pull_request", pull_request("closed", state="closed", merged=True), {"action": "closed", "status": "merged"}),
    Sent("pull_request_review", pull_request("submitted"), _REQUEST),
    Sent("issues", {"action": "opened", "issue": {"state": "open", "labels": LABELS}, **COMMON}, {"labels": ["bug"]}),
    Sent(
        "issue_comment", {"action": "created", "issue": {"state": "open", "labels": []}, **COMMON}, {"status": "open"}
    ),
    Sent(
        "release",
        {"action": "published", "release": {"tag_name": "v1"}, **COMMON},
        {"tag": "v1", "action": "published"},
    ),
    Sent("workflow_run", run("workflow_run"), _MAIN | {"status": "success"}),
    Sent("workflow_run", run("workflow_run", fork="eve"), {"branch": "eve:main"}),
    Sent("workflow_job", run("workflow_job", status="queued", conclusion=None), _MAIN | {"status": "queued"}),
    Sent("check_run", {"action": "completed", "check_run": _CHECK, **COMMON}, _MAIN | {"status": "failure"}),
    Sent("check_suite", run("check_suite"), _MAIN | {"status": "success"}),
    Sent("deployment", {"action": "created", "deployment": _DEPLOYMENT, **COMMON}, _MAIN),
    Sent(
        "deployment_status",
        {"deployment": _DEPLOYMENT | {"ref": AFTER}, "deployment_status": {"state": "success"}, **COMMON},
        {"branch": "", "commit": AFTER, "status": "success"},
    ),
    Sent("status", {"sha": AFTER, "state": "pending", "branches": [{"name": "main"}], **COMMON}, _MAIN),
    Sent("workflow_dispatch", {"ref": "refs/heads/main", "inputs": {}, **COMMON}, {"branch": "main"}),
    Sent("repository_dispatch", {"action": "go", "branch": "main", **COMMON}, {"branch": "main", "action": "go"}),
    Sent("merge_group", {"merge_group": _GROUP, **COMMON}, {"target_branch": "main", "commit": AFTER}),
    Sent("commit_comment", {"comment": {"commit_id": AFTER}, **COMMON}, {"commit": AFTER}),
    Sent("organization", {"action": "member_added", "organization": {"login": "space"}}, {"project": "space"}),
    Sent("star", {"action": "created", **COMMON}, {"user": "ada"}),
    Sent("of_tomorrow", {"action": "x"}, {"action": "x"}),
)
