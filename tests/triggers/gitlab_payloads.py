"""Deliveries in the shape that GitLab's documentation shows (webhook_events.md, system_hooks.md), one a kind."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

BEFORE: Final = "95790bf891e76fee5e1747ab589903a6a1f80f22"
AFTER: Final = "da1560886d4f094c3e6c9ef40349f7d38b5d27d7"
NONE: Final = "0" * 40

PROJECT: Final[dict[str, Any]] = {
    "id": 15,
    "name": "Rocket",
    "web_url": "https://gitlab.example.com/space/rocket",
    "git_ssh_url": "git@gitlab.example.com:space/rocket.git",
    "git_http_url": "https://gitlab.example.com/space/rocket.git",
    "namespace": "Space",
    "visibility_level": 0,
    "path_with_namespace": "space/rocket",
    "default_branch": "main",
}
USER: Final = {"id": 4, "name": "Ada Byron", "username": "ada", "email": "[REDACTED]"}
LABELS: Final = [{"id": 206, "title": "API", "type": "ProjectLabel"}, {"id": 207, "title": "urgent"}]
COMMIT: Final[dict[str, Any]] = {
    "id": AFTER,
    "message": "Fix the pump\n",
    "title": "Fix the pump",
    "timestamp": "2026-01-03T23:36:29+02:00",
    "url": f"https://gitlab.example.com/space/rocket/-/commit/{AFTER}",
    "author": {"name": "Ada Byron", "email": "ada@example.com"},
}


def push(**more: Any) -> dict[str, Any]:
    """To main: two commits."""
    commits = [
        COMMIT | {"id": BEFORE[::-1], "added": ["docs/pump.md"], "modified": ["src/pump.py"], "removed": []},
        COMMIT | {"added": [], "modified": ["src/pump.py"], "removed": ["old/pipe.py"]},
    ]
    return {
        "object_kind": "push",
        "event_name": "push",
        "before": BEFORE,
        "after": AFTER,
        "ref": "refs/heads/main",
        "ref_protected": True,
        "checkout_sha": AFTER,
        "user_id": 4,
        "user_name": "Ada Byron",
        "user_username": "ada",
        "project_id": 15,
        "project": PROJECT,
        "commits": commits,
        "total_commits_count": 2,
        "push_options": {},
    } | more


def tag_push(**more: Any) -> dict[str, Any]:
    """A new tag."""
    kinds = {"object_kind": "tag_push", "event_name": "tag_push", "ref": "refs/tags/v1.0.0"}
    return push(**kinds, before=NONE, commits=[], total_commits_count=0) | more


def issue(kind: str = "issue", **attributes: Any) -> dict[str, Any]:
    """An issue that was opened."""
    found = {"id": 301, "iid": 23, "title": "It leaks", "state": "opened", "action": "open", "labels": LABELS}
    return {
        "object_kind": "issue",
        "event_type": kind,
        "user": USER,
        "project": PROJECT,
        "object_attributes": found | attributes,
        "labels": LABELS,
        "changes": {},
    }


def merge_request(**attributes: Any) -> dict[str, Any]:
    """From fix-pump into main."""
    found = {
        "id": 99,
        "iid": 7,
        "source_branch": "fix-pump",
        "target_branch": "main",
        "title": "Fix the pump",
        "state": "opened",
        "action": "open",
        "last_commit": COMMIT,
        "draft": False,
    }
    return {
        "object_kind": "merge_request",
        "event_type": "merge_request",
        "user": USER,
        "project": PROJECT,
        "object_attributes": found | attributes,
        "labels": LABELS,
        "changes": {},
    }


def note(below: dict[str, Any], kind: str = "note", **attributes: Any) -> dict[str, Any]:
    """A comment below something."""
    found = {"id": 1241, "note": "Looks good", "noteable_type": "MergeRequest", "action": "create"}
    head = {"object_kind": "note", "event_type": kind, "user": USER, "project_id": 15, "project": PROJECT}
    return head | {"object_attributes": found | attributes} | below


def pipeline(**attributes: Any) -> dict[str, Any]:
    """One that succeeded on main."""
    found = {"id": 31, "ref": "main", "tag": False, "sha": AFTER, "source": "push", "status": "success"}
    return {
        "object_kind": "pipeline",
        "object_attributes": found | attributes,
        "merge_request": None,
        "user": USER,
        "project": PROJECT,
        "commit": COMMIT,
        "builds": [],
    }


def job(**more: Any) -> dict[str, Any]:
    """One that failed."""
    return {
        "object_kind": "build",
        "ref": "main",
        "tag": False,
        "sha": AFTER,
        "build_id": 1977,
        "build_name": "test",
        "build_stage": "test",
        "build_status": "failed",
        "pipeline_id": 2366,
        "project_id": 15,
        "project_name": "Space / Rocket",
        "user": USER,
        "commit": {"id": 2366, "sha": AFTER, "status": "failed"},
        "project": PROJECT,
    } | more


def deployment() -> dict[str, Any]:
    """To staging."""
    return {
        "object_kind": "deployment",
        "status": "success",
        "deployment_id": 15,
        "environment": "staging",
        "project": PROJECT,
        "ref": "main",
        "short_sha": AFTER[:8],
        "user": USER,
        "commit_url": COMMIT["url"],
        "commit_title": COMMIT["title"],
    }


def release() -> dict[str, Any]:
    """Of v1.1."""
    return {
        "object_kind": "release",
        "id": 1,
        "name": "v1.1",
        "tag": "v1.1",
        "action": "create",
        "project": PROJECT,
        "commit": COMMIT,
        "assets": {"count": 0, "links": [], "sources": []},
    }


def plain(kind: str, **more: Any) -> dict[str, Any]:
    """What has attributes, a project and maybe a user."""
    return {"object_kind": kind, "project": PROJECT, "user": USER, "object_attributes": {"id": 6}} | more


def named(name: str, /, **more: Any) -> dict[str, Any]:
    """What is called by what was done."""
    return {"event_name": name, "created_at": "2026-01-11T04:57:22Z", "updated_at": "2026-01-11T04:57:22Z"} | more


class Sent(NamedTuple):
    """A delivery, and what we should make of it."""

    header: str
    body: dict[str, Any]
    kind: str
    facts: dict[str, Any] = {}


_MAIN: Final = {"ref": "refs/heads/main", "branch": "main"}
_REQUEST: Final = {
    "ref": "refs/merge-requests/7/head",
    "branch": "fix-pump",
    "source_branch": "fix-pump",
    "target_branch": "main",
    "commit": AFTER,
    "status": "opened",
}
FORKED: Final = {
    "merge_request": {
        "iid": 7,
        "source_branch": "main",
        "source_project_id": 99,
        "target_branch": "main",
        "target_project_id": 15,
    }
}
_CREATE: Final = {"action": "create"}
_GROUP: Final = {"group_path": "space", "group_id": 100, "user_username": "ada", "group_access": "Guest"}
_TEAM: Final = {"project_path_with_namespace": "space/rocket", "user_username": "ada", "access_level": "Maintainer"}
_MADE: Final = {"name": "rocket", "path": "rocket", "path_with_namespace": "space/rocket", "project_id": 22}

DELIVERIES: Final = (
    Sent(
        "Push Hook",
        push(),
        "push",
        _MAIN
        | {
            "commit": AFTER,
            "project": "space/rocket",
            "user": "ada",
            "action": "updated",
            "files": ["docs/pump.md", "src/pump.py", "old/pipe.py"],
        },
    ),
    Sent("Push Hook", push(before=NONE), "push", _MAIN | {"commit": AFTER, "action": "created"}),
    Sent("Push Hook", push(after=NONE, checkout_sha=None), "push", _MAIN | {"commit": "", "action": "deleted"}),
    Sent("Tag Push Hook", tag_push(), "tag_push", {"ref": "refs/tags/v1.0.0", "tag": "v1.0.0", "branch": ""}),
    Sent("Issue Hook", issue(), "issue", {"action": "open", "status": "opened", "labels": ["API", "urgent"]}),
    Sent("Confidential Issue Hook", issue("confidential_issue"), "confidential_issue", {"user": "ada"}),
    Sent("Issue Hook", issue("work_item", type="Task") | {"object_kind": "work_item"}, "work_item"),
    Sent("Note Hook", note({"commit": COMMIT}), "note", {"commit": AFTER, "action": "create"}),
    Sent("Note Hook", note({"merge_request": merge_request()["object_attributes"]}), "note", _REQUEST),
    Sent("Note Hook", note({"issue": {"state": "closed", "labels": LABELS}}), "note", {"labels": ["API", "urgent"]}),
    Sent("Confidential Note Hook", note({}, "confidential_note"), "confidential_note"),
    Sent("Merge Request Hook", merge_request(), "merge_request", _REQUEST | {"action": "open", "user": "ada"}),
    Sent(
        "Wiki Page Hook", plain("wiki_page", object_attributes={"action": "create"}), "wiki_page", {"action": "create"}
    ),
    Sent("Pipeline Hook", pipeline(), "pipeline", _MAIN | {"commit": AFTER, "status": "success"}),
    Sent("Pipeline Hook", pipeline() | FORKED, "pipeline", {"ref": "refs/merge-requests/7/head", "branch": ""}),
    Sent("Job Hook", job() | FORKED, "job", {"branch": "", "source_branch": "main", "target_branch": "main"}),
    Sent("Pipeline Hook", pipeline(ref="v2", tag=True), "pipeline", {"tag": "v2", "branch": "", "ref": "refs/tags/v2"}),
    Sent("Job Hook", job(), "job", _MAIN | {"commit": AFTER, "status": "failed", "project": "space/rocket"}),
    Sent("Deployment Hook", deployment(), "deployment", _MAIN | {"commit": AFTER, "status": "success"}),
    Sent("Release Hook", release(), "release", {"tag": "v1.1", "commit": AFTER, "action": "create"}),
    Sent("Feature Flag Hook", plain("feature_flag"), "feature_flag", {"project": "space/rocket", "user": "ada"}),
    Sent(
        "Milestone Hook", plain("milestone", action="create", event_type="milestone"), "milestone", {"action": "create"}
    ),
    Sent("Emoji Hook", plain("emoji", event_type="award", object_attributes={"action": "award"}), "emoji"),
    Sent("Resource Access Token Hook", plain("access_token") | named("expiring_access_token"), "access_token"),
    Sent("Vulnerability Hook", plain("vulnerability", object_attributes={"state": "confirmed"}), "vulnerability"),
    Sent("Member Hook", named("user_add_to_group", **_GROUP), "member", {"user": "ada", "action": "user_add_to_group"}),
    Sent("Member Hook", named("user_access_request_denied_for_group", **_GROUP), "member", {"project": "space"}),
    Sent("Project Hook", named("project_create", **_MADE), "project", {"project": "space/rocket"}),
    Sent("Subgroup Hook", named("subgroup_create", full_path="space/moon"), "subgroup", {"project": "space/moon"}),
    Sent("System Hook", named("push", **{**push(), "event_name": "push", "object_kind": None}), "push", _MAIN),
    Sent("System Hook", tag_push(), "tag_push", {"tag": "v1.0.0"}),
    Sent("System Hook", merge_request(), "merge_request", _REQUEST),
    Sent("System Hook", issue("confidential_issue", confidential=True), "confidential_issue"),
    Sent("System Hook", named("repository_update", project=PROJECT), "repository_update", {"project": "space/rocket"}),
    Sent("System Hook", named("project_transfer", **_MADE), "project", {"action": "project_transfer"}),
    Sent("System Hook", named("user_remove_from_team", **_TEAM), "member", {"project": "space/rocket"}),
    Sent("System Hook", named("user_failed_login", username="ada"), "user", {"user": "ada"}),
    Sent("System Hook", named("key_create", username="root", key="ssh-ed25519 AAAA"), "key", {"user": "root"}),
    Sent("System Hook", named("group_rename", full_path="space/new"), "group", {"project": "space/new"}),
    Sent("System Hook", {"object_kind": "gitlab_subscription_member_approval", "action": "enqueue"}, "member_approval"),
    Sent("Asteroid Hook", {"object_kind": "asteroid"}, "asteroid"),
    Sent("Asteroid Hook", {}, "asteroid"),
)
