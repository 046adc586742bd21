"""What deliveries of Git forges have in common: the same fields beside the body, and the same filters."""

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
    """What stands in `event` beside the body; what an event does not have is empty, so conditions need no `has`."""

    ref: str = ""
    """The whole ref: `refs/heads/main`, `refs/tags/v1`, `refs/merge-requests/7/head`, `refs/pull/7/head`."""
    branch: str = ""
    """Its branch; of a merge request the source's."""
    tag: str = ""
    commit: str = ""
    """The commit to check out; empty if there is none, as after a branch was deleted."""
    project: str = ""
    """With its groups or owner: `group/project`."""
    user: str = ""
    """The login name of who did it."""
    files: list[str] = []
    """Added, modified or removed by the commits that the delivery lists."""
    labels: list[str] = []
    source_branch: str = ""
    """Of a merge request."""
    target_branch: str = ""
    action: str = ""
    """What was done: `open`, `merge`, `create` …; of a push `created`, `deleted` or `updated`."""
    status: str = ""
    """Of a pipeline, job, deployment …, or the state of an issue or merge request."""


class Understood(NamedTuple):
    """What a body is about."""

    facts: Facts
    against: str = ""
    """The branch that `branches` is about: a merge request's target, else the branch itself."""
    all_files: bool = True
    """Whether `files` has all of them; a forge lists only so many commits."""


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery, understood."""

    kind: str
    names: frozenset[str]
    """What `events` may call it: its kind, and narrower."""
    body: Any
    about: Understood


class Forge(Hook):
    """Base of their settings.  A filter that an event has nothing for does not match it."""

    event_fields = frozenset(Facts.__struct_fields__)

    auth: Literal["secret", "none"] = "secret"
    """`none`: deliveries from anybody are taken."""
    events: tuple[str, ...] = ()
    """Which events count; unless said, all."""
    branches: tuple[str, ...] = ()
    """Globs; of merge requests, the target branch counts."""
    paths: tuple[str, ...] = ()
    """Globs over the files that a push changes; if the forge does not list all of its commits, the push counts."""
    labels: tuple[str, ...] = ()
    """One of them is on the issue or merge request; globs."""
    users: tuple[str, ...] = ()
    """Who did it, by login name; globs."""
    projects: tuple[str, ...] = ()
    """Globs over `group/project`."""

    dedupe: Literal["id", "body"] = "id"
    """`body`: equal bodies are one delivery, whatever id they say: no signature covers GitHub's."""

    name: ClassVar[str]
    """As `provider:` says it."""
    known: ClassVar[Mapping[str, str]]
    """What `events` may say, and what it means."""
    bodies: ClassVar[Mapping[str, frozenset[str]]]
    """Fields of its events' bodies, as far as they are known."""

    @property
    def body_fields(self) -> frozenset[str]:
        """Those of `events`; empty if there is one of which nothing is known, or any event may come."""
        if not self.events or not self.bodies.keys() >= set(self.events):
            return frozenset()
        return frozenset().union(*(self.bodies[name] for name in self.events))

    def problems(self) -> Iterator[Problem]:
        """No secret, unknown events, globs that are none."""
        yield from super().problems()
        if self.auth == "secret" and self.secret is None:
            hint = "say secret: {env: NAME} or {file: PATH}, or auth: none to take deliveries from anybody"
            yield Problem(path="secret", message="without a secret, anybody could fire this trigger", hint=hint)
        if self.auth == "none" and self.secret is not None:
            yield Problem(path="auth", message="nothing checks the secret: auth is 'none'")
        for place, name in enumerate(self.events):
            if name not in self.known:
                hint = did_you_mean(name, self.known)
                yield Problem(path=f"events[{place}]", message=f"{self.name} has no event {name!r}", hint=hint)
        for field in ("branches", "paths", "labels", "users", "projects"):
            for place, text in enumerate(getattr(self, field)):
                if fault := glob_fault(text):
                    yield Problem(path=f"{field}[{place}]", message=f"{text!r}: {fault}")
                elif field == "labels" and text.startswith("!"):
                    hint = "say in `when` which label may not be there"
                    yield Problem(path=f"{field}[{place}]", message=f"{text!r}: labels take no '!'", hint=hint)

    def receive(self, request: HookRequest) -> Happening | Ignored:
        """Check who sent it, understand it, and see whether it is wanted."""
        ident = self.proven(request)
        request = unpacked(request, self.max_body)
        delivery = self.understand(request)
        if isinstance(delivery, Ignored):
            return delivery
        if reason := self._unwanted(delivery):
            return Ignored(reason=reason)
        if self.dedupe == "body":
            ident = key_of_body(request)
        told = event(request, self.name, delivery.kind, delivery.body, ident)
        told |= msgspec.structs.asdict(delivery.about.facts)
        return Happening(event=told, key=ident)

    def by_hand(self, body: Any, now: datetime) -> dict[str, Any]:  # noqa: ARG002
        """What the body of a delivery says, which had its kind in a header."""
        return msgspec.structs.asdict(self.about(body).facts)

    @abstractmethod
    def about(self, body: Any) -> Understood:
        """What a body says by itself."""

    def proven(self, request: HookRequest) -> str:
        """What tells the delivery from others, once it was checked; empty if nothing does.

        Raises:
            UnauthorizedError: it does not show the secret.
        """
        if self.auth == "none":
            return self.ident(request)
        if not self.secrets:
            raise UnavailableError("the trigger has no secret to check with")
        proof = with_secrets(self.secrets, lambda secrets: self.check(secrets, request))
        return key(proof.ident) or self.ident(request)

    @abstractmethod
    def check(self, secrets: Sequence[bytes], request: HookRequest) -> Proof:
        """See that it shows one of the secrets.

        Raises:
            UnauthorizedError: it does not.
        """

    @abstractmethod
    def ident(self, request: HookRequest) -> str:
        """What tells the delivery from others, signed or not."""

    @abstractmethod
    def understand(self, request: HookRequest) -> Delivery | Ignored:
        """What it says.

        Raises:
            InvalidError: it cannot be parsed.
        """

    def _unwanted(self, delivery: Delivery) -> str:
        """Why the trigger does not want it; empty if it does."""
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
    """A delivery's body, which is an object.

    Raises:
        InvalidError: it is something else.
    """
    if not isinstance(body, dict):
        raise InvalidError("the body is JSON, but no object")
    return body


def at(value: Any, *path: str) -> Any:
    """What stands at a path; None if there is nothing."""
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def text(value: Any, *path: str) -> str:
    """The text at a path; empty if there is none."""
    found = at(value, *path)
    return found if isinstance(found, str) else ""


def listed(value: Any, *path: str) -> list[Any]:
    """The list at a path; empty if there is none."""
    found = at(value, *path)
    return found if isinstance(found, list) else []


def first(*texts: str) -> str:
    """The first that is not empty."""
    return next(filter(None, texts), "")


def commit(text: str) -> str:
    """A commit's id; empty if it is the one of all zeros, which stands for none."""
    return text if text.strip("0") else ""


def whole_ref(name: str, *, is_tag: bool = False) -> str:
    """A branch's or tag's name as a ref; a ref stays what it is."""
    if not name or name.startswith("refs/"):
        return name
    return (TAGS if is_tag else HEADS) + name


def branch_of(ref: str) -> str:
    """The branch that a ref is; empty if it is none."""
    return ref[len(HEADS) :] if ref.startswith(HEADS) else ""


def tag_of(ref: str) -> str:
    """The tag that a ref is; empty if it is none."""
    return ref[len(TAGS) :] if ref.startswith(TAGS) else ""


def changed_files(commits: Iterable[Any]) -> list[str]:
    """The files that commits touch, each once."""
    found: dict[str, None] = {}
    for one in commits:
        for how in _HOW:
            for path in listed(one, how):
                if isinstance(path, str):
                    found[path] = None
    return list(found)


def lists_all(body: Any, commits: list[Any], *counts: str) -> bool:
    """Whether the files of a push are all there: each commit is listed, and says which files it touches.

    Forges list only so many commits (GitLab 20, Gitea 5 unless set), and some list no files (GitLab's system hooks).
    """
    if any(isinstance(total := at(body, count), int) and total > len(commits) for count in counts):
        return False
    if at(body, "truncated") is True:
        return False
    return all(any(isinstance(at(one, how), list) for how in _HOW) for one in commits)


_HOW: Final = ("added", "modified", "removed")
