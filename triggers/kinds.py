"""The `kinds` of `event` triggers: kinds of Muster's events, names from the inbox, and globs over both."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Final

from muster.blueprints.suggest import did_you_mean
from muster.mesh.errors import Problem
from muster.mesh.events import KINDS, Event

OWN_EVENT: Final = "inbox.event"
"""The kind of events from `muster.inbox.events.<name>`; the subject of the event is the name."""

NOUNS: Final = frozenset(kind.partition(".")[0] for kind in KINDS)

_FORM: Final = re.compile(r"[A-Za-z0-9_*?-]+(\.[A-Za-z0-9_*?-]+)*")


def problems(kinds: Iterable[str]) -> Iterator[Problem]:
    """Yields the problems of kinds; paths are relative to `with`."""
    for place, kind in enumerate(kinds):
        if problem := _problem(kind):
            yield Problem(path=f"kinds[{place}]", message=problem[0], hint=problem[1])


def _problem(kind: str) -> tuple[str, str] | None:
    if not _FORM.fullmatch(kind):
        return f"{kind!r} is not a kind of event", "write order.failed, order.*, or the name of an event of your own"
    noun = kind.partition(".")[0]
    if _is_pattern(noun) or kind.startswith(f"{OWN_EVENT}."):
        return None
    if noun in NOUNS:
        if any(fnmatchcase(known, kind) for known in KINDS):
            return None
        of_noun = [known for known in KINDS if known.startswith(f"{noun}.")]
        return f"there is no event {kind!r}", did_you_mean(kind, KINDS) or did_you_mean("", of_noun)
    near = get_close_matches(noun, NOUNS, n=1, cutoff=0.75)
    if not near:
        return None
    guess = did_you_mean(f"{near[0]}{kind[len(noun) :]}", [known for known in KINDS if known.startswith(near[0])])
    own = f"for an event of your own, write {OWN_EVENT}.{kind}"
    return f"there is no event {kind!r}", f"{guess or 'is it misspelt?'} ({own})"


def matcher(kinds: Iterable[str]) -> Callable[[Event], bool]:
    """Returns a function that tests whether an event has one of the kinds."""
    patterns = tuple(kinds)
    own = tuple(pattern for pattern in patterns if pattern.partition(".")[0] not in NOUNS)

    def wants(event: Event) -> bool:
        if any(fnmatchcase(event.kind, pattern) for pattern in patterns):
            return True
        if event.kind != OWN_EVENT:
            return False
        whole = f"{OWN_EVENT}.{event.subject}"
        return any(fnmatchcase(event.subject, name) for name in own) or any(fnmatchcase(whole, it) for it in patterns)

    return wants


def on_record(kinds: Iterable[str]) -> tuple[str, ...]:
    """Returns the recorded kinds that can match."""
    found: set[str] = set()
    for kind in kinds:
        noun = kind.partition(".")[0]
        found.update(known for known in KINDS if fnmatchcase(known, kind))
        if noun not in NOUNS or kind.startswith(f"{OWN_EVENT}."):
            found.add(OWN_EVENT)
    return tuple(sorted(found))


def _is_pattern(text: str) -> bool:
    return "*" in text or "?" in text
