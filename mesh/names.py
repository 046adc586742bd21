"""Every stream, subject, consumer and bucket of a mesh, each with one sentence.

This is the only file that spells them.  Tokens made from user input are names as `is_name`
allows or ids that Muster made, so no subject can be widened by what somebody typed.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from base64 import b32encode
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

LOG_STREAM: Final = "MUSTER_LOG"
"""Every record, in one total order: the only truth."""

WORK_STREAM: Final = "MUSTER_WORK"
"""Released orders, until somebody has run them (work queue)."""

OUTPUT_STREAM: Final = "MUSTER_OUTPUT"
"""What tasks print, in chunks, limited by age and size."""

INBOX_STREAM: Final = "MUSTER_INBOX"
"""Durable fire-and-forget: what a plain `nats pub` writes (work queue)."""

BLUEPRINT_BUCKET: Final = "MUSTER_BLUEPRINTS"
"""Blueprint versions by digest; agents read what to run from here."""

ASSIGNMENT_BUCKET: Final = "MUSTER_ASSIGNMENTS"
"""One key an element: its pools, slots, params, and whether it may take work; agents watch their own."""

LEADER_BUCKET: Final = "MUSTER_LEADER"
"""One key with a time to live: which broker does the side effects."""

TRIGGER_BUCKET: Final = "MUSTER_TRIGGERS"
"""One key a trigger: its definition; trigger services watch them."""

ID_BUCKET: Final = "MUSTER_IDS"
"""What brokers share and nobody else reads: the secret that ids are keyed with."""

CURSOR_BUCKET: Final = "MUSTER_CURSORS"
"""How far trigger services have read what they read: one key a reader."""

LOG_SUBJECTS: Final = "muster.log.>"
WORK_SUBJECTS: Final = "muster.work.>"
OUTPUT_SUBJECTS: Final = "muster.output.>"
INBOX_SUBJECTS: Final = "muster.inbox.>"
PRESENCE_SUBJECTS: Final = "muster.presence.*"
TROUBLE_SUBJECTS: Final = "muster.trouble.*"

DISK_FULL: Final = "muster.disk.full"
"""Whoever runs the NATS server says here, each second, that its disk is full."""

DIRECT_STARTS: Final = "muster.log.order.*.broker.*"
"""Records that start an order directly; the server itself republishes each, once it is stored."""

REPUBLISHED_STARTS: Final = "muster.begin.{{wildcard(2)}}"
"""Where the server republishes them: `direct_start` of the element."""

INBOX_ORDERS: Final = "muster.inbox.orders"
"""Orders to create, as the JSON of `POST /api/v1/orders`."""

INBOX_EVENTS: Final = "muster.inbox.events.>"
"""Events of users, by name: each becomes an event, and may fire `event` triggers."""

INBOX_CONSUMER: Final = "inbox"
"""The durable pull consumer of the whole inbox: what is on no subject of the two is read as well, and rejected."""

BROKER: Final = "broker"
"""The actor that writes for the control plane."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
NAME_PATTERN: Final = rf"^{_NAME.pattern}$(?!\n)"
"""The same as a field's pattern: Python's `$` alone also matches before a line break at the end."""
POOL_PATTERN: Final = NAME_PATTERN.replace("^", "^(?:queue:)?", 1)
"""A pool's name, or what `queue_pool` makes."""
DIGEST_PATTERN: Final = r"^[A-Za-z0-9_-]{0,128}$(?!\n)"
"""A blueprint version's content address, as one subject token; may be empty."""
NAME_RULE: Final = "1 to 63 characters: a-z, 0-9, '.', '_' and '-', the first a letter or digit"


def is_name(text: str) -> bool:
    """Whether `text` may name an object (surface.md, Manifests)."""
    return _NAME.fullmatch(text) is not None


def token(name: str) -> str:
    """A name as one subject token: a dot would start another token, so it is written `=`."""
    return name.replace(".", "=")


def untoken(text: str) -> str:
    """The name that `token` made this from."""
    return text.replace("=", ".")


def new_id() -> str:
    """A random order or record id: 80 bits as 16 lower-case letters and digits (RFC 4648 base 32)."""
    return next(_fresh_ids)


def _ids() -> Iterator[str]:
    """Ids without end; one call to the system serves many."""
    while True:
        block = b32encode(secrets.token_bytes(4000)).decode().lower()
        for start in range(0, len(block), 16):
            yield block[start : start + 16]


_fresh_ids = _ids()


def log(kind: str, ident: str, actor: str = BROKER) -> str:
    """Where a record is written; NATS permissions hold `actor` to who may write it."""
    return f"muster.log.{kind}.{token(ident)}.{token(actor)}"


def log_of(kind: str, ident: str) -> str:
    """Every record about one thing, by whomever: the filter of a compare-and-set."""
    return f"muster.log.{kind}.{token(ident)}.>"


def log_start(order: str, element: str) -> str:
    """Where the record is written that creates an order and starts it on an element at once."""
    return f"{log('order', order)}.{token(element)}"


def log_parts(subject: str) -> list[str] | None:
    """`[kind, id, actor]` of a log subject, and the element if the record starts an order; None for another subject."""
    parts = subject.split(".")
    is_long = len(parts) == 6 and parts[4] == BROKER  # noqa: PLR2004 - muster.log.<kind>.<id>.<actor>.<element>
    if not (is_long or len(parts) == 5) or parts[0] != "muster" or parts[1] != "log":  # noqa: PLR2004
        return None
    return [untoken(part) for part in parts[2:]] if "=" in subject else parts[2:]


def work_element(element: str) -> str:
    """Orders released to one element."""
    return f"muster.work.element.{token(element)}"


def lease_message_id(order: str) -> str:
    """The id of the message on `work_element` that carries the lease of a direct start, whoever publishes it."""
    return f"{order}.lent"


def work_pool(pool: str) -> str:
    """Orders released to whichever member of a pool is free."""
    return f"muster.work.pool.{token(pool)}"


def element_consumer(element: str) -> str:
    """The durable pull consumer of one element."""
    return f"element-{token(element)}"


def pool_consumer(pool: str) -> str:
    """The durable pull consumer that a pool's members share."""
    return f"pool-{token(pool)}"


def served_by(consumer: str) -> tuple[str, str]:
    """`element` or `pool`, and the name, that a durable consumer of the work stream is for."""
    kind, _, name = consumer.partition("-")
    return kind, untoken(name)


@lru_cache(maxsize=4096)
def queue_pool(where: str) -> str:
    """The pool that a filter alone defines (`queue: true`); the colon keeps it apart from pools with a name."""
    return "queue:" + digest_id(where)


_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz234567"
_TWO_LETTERS: Final = tuple(first + second for first in _LETTERS for second in _LETTERS)
"""RFC 4648 base 32, ten bits at a time: many times as fast as Python's own."""


def order_of(firing: str, place: int) -> str:
    """The id of one of the orders that a firing makes."""
    return digest_id(firing, str(place))


def digest_id(*parts: str) -> str:
    """An id that is the same for the same parts: 80 bits of their SHA-256, as `new_id` writes them."""
    return written_id(hashlib.sha256("\n".join(parts).encode(errors="surrogatepass")).digest())


def written_id(digest: bytes) -> str:
    """The first 80 bits of a digest, as `new_id` writes them."""
    high, low = int.from_bytes(digest[:5]), int.from_bytes(digest[5:10])
    two = _TWO_LETTERS
    return (
        f"{two[high >> 30]}{two[high >> 20 & 1023]}{two[high >> 10 & 1023]}{two[high & 1023]}"
        f"{two[low >> 30]}{two[low >> 20 & 1023]}{two[low >> 10 & 1023]}{two[low & 1023]}"
    )


def output(order: str, element: str, job: str) -> str:
    """What one job prints on an element, which NATS permissions hold to it."""
    return f"muster.output.{order}.{token(element)}.{token(job)}"


def output_of_job(order: str, job: str) -> str:
    """What one job prints, on whichever element."""
    return f"muster.output.{order}.*.{token(job)}"


def output_parts(subject: str) -> tuple[str, str]:
    """Who writes on a subject, and the output of which job."""
    element, job = subject.split(".")[-2:]
    return untoken(element), untoken(job)


def output_of(order: str) -> str:
    """What all jobs of an order print."""
    return f"muster.output.{order}.>"


def api(noun: str, verb: str) -> str:
    """A request/reply service of the broker."""
    return f"muster.api.{noun}.{verb}"


def api_info() -> str:
    """Where a broker says what it is."""
    return "muster.api.info"


def agent(element: str, verb: str) -> str:
    """Agent to broker: a request by the agent of an element, which NATS permissions hold to it."""
    return f"muster.agent.{token(element)}.{verb}"


def agent_of(subject: str) -> str:
    """The element by whose agent a request is made."""
    return untoken(subject.split(".")[2])


def event(kind: str, action: str, ident: str) -> str:
    """What happened, for anyone to listen to.

    What is not a name (an order's or a record's subject that somebody made up) is replaced by its digest.
    """
    return f"muster.event.{kind}.{action}.{token(ident) if is_name(ident) else digest_id(ident)}"


def control(element: str) -> str:
    """Broker to agent: cancel an order now."""
    return f"muster.control.{token(element)}"


def direct_start(element: str) -> str:
    """Server to agent: an order of the element's that runs from now on, in its first record."""
    return f"muster.begin.{token(element)}"


def trouble(service: str) -> str:
    """Which triggers cannot work in a trigger service, and why."""
    return f"muster.trouble.{token(service)}"


def presence(element: str) -> str:
    """An agent's heartbeat for one element."""
    return f"muster.presence.{token(element)}"


def key(name: str) -> str:
    """A name as a KV key."""
    return token(name)


def entry(bucket: str, name: str) -> str:
    """Where a bucket's value of a name is written (ADR-8)."""
    return f"$KV.{bucket}.{key(name)}"


def entries(bucket: str) -> str:
    """Where all of a bucket's values are written."""
    return f"$KV.{bucket}.>"


def stream_of(subject: str) -> str | None:
    """The stream that stores what is published on a subject; None if it is none of ours."""
    first, second, *_ = [*subject.split(".", 2), ""]
    return bucket_stream(second) if first == "$KV" else _STREAMS.get(second) if first == "muster" else None


_STREAMS: Final = {"log": LOG_STREAM, "work": WORK_STREAM, "output": OUTPUT_STREAM, "inbox": INBOX_STREAM}


def bucket_stream(bucket: str) -> str:
    """The stream that a bucket is (ADR-8)."""
    return f"KV_{bucket}"
