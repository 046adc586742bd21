"""Facts of a GitHub delivery, by its event."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from muster.triggers.forge import (
    Facts,
    Understood,
    at,
    branch_of,
    changed_files,
    commit,
    first,
    listed,
    lists_all,
    tag_of,
    text,
    whole_ref,
)
from muster.triggers.github_events import REVIEWS

Body = Mapping[str, Any]

MOST_COMMITS: Final = 2048
"""GitHub lists at most this many commits of a push.  Gitea and Forgejo list five by default, with the total."""

MOST_COMMITS_OF_GOGS: Final = 5
"""Gogs lists at most this many by default, without the total."""

_TOTALS: Final = ("head_commit", "total_commits", "size")
"""Fields that GitHub, Gitea and Forgejo send with a push, and Gogs does not."""

_SHA = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def kind_of(body: Any) -> str:
    """Guesses the event of a body without headers; empty if it is unknown."""
    return next((kind for place, kind in _MARKS.items() if at(body, place) is not None), "")


def understood(kind: str, body: Body) -> Understood:
    """Extracts the facts of a delivery."""
    return _BY_KIND.get(kind, _other)(body)


def _common(body: Body) -> dict[str, Any]:
    labelled = [listed(body, place, "labels") for place in ("pull_request", "issue", "discussion")]
    labels = (text(label, "name") for labels in labelled for label in labels)
    return {
        "project": first(text(body, "repository", "full_name"), text(body, "organization", "login")),
        "user": text(body, "sender", "login"),
        "labels": list(filter(None, labels)),
        "action": text(body, "action"),
    }


def _other(body: Body) -> Understood:
    status = next((text(body, place, "state") for place in ("issue", "alert", "milestone") if at(body, place)), "")
    return Understood(Facts(**_common(body) | {"status": status}))


def _about_ref(body: Body, ref: str, sha: str = "", **more: Any) -> Understood:
    facts = Facts(**_common(body) | {"ref": ref, "branch": branch_of(ref), "tag": tag_of(ref), "commit": sha} | more)
    return Understood(facts, facts.branch)


def _push(body: Body) -> Understood:
    commits, sha = listed(body, "commits"), commit(text(body, "after"))
    before = commit(text(body, "before"))
    found = _about_ref(
        body,
        text(body, "ref"),
        first(text(body, "head_commit", "id"), sha) if sha else "",  # `after` can be the id of an annotated tag
        files=changed_files(commits),
        action="deleted" if not sha else "updated" if before else "created",
    )
    most = MOST_COMMITS if any(field in body for field in _TOTALS) else MOST_COMMITS_OF_GOGS
    has_all = len(commits) < most and lists_all(body, commits, "total_commits", "size")
    return found._replace(all_files=has_all)


def _create_or_delete(body: Body) -> Understood:
    return _about_ref(body, whole_ref(text(body, "ref"), is_tag=text(body, "ref_type") == "tag"))


def _pull_request(body: Body) -> Understood:
    request = at(body, "pull_request")
    source, target = text(request, "head", "ref"), text(request, "base", "ref")
    number = at(request, "number")
    merged = at(request, "merged") is True
    facts = Facts(
        **_common(body)
        | {
            "ref": f"refs/pull/{number}/head" if isinstance(number, int) else "",
            "branch": source,
            "commit": text(request, "head", "sha"),
            "source_branch": source,
            "target_branch": target,
            "status": "merged" if merged else text(request, "state"),
        }
    )
    return Understood(facts, target)


def _release(body: Body) -> Understood:
    return _about_ref(body, whole_ref(text(body, "release", "tag_name"), is_tag=True))


def _run(place: str) -> Callable[[Body], Understood]:
    """Returns a reader for runs on a commit, which have a conclusion once they end."""

    def about(body: Body) -> Understood:
        run = at(body, place)
        branch = first(text(run, "head_branch"), text(run, "check_suite", "head_branch"))
        owner = text(run, "head_repository", "owner", "login")
        if owner and text(run, "head_repository", "full_name") != text(body, "repository", "full_name"):
            branch = f"{owner}:{branch}"  # GitHub's notation for forks, whose main is another branch
        status = first(text(run, "conclusion"), text(run, "status"))
        return _about_ref(body, whole_ref(branch), text(run, "head_sha"), status=status)

    return about


def _deployment(body: Body) -> Understood:
    deployment = at(body, "deployment")
    ref, sha = text(deployment, "ref"), text(deployment, "sha")
    status = text(body, "deployment_status", "state")
    return _about_ref(body, "" if _SHA.fullmatch(ref) else whole_ref(ref), sha, status=status)


def _status(body: Body) -> Understood:
    branches = [text(branch, "name") for branch in listed(body, "branches")]
    return _about_ref(body, whole_ref(first(*branches)), text(body, "sha"), status=text(body, "state"))


def _dispatch(body: Body) -> Understood:
    return _about_ref(body, whole_ref(first(text(body, "ref"), text(body, "branch"))))


def _merge_group(body: Body) -> Understood:
    group = at(body, "merge_group")
    target = branch_of(text(group, "base_ref"))
    found = _about_ref(body, text(group, "head_ref"), text(group, "head_sha"), target_branch=target)
    return found._replace(against=target)


def _commit_comment(body: Body) -> Understood:
    return Understood(Facts(**_common(body) | {"commit": text(body, "comment", "commit_id")}))


_BY_KIND: Final[Mapping[str, Callable[[Body], Understood]]] = MappingProxyType(
    {
        "push": _push,
        "create": _create_or_delete,
        "delete": _create_or_delete,
        "release": _release,
        "deployment": _deployment,
        "deployment_status": _deployment,
        "status": _status,
        "merge_group": _merge_group,
        "commit_comment": _commit_comment,
        **dict.fromkeys(("repository_dispatch", "workflow_dispatch"), _dispatch),
        **{kind: _run(kind) for kind in ("workflow_run", "workflow_job", "check_run", "check_suite")},
        **dict.fromkeys(
            (
                "pull_request",
                "pull_request_review",
                "pull_request_review_comment",
                "pull_request_review_thread",
                *REVIEWS,
            ),
            _pull_request,
        ),
    }
)

_MARKS: Final[Mapping[str, str]] = MappingProxyType(
    {
        **{
            kind: kind
            for kind in (
                "deployment_status",
                "workflow_job",
                "deployment",
                "workflow_run",
                "check_run",
                "check_suite",
                "merge_group",
                "release",
                "pull_request",
            )
        },
        "ref_type": "create",
        "commits": "push",
        "branches": "status",
        "issue": "issue_comment",
        "comment": "commit_comment",
        "ref": "workflow_dispatch",
        "branch": "repository_dispatch",
    }
)
"""Fields that identify a kind, the narrower kinds first: a deployment also names the run that created it."""
