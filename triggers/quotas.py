"""Limits of hooks: deliveries by trigger and sender, and bytes by trigger, because firings are kept permanently.

Each receiving process counts in memory, from its start on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from math import ceil
from typing import Any, ClassVar, Final

from muster.blueprints.provider import Hook
from muster.blueprints.rates import Rate, Rates, rate_of
from muster.mesh.errors import MusterError
from muster.triggers.definitions import Trigger

MOST_SENDERS: Final = 10_000
"""Senders that are counted separately; the volume of a trigger counts all senders together."""

MOST_TRIGGERS: Final = 1_000_000


class TooManyError(MusterError):
    """The hook has reached its limit."""

    status: ClassVar[int] = 429
    code: ClassVar[str] = "too-many"

    def __init__(self, detail: str, wait: float) -> None:
        super().__init__(detail)
        self.wait = max(1, ceil(wait))
        """Seconds until it accepts the next delivery."""


class Quotas:
    """Counts the accepted deliveries of triggers."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._senders, self._volumes = Rates(MOST_SENDERS), Rates(MOST_TRIGGERS)

    def check(self, trigger: Trigger, hook: Hook, sender: str) -> None:
        """Checks whether another delivery is within the limits.

        Raises:
            TooManyError: it is not.
        """
        now = self._clock()
        rate = _rate(hook.rate)
        if wait := self._senders.wait((trigger.name, sender), rate, now):
            raise TooManyError(f"trigger {trigger.name!r} accepts {hook.rate} from one sender", wait)
        for text, rate in _volumes(hook):
            if wait := self._volumes.wait((trigger.name, text), rate, now):
                raise TooManyError(f"trigger {trigger.name!r} accepts {text}", wait)

    def spend(self, trigger: Trigger, hook: Hook, sender: str, size: int) -> None:
        """Counts an authenticated delivery that will be stored.

        Raises:
            TooManyError: concurrent deliveries have reached the limit.
        """
        self.check(trigger, hook, sender)
        now = self._clock()
        self._senders.spend((trigger.name, sender), _rate(hook.rate), 1, now)
        for text, rate in _volumes(hook):
            self._volumes.spend((trigger.name, text), rate, size, now)


def sender_of(scope: Any) -> str:
    """Returns the sender: the IPv4 address, or the IPv6 network, because a host can use any address in it."""
    address: str = (scope.get("client") or ("",))[0]
    return address if ":" not in address or address.startswith("::ffff:") else ":".join(address.split(":")[:4])


def _volumes(hook: Hook) -> Iterator[tuple[str, Rate]]:
    return ((text, _rate(text)) for text in hook.volumes)


_rate = lru_cache(maxsize=1024)(rate_of)
