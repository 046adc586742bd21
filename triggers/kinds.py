"""What an `event` trigger's `kinds` mean: Muster's own kinds of events, names told on the inbox, globs over either."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Final

from muster.blueprints.suggest import did_you_mean
from muster.mesh.errors import Problem
from muster.mesh.events import KINDS, Event

TOLD: Final = "inbox.event"
"""The kind of whatever was told on `muster.inbox.events.<name>`; its subject is the name."""

NOUNS: Final = frozenset(kind.partition(".")[0] for kind in KINDS)

_FORM: Final = re.compile(r"[A-Za-z0-9_*?-]+(\.[A-Za-z0-9_*?-]+)*")


def problems(kinds: Iterable[str]) -> Iterator[Problem]:
    """What is wrong with them; paths count from `with`."""
    for place, kind in enumerate(kinds):
        if problem := _problem(kind):
            yield Problem(path=f"kinds[{place}]", message=problem[0], hint=problem[1])


def _problem(kind: str) -> tuple[str, str] | None:
    if not _FORM.fullmatch(kind):
        return f"{kind!r} is no kind of event", "write order.failed, order.*, or the name of an event of your own"
    noun = kind.partition(".")[0]
    if _is_pattern(noun) or kind.startswith(f"{TOLD}."):
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
    return f"there is no event {kind!r}", f"{guess or 'is it misspelt?'} (one of your own is written {TOLD}.{kind})"


def matcher(kinds: Iterable[str]) -> Callable[[Event], bool]:
    """Whether an event is of any of the kinds."""
    patterns = tuple(kinds)
    own = tuple(pattern for pattern in patterns if pattern.partition(".")[0] not in NOUNS)

    def wants(event: Event) -> bool:
        if any(fnmatchcase(event.kind, pattern) for pattern in patterns):
            return True
        if event.kind != TOLD:
            return False
        whole = f"{TOLD}.{event.subject}"
        return any(fnmatchcase(event.subject, name) for name in own) or any(fnmatchcase(whole, it) for it in patterns)

    return wants


def on_record(kinds: Iterable[str]) -> tuple[str, ...]:
    """The kinds on the record among which they are found."""
    found: set[str] = set()
    for kind in kinds:
        noun = kind.partition(".")[0]
        found.update(known for known in KINDS if fnmatchcase(known, kind))
        if noun not in NOUNS or kind.startswith(f"{TOLD}."):
            found.add(TOLD)
    return tuple(sorted(found))


def _is_pattern(text: str) -> bool:
    return "*" in text or "?" in text
