"""Facts of a GitLab delivery, by its kind: the same few facts out of two dozen shapes."""

from __future__ import annotations

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

Body = Mapping[str, Any]


def understood(kind: str, body: Body) -> Understood:
    """Extracts the facts of a delivery."""
    return _BY_KIND.get(kind, _other)(body)


def _common(body: Body) -> dict[str, Any]:
    """Extracts the facts that most shapes have, each in one of a few places."""
    attributes = at(body, "object_attributes")
    return {
        "project": first(
            text(body, "project", "path_with_namespace"),
            text(body, "project_path_with_namespace"),
            text(body, "path_with_namespace"),
            text(body, "project_name"),
            text(body, "group", "full_path"),
            text(body, "full_path"),
            text(body, "group_path"),
        ),
        "user": first(text(body, "user", "username"), text(body, "user_username"), text(body, "username")),
        "labels": _labels(body),
        "action": first(text(attributes, "action"), text(body, "action")),
        "status": first(text(attributes, "status"), text(attributes, "state"), text(body, "status")),
    }


def _labels(body: Body) -> list[str]:
    places = (("labels",), ("object_attributes", "labels"), ("issue", "labels"), ("merge_request", "labels"))
    found = [text(label, "title") for place in places for label in listed(body, *place)]
    return list(dict.fromkeys(filter(None, found)))


def _other(body: Body) -> Understood:
    return Understood(Facts(**_common(body)))


def _push(body: Body) -> Understood:
    """Extracts the facts of a push, also of tags; its action follows from the commits before and after it."""
    ref, commits = text(body, "ref"), listed(body, "commits")
    before, after = commit(text(body, "before")), commit(text(body, "after"))
    action = "deleted" if not after else "updated" if before else "created"
    facts = Facts(
        **_common(body)
        | {
            "ref": ref,
            "branch": branch_of(ref),
            "tag": tag_of(ref),
            "commit": (text(body, "checkout_sha") or after) if after else "",
            "files": changed_files(commits),
            "action": action,
        }
    )
    return Understood(facts, facts.branch, all_files=lists_all(body, commits, "total_commits_count"))


def _merge_request(body: Body) -> Understood:
    return _of_merge_request(body, at(body, "object_attributes"))


def _of_merge_request(body: Body, request: Any) -> Understood:
    source, target = text(request, "source_branch"), text(request, "target_branch")
    facts = Facts(
        **_common(body)
        | {
            "ref": _head_of(request) or whole_ref(source),
            "branch": source,
            "commit": text(request, "last_commit", "id"),
            "source_branch": source,
            "target_branch": target,
            "status": text(request, "state"),
        }
    )
    return Understood(facts, target)


def _head_of(request: Any) -> str:
    number = at(request, "iid")
    return f"refs/merge-requests/{number}/head" if isinstance(number, int) else ""


def _note(body: Body) -> Understood:
    """Extracts the facts of a comment or reaction, which concerns the object that it belongs to."""
    if isinstance(request := at(body, "merge_request"), dict):
        return _of_merge_request(body, request)
    status = text(body, "issue", "state")
    facts = Facts(**_common(body) | {"commit": text(body, "commit", "id"), "status": status})
    return Understood(facts)


def _pipeline(body: Body) -> Understood:
    attributes = at(body, "object_attributes")
    return _of_run(body, attributes, text(attributes, "status"))


def _job(body: Body) -> Understood:
    return _of_run(body, body, text(body, "build_status"))


def _of_run(body: Body, run: Any, status: str) -> Understood:
    request = at(body, "merge_request")
    is_fork = at(request, "source_project_id") != at(request, "target_project_id")  # its main is another branch
    ref = _head_of(request) if is_fork else whole_ref(text(run, "ref"), is_tag=at(run, "tag") is True)
    facts = Facts(
        **_common(body)
        | {
            "ref": ref,
            "branch": branch_of(ref),
            "tag": tag_of(ref),
            "commit": text(run, "sha"),
            "source_branch": text(request, "source_branch"),
            "target_branch": text(request, "target_branch"),
            "status": status,
        }
    )
    return Understood(facts, facts.branch)  # a run for a merge request into main did not run on main


def _deployment(body: Body) -> Understood:
    ref = whole_ref(text(body, "ref"))
    sha = first(text(body, "commit", "id"), text(body, "commit_url").rpartition("/")[2], text(body, "short_sha"))
    facts = Facts(**_common(body) | {"ref": ref, "branch": branch_of(ref), "commit": sha})
    return Understood(facts, facts.branch)


def _release(body: Body) -> Understood:
    tag = text(body, "tag")
    ref = whole_ref(tag, is_tag=True)
    return Understood(Facts(**_common(body) | {"ref": ref, "tag": tag, "commit": text(body, "commit", "id")}))


def _named(body: Body) -> Understood:
    """Extracts the facts of events that are named after their action: `project_create`, `user_add_to_group`."""
    facts = _common(body)
    return Understood(Facts(**facts | {"action": facts["action"] or text(body, "event_name")}))


_BY_KIND: Final[Mapping[str, Callable[[Body], Understood]]] = MappingProxyType(
    {
        "push": _push,
        "tag_push": _push,
        "merge_request": _merge_request,
        "note": _note,
        "confidential_note": _note,
        "emoji": _note,
        "pipeline": _pipeline,
        "job": _job,
        "deployment": _deployment,
        "release": _release,
        **dict.fromkeys(("member", "subgroup", "group", "project", "user", "key"), _named),
        **dict.fromkeys(("repository_update", "access_token", "deploy_token"), _named),
    }
)
