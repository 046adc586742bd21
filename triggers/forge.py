"""The common fields and filters of deliveries of Git forges."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar, Final, Literal, NamedTuple

import msgspec

from muster.blueprints.provider import Happening, Hook, HookRequest, Ignored
from muster.blueprints.suggest import did_you_mean
from muster.mesh.errors import InvalidError, Problem, UnavailableError
from muster.triggers.deliveries import event, key, key_of_body
from muster.triggers.globs import glob_fault, globs
from muster.triggers.packing import unpacked
from muster.triggers.signatures import Proof, with_secrets

HEADS: Final = "refs/heads/"
TAGS: Final = "refs/tags/"


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of `event` besides the body; missing values are empty, so that conditions need no `has`."""

    ref: str = ""
    """The full ref: `refs/heads/main`, `refs/tags/v1`, `refs/merge-requests/7/head`, `refs/pull/7/head`."""
    branch: str = ""
    """The branch; for a merge request, its source branch."""
    tag: str = ""
    commit: str = ""
    """The commit to check out; empty if there is none, for example after a branch was deleted."""
    project: str = ""
    """The project with its groups or owner: `group/project`."""
    user: str = ""
    """The login name of the user who caused the event."""
    files: list[str] = []
    """Files that the listed commits add, modify or remove."""
    labels: list[str] = []
    source_branch: str = ""
    """Branches of a merge request."""
    target_branch: str = ""
    action: str = ""
    """The action: `open`, `merge`, `create` …; for a push `created`, `deleted` or `updated`."""
    status: str = ""
    """The status of a pipeline, job, deployment …, or the state of an issue or merge request."""


class Understood(NamedTuple):
    """A parsed body."""

    facts: Facts
    against: str = ""
    """The branch that `branches` filters: the target of a merge request, or the branch itself."""
    all_files: bool = True
    """Whether `files` is complete; forges list a limited number of commits."""


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """A parsed delivery."""

    kind: str
    names: frozenset[str]
    """The names that `events` can use for it: its kind, and narrower ones."""
    body: Any
    about: Understood


class Forge(Hook):
    """Base of the settings of forges.  A filter does not match an event without that value."""

    event_fields = frozenset(Facts.__struct_fields__)

    auth: Literal["secret", "none"] = "secret"
    """`none` accepts deliveries from every sender."""
    events: tuple[str, ...] = ()
    """The events that fire; by default all."""
    branches: tuple[str, ...] = ()
    """Globs over the branch; for merge requests, the target branch."""
    paths: tuple[str, ...] = ()
    """Globs over the files that a push changes; a push without a complete list matches."""
    labels: tuple[str, ...] = ()
    """Globs over the labels of an issue or merge request, of which one must match."""
    users: tuple[str, ...] = ()
    """Globs over the login name of the user."""
    projects: tuple[str, ...] = ()
    """Globs over `group/project`."""

    dedupe: Literal["id", "body"] = "id"
    """`body`: equal bodies are duplicates, even if their ids differ; GitHub's signature does not cover the id."""

    name: ClassVar[str]
    """The name of the provider."""
    known: ClassVar[Mapping[str, str]]
    """The values of `events`, with their meaning."""
    bodies: ClassVar[Mapping[str, frozenset[str]]]
    """Known fields in the bodies of its events."""

    @property
    def body_fields(self) -> frozenset[str]:
        """Returns the known fields for `events`; empty if one is unknown or all events fire."""
        if not self.events or not self.bodies.keys() >= set(self.events):
            return frozenset()
        return frozenset().union(*(self.bodies[name] for name in self.events))

    def problems(self) -> Iterator[Problem]:
        """Yields a missing secret, unknown events and invalid globs."""
        yield from super().problems()
        if self.auth == "secret" and self.secret is None:
            hint = "set secret: {env: NAME} or {file: PATH}; or auth: none, to accept every sender"
            yield Problem(path="secret", message="the secret is missing", hint=hint)
        if self.auth == "none" and self.secret is not None:
            yield Problem(path="auth", message="the secret is not used: auth is 'none'")
        for place, name in enumerate(self.events):
            if name not in self.known:
                hint = did_you_mean(name, self.known)
                yield Problem(path=f"events[{place}]", message=f"{self.name} has no event {name!r}", hint=hint)
        for field in ("branches", "paths", "labels", "users", "projects"):
            for place, text in enumerate(getattr(self, field)):
                if fault := glob_fault(text):
                    yield Problem(path=f"{field}[{place}]", message=f"{text!r}: {fault}")
                elif field == "labels" and text.startswith("!"):
                    hint = "exclude a label in `when`"
                    yield Problem(path=f"{field}[{place}]", message=f"{text!r}: labels do not support '!'", hint=hint)

    def receive(self, request: HookRequest) -> Happening | Ignored:
        """Authenticates and parses a delivery, and applies the filters."""
        ident = self.proven(request)
        request = unpacked(request, self.max_body)
        delivery = self.understand(request)
        if isinstance(delivery, Ignored):
            return delivery
        if reason := self._unwanted(delivery):
            return Ignored(reason=reason)
        if self.dedupe == "body":
            ident = key_of_body(request)
        found = event(request, self.name, delivery.kind, delivery.body, ident)
        found |= msgspec.structs.asdict(delivery.about.facts)
        return Happening(event=found, key=ident)

    def by_hand(self, body: Any, now: datetime) -> dict[str, Any]:  # noqa: ARG002
        """Returns the facts in the body of a delivery, without its headers."""
        return msgspec.structs.asdict(self.about(body).facts)

    @abstractmethod
    def about(self, body: Any) -> Understood:
        """Parses a body without headers."""

    def proven(self, request: HookRequest) -> str:
        """Authenticates a delivery; returns its id, or an empty text if it has none.

        Raises:
            UnauthorizedError: the secret is missing or wrong.
        """
        if self.auth == "none":
            return self.ident(request)
        if not self.secrets:
            raise UnavailableError("the trigger has no secret")
        proof = with_secrets(self.secrets, lambda secrets: self.check(secrets, request))
        return key(proof.ident) or self.ident(request)

    @abstractmethod
    def check(self, secrets: Sequence[bytes], request: HookRequest) -> Proof:
        """Verifies that the delivery has one of the secrets.

        Raises:
            UnauthorizedError: it does not have one.
        """

    @abstractmethod
    def ident(self, request: HookRequest) -> str:
        """Returns the id of a delivery, signed or not."""

    @abstractmethod
    def understand(self, request: HookRequest) -> Delivery | Ignored:
        """Parses a delivery.

        Raises:
            InvalidError: the delivery cannot be parsed.
        """

    def _unwanted(self, delivery: Delivery) -> str:
        """Returns why the filters exclude a delivery; empty if they do not."""
        facts, against, has_all_files = delivery.about
        if self.events and delivery.names.isdisjoint(self.events):
            return f"the event is {delivery.kind}, not {' or '.join(self.events)}"
        questions = (
            (self.branches, (against,) if against else (), f"its branch is {against!r}"),
            (self.projects, (facts.project,), f"its project is {facts.project!r}"),
            (self.users, (facts.user,), f"its user is {facts.user!r}"),
            (self.labels, facts.labels, "it has none of the labels"),
            (self.paths if has_all_files else (), facts.files, "it changes none of the paths"),
        )
        for patterns, values, otherwise in questions:
            if patterns and not any(map(globs(patterns).matches, values)):
                return otherwise
        return ""


def record(body: Any) -> dict[str, Any]:
    """Returns the body of a delivery, which must be an object.

    Raises:
        InvalidError: it is another value.
    """
    if not isinstance(body, dict):
        raise InvalidError("the body is JSON, but not an object")
    return body


def at(value: Any, *path: str) -> Any:
    """Returns the value at a path; None if there is none."""
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def text(value: Any, *path: str) -> str:
    """Returns the text at a path; empty if there is none."""
    found = at(value, *path)
    return found if isinstance(found, str) else ""


def listed(value: Any, *path: str) -> list[Any]:
    """Returns the list at a path; empty if there is none."""
    found = at(value, *path)
    return found if isinstance(found, list) else []


def first(*texts: str) -> str:
    """Returns the first text that is not empty."""
    return next(filter(None, texts), "")


def commit(text: str) -> str:
    """Returns the id of a commit; empty for the id of zeros, which means no commit."""
    return text if text.strip("0") else ""


def whole_ref(name: str, *, is_tag: bool = False) -> str:
    """Returns the ref of a branch or tag; a ref is unchanged."""
    if not name or name.startswith("refs/"):
        return name
    return (TAGS if is_tag else HEADS) + name


def branch_of(ref: str) -> str:
    """Returns the branch of a ref; empty for other refs."""
    return ref[len(HEADS) :] if ref.startswith(HEADS) else ""


def tag_of(ref: str) -> str:
    """Returns the tag of a ref; empty for other refs."""
    return ref[len(TAGS) :] if ref.startswith(TAGS) else ""


def changed_files(commits: Iterable[Any]) -> list[str]:
    """Returns the files that commits change, each once."""
    found: dict[str, None] = {}
    for one in commits:
        for how in _HOW:
            for path in listed(one, how):
                if isinstance(path, str):
                    found[path] = None
    return list(found)


def lists_all(body: Any, commits: list[Any], *counts: str) -> bool:
    """Returns whether a push lists all of its files: every commit is listed, with its files.

    Forges limit the list of commits (GitLab 20, Gitea 5 unless set), and some list no files (GitLab's system hooks).
    """
    if any(isinstance(total := at(body, count), int) and total > len(commits) for count in counts):
        return False
    if at(body, "truncated") is True:
        return False
    return all(any(isinstance(at(one, how), list) for how in _HOW) for one in commits)


_HOW: Final = ("added", "modified", "removed")
