"""Ids that are the same for the same request, and that nobody outside the brokers can work out.

A schedule's next firing, and the orders of an idempotency key, need an id that every broker finds again.  Made of
what everybody knows, it could be written to the log by anybody, ahead of time; so it is keyed with a secret that
is in a bucket of the brokers' own.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from contextlib import suppress
from typing import Final

import nats.errors
from nats.js import JetStreamContext
from nats.js.errors import Error as JetStreamError
from nats.js.errors import KeyNotFoundError, KeyWrongLastSequenceError

from muster.mesh import names
from muster.mesh.errors import UnavailableError

KEY: Final = "ids"
LENGTH: Final = 32
"""Bytes of the secret."""


class Ids:
    """Makes them."""

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def firing(self, trigger: str, key: str, attempt: int = 0, scope: str = "") -> str:
        """Returns the id of a firing: the same for the same event, and the same attempt at it.

        Args:
            trigger: which.
            key: what distinguishes one event from another.
            attempt: how many firings of the event made no orders.
            scope: whose key it is, if not a provider's.
        """
        return self._id(*_named("firing", scope), str(attempt), trigger, key)

    def order(self, key: str, place: int, scope: str = "") -> str:
        """Returns the id of the nth order that a request with an idempotency key makes.

        Args:
            key: the request's.
            place: which of its orders.
            scope: whose key it is (`Caller.scope`): the same key of two callers makes two requests.
        """
        return self._id(*_named("request", scope), key, str(place))

    def announced(self, name: str, key: str) -> str:
        """The id of an event that somebody announced by name."""
        return self._id("announced", name, key)

    def _id(self, *parts: str) -> str:
        return names.written_id(
            hmac.digest(self._secret, "\n".join(parts).encode(errors="surrogatepass"), hashlib.sha256)
        )


def _named(what: str, scope: str) -> tuple[str, ...]:
    """How the text starts that an id is made of; no key can make one scope look like another."""
    return (f"{what} of", scope) if scope else (what,)


async def load(js: JetStreamContext) -> Ids:
    """The ids of the mesh, as every broker of it makes them; the first broker chooses the secret.

    Raises:
        UnavailableError: the bucket cannot be read.
    """
    try:
        bucket = await js.key_value(names.ID_BUCKET)
        try:
            return Ids((await bucket.get(KEY)).value or b"")
        except KeyNotFoundError:
            with suppress(KeyWrongLastSequenceError):  # another broker was faster
                await bucket.create(KEY, secrets.token_bytes(LENGTH))
            return Ids((await bucket.get(KEY)).value or b"")
    except (nats.errors.Error, JetStreamError, TimeoutError) as error:
        raise UnavailableError(f"the secret of the mesh's ids cannot be read: {error!r}") from error
