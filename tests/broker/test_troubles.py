"""What trigger services report of triggers that cannot work: shown while they report it, and bounded."""

from __future__ import annotations

import msgspec

from muster.broker.troubles import KEPT, MOST_SERVICES, Reported
from muster.mesh.firing import MOST_TROUBLES, Troubles


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def report(host: str, **reasons: str) -> bytes:
    return msgspec.json.encode(Troubles(host=host, reasons=reasons))


def test_a_trigger_says_why_it_does_not_work_and_on_which_hosts() -> None:
    reported = Reported(Clock())
    reported.heard("1", report("a", t="no stream"))
    reported.heard("2", report("b", t="no stream", u="not allowed"))
    reported.heard("3", report("c", t="not allowed"))
    assert reported.of("t") == "no stream (on a, b); not allowed (on c)"
    assert (reported.of("u"), reported.of("v")) == ("not allowed (on b)", None)


def test_a_report_lasts_until_the_next_one_or_until_its_service_is_gone() -> None:
    clock = Clock()
    reported = Reported(clock)
    reported.heard("1", report("a", t="no stream"))
    reported.heard("1", report("a"))
    assert reported.of("t") is None
    reported.heard("1", report("a", t="no stream"))
    clock.now = KEPT + 1
    assert reported.of("t") is None


def test_reports_are_bounded_and_what_cannot_be_read_is_none() -> None:
    reported = Reported(Clock())
    for service in range(2 * MOST_SERVICES):
        reported.heard(f"{service}", report("a", t="no stream"))
    reported.heard("many", report("b", **{f"t{number}": "x" for number in range(MOST_TROUBLES + 1)}))
    for data in (b"", b"\xff", b"[]", b'{"host": 1, "reasons": {}}'):
        reported.heard("odd", data)
    assert reported.of("t") == "no stream (on a)"
    assert reported.of("t1") is None
    assert len(reported.of("t") or "") < 1000
