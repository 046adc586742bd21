"""Known fields in the bodies of common forge events, for suggestions if a manifest misspells one."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final


def _table(common: str, bodies: Mapping[str, str]) -> Mapping[str, frozenset[str]]:
    return MappingProxyType({name: frozenset([*common.split(), *fields.split()]) for name, fields in bodies.items()})


_PULL = (
    "number pull_request changes label labels reason milestone assignee requested_reviewer requested_team before after"
)
_REVIEW = "review comment comments thread number index commit_id"
_RUN = "workflow workflow_run workflow_job deployment"

GITHUB: Final = _table(
    "action sender repository organization enterprise installation secret",
    {
        "push": """ref before after created deleted forced base_ref base_refs compare compare_url commits total_commits
            head_commit pusher size truncated""",
        "create": "ref ref_type sha master_branch description pusher_type",
        "delete": "ref ref_type pusher_type",
        "pull_request": f"{_PULL} {_REVIEW}",
        "pull_request_review": f"{_PULL} {_REVIEW}",
        "pull_request_approved": f"{_PULL} {_REVIEW}",
        "pull_request_rejected": f"{_PULL} {_REVIEW}",
        "pull_request_comment": f"{_PULL} {_REVIEW} issue is_pull",
        "issues": "issue changes label labels assignee assignees milestone type number index",
        "issue_comment": "issue comment changes is_pull pull_request",
        "release": "release changes",
        "workflow_run": _RUN,
        "workflow_job": _RUN,
        "deployment": "deployment workflow workflow_run",
        "deployment_status": "deployment deployment_status check_run workflow workflow_run",
        "status": "id sha name context state description target_url avatar_url branches commit created_at updated_at",
    },
)
"""By the names in `events`; also for Gitea and Forgejo."""

_PUSH = """event_name before after ref ref_protected checkout_sha message user_id user_name user_username user_email
    user_avatar project_id project repository commits total_commits_count push_options"""

GITLAB: Final = _table(
    "object_kind event_type event_name object_attributes project project_id repository user labels changes",
    {
        "push": _PUSH,
        "tag_push": _PUSH,
        "merge_request": "assignees reviewers",
        "issue": "assignee assignees",
        "note": "commit issue merge_request snippet",
        "pipeline": "merge_request commit source_pipeline builds",
        "job": """ref tag before_sha sha retries_count build_id build_name build_stage build_status build_created_at
            build_started_at build_finished_at build_created_at_iso build_started_at_iso build_finished_at_iso
            build_duration build_queued_duration build_allow_failure build_failure_reason pipeline_id runner
            project_name commit environment source_pipeline""",
        "deployment": """status status_changed_at deployment_id deployable_id deployable_url environment
            environment_tier environment_slug environment_external_url short_sha commit_url commit_title user_url
            ref""",
        "release": "id created_at description name released_at tag url action assets commit",
    },
)
