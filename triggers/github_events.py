"""The events of GitHub's webhooks (`X-GitHub-Event`), and of forges that send the same: Gitea, Forgejo, Gogs."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

PING: Final = "ping"
"""Sent once when a webhook is created, as a connection test."""

_NAMES: Final = """
branch_protection_configuration branch_protection_rule check_run check_suite code_scanning_alert commit_comment
create custom_property custom_property_values delete dependabot_alert deploy_key deployment
deployment_protection_rule deployment_review deployment_status discussion discussion_comment fork
github_app_authorization gollum installation installation_repositories installation_target issue_comment
issue_dependencies issues label marketplace_purchase member membership merge_group meta milestone org_block
organization package page_build personal_access_token_request project project_card project_column projects_v2
projects_v2_item projects_v2_status_update public pull_request pull_request_review pull_request_review_comment
pull_request_review_thread push registry_package release repository repository_advisory repository_dispatch
repository_import repository_ruleset repository_vulnerability_alert secret_scanning_alert
secret_scanning_alert_location secret_scanning_scan security_advisory security_and_analysis sponsorship star status
sub_issues team team_add watch workflow_dispatch workflow_job workflow_run
"""

REVIEWS: Final = ("pull_request_approved", "pull_request_rejected", "pull_request_comment")
"""The names of reviews at Gitea and Forgejo (`X-GitHub-Event`; GitHub: `pull_request_review`)."""

_OTHERS: Final = ("wiki", "action_run_failure", "action_run_recover", "action_run_success")
"""Other events of Gitea and Forgejo."""

_NARROWER: Final = """
issue_assign issue_label issue_milestone pull_request_assign pull_request_label pull_request_milestone
pull_request_sync pull_request_review_request pull_request_review_approved pull_request_review_rejected
pull_request_review_comment
"""
"""Values of `X-Gitea-Event-Type` that are narrower than `X-GitHub-Event`."""

KINDS: Final[Mapping[str, str]] = MappingProxyType(
    {name: f"Gitea's and Forgejo's {name}" for name in (*REVIEWS, *_OTHERS, *_NARROWER.split())}
    | {name: f"GitHub's {name}" for name in _NAMES.split()}
)
"""The values of `events`: the forges' own names."""

HEADERS: Final = ("x-github-event", "x-gitea-event", "x-forgejo-event", "x-gogs-event")
"""The headers with the event; most forges send GitHub's headers and their own."""

NARROWER_HEADERS: Final = ("x-gitea-event-type", "x-forgejo-event-type")
