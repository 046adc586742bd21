"""The events that GitLab documents for project, group and system hooks, and how a delivery is identified.

A delivery names itself three times: in the header `X-Gitlab-Event`, as `object_kind` (and `event_type`), and as
`event_name`.  Not every delivery has all of them, and a system hook's header is always `System Hook`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from muster.triggers.forge import text

KINDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "push": "commits were pushed to a branch, or a branch was created or deleted",
        "tag_push": "a tag was created or deleted",
        "issue": "an issue was created or changed",
        "confidential_issue": "a confidential issue was created or changed",
        "work_item": "an epic, task, incident or similar was created or changed",
        "note": "a comment was added",
        "confidential_note": "a confidential comment was added",
        "merge_request": "a merge request was created, changed, approved, merged or closed",
        "wiki_page": "a wiki page was created, changed or deleted",
        "pipeline": "a pipeline's status changed",
        "job": "a job's status changed",
        "deployment": "a deployment started, succeeded, failed or was canceled",
        "feature_flag": "a feature flag was turned on or off",
        "release": "a release was created, changed or deleted",
        "milestone": "a milestone was created, closed, reopened or deleted",
        "emoji": "an emoji reaction was added or removed",
        "access_token": "a project's or group's access token is about to expire",
        "deploy_token": "a project's or group's deploy token is about to expire",
        "vulnerability": "a vulnerability was found or its state changed",
        "member": "a member joined, left, requested access, or got another role in a group or project",
        "member_approval": "a member waits for, or got, an administrator's approval",
        "subgroup": "a subgroup was created or removed",
        "group": "a group was created, renamed or removed",
        "project": "a project was created, renamed, moved, changed or removed",
        "user": "a user was created, renamed, removed, or failed to log in",
        "key": "an SSH key was added or removed",
        "repository_update": "a repository was pushed to; one event for all refs",
    }
)
"""Our kinds, with their meanings."""

HEADERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "Push Hook": "push",
        "Tag Push Hook": "tag_push",
        "Issue Hook": "issue",
        "Confidential Issue Hook": "confidential_issue",
        "Work Item Hook": "work_item",
        "Note Hook": "note",
        "Confidential Note Hook": "confidential_note",
        "Merge Request Hook": "merge_request",
        "Wiki Page Hook": "wiki_page",
        "Pipeline Hook": "pipeline",
        "Job Hook": "job",
        "Build Hook": "job",
        "Deployment Hook": "deployment",
        "Feature Flag Hook": "feature_flag",
        "Release Hook": "release",
        "Milestone Hook": "milestone",
        "Emoji Hook": "emoji",
        "Resource Access Token Hook": "access_token",
        "Resource Deploy Token Hook": "deploy_token",
        "Vulnerability Hook": "vulnerability",
        "Member Hook": "member",
        "Member Approval Hook": "member_approval",
        "Subgroup Hook": "subgroup",
        "Project Hook": "project",
    }
)
"""Kinds by `X-Gitlab-Event`; `System Hook` does not identify a kind."""

OBJECTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        **{kind: kind for kind in KINDS},
        "build": "job",
        "gitlab_subscription_member_approval": "member_approval",
        "gitlab_subscription_member_approvals": "member_approval",
    }
)
"""Kinds by `object_kind` or `event_type`."""

NAMES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "push": "push",
        "tag_push": "tag_push",
        "repository_update": "repository_update",
        "expiring_access_token": "access_token",
        "expiring_deploy_token": "deploy_token",
        "user_add_to_group": "member",
        "user_update_for_group": "member",
        "user_remove_from_group": "member",
        "user_add_to_team": "member",
        "user_update_for_team": "member",
        "user_remove_from_team": "member",
        "user_access_request_to_group": "member",
        "user_access_request_revoked_for_group": "member",
        "user_access_request_denied_for_group": "member",
        "user_access_request_to_project": "member",
        "user_access_request_revoked_for_project": "member",
        "user_access_request_denied_for_project": "member",
        "subgroup_create": "subgroup",
        "subgroup_destroy": "subgroup",
        "group_create": "group",
        "group_rename": "group",
        "group_destroy": "group",
        "project_create": "project",
        "project_rename": "project",
        "project_transfer": "project",
        "project_update": "project",
        "project_destroy": "project",
        "user_create": "user",
        "user_rename": "user",
        "user_failed_login": "user",
        "user_destroy": "user",
        "key_create": "key",
        "key_destroy": "key",
    }
)
"""Kinds by `event_name`; `events` accepts these narrower names too."""


def kind_of(header: str, body: Mapping[str, Any]) -> tuple[str, frozenset[str]]:
    """Returns our kind of a delivery, and every name that `events` can use for it."""
    object_kind, event_type, event_name = (text(body, name) for name in ("object_kind", "event_type", "event_name"))
    named = HEADERS.get(header)
    inner = OBJECTS.get(object_kind) or NAMES.get(event_name)
    if event_type.startswith("confidential_") and event_type in KINDS:
        kind = event_type
    elif named in {"issue", None}:  # work items arrive as issues; a system hook does not distinguish them
        kind = inner or named or _unknown(header, object_kind, event_name)
    else:
        kind = named
    narrower = {event_name} if NAMES.get(event_name) == kind else set()
    return kind, frozenset({kind, *narrower})


def _unknown(header: str, object_kind: str, event_name: str) -> str:
    """Returns a name for an event that is not in these tables."""
    return object_kind or event_name or header.removesuffix(" Hook").lower().replace(" ", "_") or "unknown"
