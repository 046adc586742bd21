"""Who asks: as people read it, and whose idempotency keys are whose."""

from __future__ import annotations

import pytest

from muster.broker.ids import Ids
from muster.mesh.caller import BROKER, Caller, CallerKind

ANNA, BOB = Caller(name="anna", door="http"), Caller(name="bob", door="http")


@pytest.mark.parametrize(
    ("caller", "words"),
    [
        (Caller(door="http"), "http"),
        (Caller(door="inbox"), "inbox"),
        (ANNA, "anna"),
        (Caller(kind=CallerKind.AGENT, name="web01", door="nats"), "agent web01"),
        (Caller(kind=CallerKind.TRIGGER, name="nightly"), "trigger nightly"),
        (BROKER, "broker"),
        (Caller(), "user"),
    ],
)
def test_a_caller_is_shown_in_words(caller: Caller, words: str) -> None:
    assert f"{caller}" == words


def test_keys_belong_to_their_caller_through_every_door() -> None:
    ids = Ids(b"secret")

    def order(caller: Caller, key: str = "key", place: int = 0) -> str:
        return ids.order(key, place, caller.scope)

    assert order(ANNA) == order(Caller(name="anna", door="nats"))
    assert order(Caller(door="http")) == order(Caller(door="nats")) == ids.order("key", 0)
    callers = [ANNA, BOB, Caller(), Caller(kind=CallerKind.AGENT, name="anna"), BROKER]
    made = {order(caller, key, place) for caller in callers[:4] for key in ("key", "user anna") for place in (0, 1)}
    assert len(made) == 16


@pytest.mark.parametrize("key", ["key", "user anna\nkey", "key\nuser anna"])
def test_no_key_of_an_event_is_taken_for_another_callers(key: str) -> None:
    ids = Ids(b"secret")
    assert ids.firing("t", key) != ids.firing("t", "key", 0, ANNA.scope)
    assert ids.firing("t", "key", 0, ANNA.scope) != ids.firing("t", "key", 0, BOB.scope)
