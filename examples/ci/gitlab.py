"""The parts of GitLab that a push needs: git over HTTP with a token, webhooks, and commit statuses."""

from __future__ import annotations

import base64
import hmac
import json
import re
import subprocess
import urllib.error
import urllib.request
import uuid
from collections import defaultdict
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from examples.ci import git
from examples.ci.web import Handler, Server

NOTHING: Final = "0" * 40
"""The commit that GitLab reports before the first push of a branch, and after its deletion."""
NUMBER: Final = 15
PATH: Final = "platform/timespan"
MAX_BODY: Final = 16 * 1024 * 1024
HTTP_TIMEOUT: Final = 30.0

_GIT: Final = re.compile(rf"/{PATH}\.git/(HEAD|info/refs|git-upload-pack|git-receive-pack)")
_STATUS: Final = re.compile(rf"/api/v4/projects/{NUMBER}/statuses/([0-9a-f]{{40}})")


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """One webhook; GitLab repeats it unchanged if it receives no answer."""

    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Muster's answer to a webhook."""

    status: int
    body: dict[str, Any]


class GitLab(Server):
    """One private project."""

    def __init__(self, folder: Path, *, token: str, hook_token: str) -> None:
        super().__init__(_Handler)
        self.folder = folder
        self.token = token
        self.hook_token = hook_token
        self.statuses: defaultdict[str, list[str]] = defaultdict(list)
        """Statuses by commit, in order of arrival."""
        self.backend = git.backend()
        self.repository.mkdir(parents=True)
        git.run("init", "--quiet", "--bare", "--initial-branch=main", cwd=self.repository)

    @property
    def repository(self) -> Path:
        """Returns the bare repository."""
        return self.folder / f"{PATH}.git"

    @property
    def git_url(self) -> str:
        """Returns the URL of the repository."""
        return f"{self.url}/{PATH}.git"

    def commits(self, ref: str, before: str, after: str) -> list[dict[str, Any]]:
        """Returns up to 20 new commits of a push, the oldest first."""
        if after == NOTHING or ref.startswith("refs/tags/"):
            return []
        old = before if before != NOTHING else "main"
        span = [after] if ref == "refs/heads/main" and before == NOTHING else [after, "--not", old]
        found = git.run("rev-list", "--max-count=20", "--reverse", *span, cwd=self.repository).split()
        return [self._commit(commit) for commit in found]

    def _commit(self, commit: str) -> dict[str, Any]:
        shown = git.run("show", "-s", "--format=%B%x00%cI%x00%an%x00%ae", commit, cwd=self.repository)
        message, time, name, email = (part.strip("\n") for part in shown.split("\0"))
        names = git.run("show", "--format=", "--name-status", "--no-renames", commit, cwd=self.repository)
        files = [line.split("\t", 1) for line in names.splitlines()]
        return {
            "id": commit,
            "message": f"{message}\n",
            "title": message.partition("\n")[0],
            "timestamp": time,
            "url": f"{self.url}/{PATH}/-/commit/{commit}",
            "author": {"name": name, "email": email},
            "added": [name for state, name in files if state == "A"],
            "modified": [name for state, name in files if state == "M"],
            "removed": [name for state, name in files if state == "D"],
        }

    def pushed(self, ref: str, before: str, after: str) -> Delivery:
        """Creates the webhook for a pushed ref."""
        kind = "tag_push" if ref.startswith("refs/tags/") else "push"
        event = str(uuid.uuid4())
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "GitLab/18.2.0-ee",
            "Idempotency-Key": str(uuid.uuid4()),
            "X-Gitlab-Event": "Tag Push Hook" if kind == "tag_push" else "Push Hook",
            "X-Gitlab-Webhook-UUID": str(uuid.uuid5(uuid.NAMESPACE_URL, self.url)),
            "X-Gitlab-Instance": self.url,
            "X-Gitlab-Event-UUID": event,
            "X-Gitlab-Token": self.hook_token,
        }
        return Delivery(headers=headers, body=json.dumps(self._event(kind, ref, before, after)).encode())

    def _event(self, kind: str, ref: str, before: str, after: str) -> dict[str, Any]:
        commits = self.commits(ref, before, after)
        web, ssh = f"{self.url}/{PATH}", f"git@gitlab.example.com:{PATH}.git"
        return {
            "object_kind": kind,
            "event_name": kind,
            "before": before,
            "after": after,
            "ref": ref,
            "ref_protected": ref == "refs/heads/main",
            "checkout_sha": None if after == NOTHING else after,
            "message": None,
            "user_id": 4,
            "user_name": git.AUTHOR,
            "user_username": "ada",
            "user_email": None,
            "user_avatar": None,
            "project_id": NUMBER,
            "project": {
                "id": NUMBER,
                "name": "timespan",
                "description": "Parses durations",
                "web_url": web,
                "avatar_url": None,
                "git_ssh_url": ssh,
                "git_http_url": self.git_url,
                "namespace": "Platform",
                "visibility_level": 0,
                "path_with_namespace": PATH,
                "default_branch": "main",
                "ci_config_path": None,
                "homepage": web,
                "url": ssh,
                "ssh_url": ssh,
                "http_url": self.git_url,
            },
            "commits": commits,
            "total_commits_count": len(commits),
            "push_options": {},
            "repository": {
                "name": "timespan",
                "url": ssh,
                "description": "Parses durations",
                "homepage": web,
                "git_http_url": self.git_url,
                "git_ssh_url": ssh,
                "visibility_level": 0,
            },
        }


def deliver(url: str, delivery: Delivery) -> Answer:
    """Sends a webhook."""
    request = urllib.request.Request(url, delivery.body, delivery.headers)
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(request, timeout=HTTP_TIMEOUT) as answer:
            return Answer(status=answer.status, body=json.loads(answer.read()))
    except urllib.error.HTTPError as error:
        with error:
            return Answer(status=error.code, body=json.loads(error.read() or b"{}"))


class _Handler(Handler):
    server: GitLab

    def do_GET(self) -> None:  # noqa: N802 - http.server's name
        """Starts a clone or push."""
        self._git()

    def do_POST(self) -> None:  # noqa: N802 - http.server's name
        """Continues a clone or push, or stores the status of a commit."""
        if found := _STATUS.fullmatch(self.path):
            self._status(found[1])
        else:
            self._git()

    def _status(self, commit: str) -> None:
        report = json.loads(self.body(MAX_BODY))
        known = self.server.statuses[commit]
        if not hmac.compare_digest(self.headers.get("PRIVATE-TOKEN", ""), self.server.token):
            self.answer(HTTPStatus.UNAUTHORIZED)
        elif known and known[-1] == report["state"]:  # GitLab: cannot transition status
            self.answer(HTTPStatus.BAD_REQUEST)
        else:
            known.append(report["state"])
            self.answer(HTTPStatus.CREATED, json.dumps({"status": report["state"]}).encode(), "application/json")

    def _git(self) -> None:
        data = self.body(MAX_BODY)
        parts = urlsplit(self.path)
        if not _GIT.fullmatch(parts.path):
            self.answer(HTTPStatus.NOT_FOUND)
        elif not self._may():
            self.answer(HTTPStatus.UNAUTHORIZED, headers={"WWW-Authenticate": 'Basic realm="GitLab"'})
        else:
            self._backend(parts.path, parts.query, data)

    def _may(self) -> bool:
        scheme, _, given = self.headers.get("Authorization", "").partition(" ")
        wanted = base64.b64encode(f"oauth2:{self.server.token}".encode()).decode()
        return scheme == "Basic" and hmac.compare_digest(given, wanted)

    def _backend(self, path: str, query: str, data: bytes) -> None:
        """Lets git answer (CGI, RFC 3875)."""
        asked = {
            "REQUEST_METHOD": self.command,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(data)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "REMOTE_ADDR": self.client_address[0],
            "REMOTE_USER": "oauth2",
        }
        served = {"GIT_PROJECT_ROOT": str(self.server.folder), "GIT_HTTP_EXPORT_ALL": "1"}
        env = {**git.environment(), **served, **{name: value for name, value in asked.items() if value}}
        ran = subprocess.run([self.server.backend], input=data, env=env, capture_output=True, timeout=60, check=True)
        head, _, body = ran.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        status = HTTPStatus(int(headers.pop("Status", "200").split()[0]))
        self.answer(status, body, headers.pop("Content-Type", "text/plain"), headers)
