"""Agents that fall silent: when are their elements offline, and when are their orders given up?"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from time import monotonic

import pytest

from muster.broker.duties.expire import Expire
from muster.broker.duties.wake import Wake
from muster.broker.lease import Lease
from muster.broker.main import Broker
from muster.broker.presence import Presences
from muster.broker.state.apply import apply
from muster.broker.state.world import World
from muster.mesh import names, records
from muster.mesh.caller import Caller
from muster.mesh.messages import Presence
from muster.mesh.model import OrderState
from muster.mesh.version import OURS, PROTOCOL, Speaker, agent_misfit
from tests.kit.manifests import applied
from tests.kit.waiting import eventually

START = datetime(2026, 1, 1, tzinfo=UTC)
LEASE = timedelta(seconds=30)


class Clockwork:
    """A state machine, a duty, and a time that only we move."""

    def __init__(self) -> None:
        self.state = World()
        self.now = START
        self.ahead = 0.0
        """Seconds by which the clock of the agent's host is ahead."""
        self.presences = Presences(Lease(LEASE), self.clock, self.clock)
        self.expire = Expire(Lease(LEASE), self.presences)
        self.write(applied(({"kind": "machine", "name": "web01"},)))
        self.write(records.Joined(element="web01", agent="one"))

    def clock(self) -> float:
        return self.now.timestamp()

    def write(self, record: records.Record, actor: str = names.BROKER) -> None:
        changes = apply(
            self.state, self.state.seq + 1, self.now, records.subject(record, actor), records.encode(record)
        )
        assert changes.refused is None, changes.refused

    def beat(self, agent: str = "one", *, leaving: bool = False) -> None:
        self.presences.heard(
            "web01", Presence(agent=agent, leaving=leaving, protocol=PROTOCOL, time=self.clock() + self.ahead)
        )

    def run_an_order(self) -> None:
        self.write(
            records.Created(order="o", blueprint="b", version=1, digest="d", by=Caller(name="test"), element="web01")
        )
        self.write(records.Claimed(order="o", attempt=1, element="web01", agent="one"), "web01")

    def order_state(self) -> str:
        return self.state.orders["o"].state

    def after(self, seconds: float) -> list[records.Record]:
        self.now += timedelta(seconds=seconds)
        due = list(self.expire.run_once(self.state, self.now))
        for record in due:
            self.write(record)
        return due


def test_an_element_whose_agent_speaks_stays_online() -> None:
    mesh = Clockwork()
    for _ in range(20):
        mesh.beat()
        assert mesh.after(10) == []


def test_a_silent_element_goes_offline_once() -> None:
    mesh = Clockwork()
    mesh.beat()
    assert [type(record) for record in mesh.after(16)] == [records.Left]
    assert mesh.after(1) == []


def test_an_element_whose_agent_speaks_again_is_online_again() -> None:
    mesh = Clockwork()
    mesh.beat()
    mesh.after(16)
    mesh.beat()
    assert [type(record) for record in mesh.after(1)] == [records.Joined]


def test_orders_go_on_at_once_with_a_daemon_that_was_started_in_the_place_of_a_dead_one() -> None:
    mesh = Clockwork()
    mesh.write(records.Joined(element="web01", agent="one", place="host:/folder"))
    mesh.run_an_order()
    mesh.write(records.Joined(element="web01", agent="two", place="host:/folder"))
    assert mesh.order_state() == "offered"
    assert mesh.state.orders["o"].rev == 5, "a claim is compared with the order's own last record"


def test_orders_of_a_daemon_elsewhere_wait_until_its_lease_is_surely_over() -> None:
    """It may only be cut off, and still run them: nobody can know."""
    mesh = Clockwork()
    mesh.beat()
    mesh.run_an_order()
    mesh.after(40)
    mesh.write(records.Joined(element="web01", agent="two", place="another:/folder"))
    mesh.beat("two")
    assert mesh.after(4) == []
    assert mesh.order_state() == "running"
    assert [type(record) for record in mesh.after(2)] == [records.Lost]
    assert mesh.order_state() == "offered"


def test_orders_of_a_silent_agent_are_given_up_only_after_its_lease_is_surely_over() -> None:
    mesh = Clockwork()
    mesh.beat()
    mesh.run_an_order()
    mesh.after(44)
    assert mesh.order_state() == "running"
    mesh.after(2)
    assert mesh.order_state() == "offered"


def test_orders_of_an_agent_that_said_goodbye_are_given_up_at_once() -> None:
    mesh = Clockwork()
    mesh.beat()
    mesh.run_an_order()
    mesh.beat(leaving=True)
    assert [type(record) for record in mesh.after(0.5)] == [records.Left, records.Lost]
    assert mesh.state.orders["o"].state is OrderState.OFFERED


def test_a_new_broker_gives_every_agent_time_to_speak() -> None:
    mesh = Clockwork()
    mesh.run_an_order()
    mesh.now = START + timedelta(hours=1)
    mesh.presences = Presences(Lease(LEASE), mesh.clock)
    mesh.expire = Expire(Lease(LEASE), mesh.presences)
    assert mesh.after(14) == []


def test_a_broker_that_was_cut_off_gives_every_agent_time_to_speak() -> None:
    mesh = Clockwork()
    mesh.beat()
    mesh.run_an_order()
    mesh.now += timedelta(hours=1)
    mesh.presences.start()
    assert mesh.after(14) == []
    mesh.beat()
    assert mesh.after(14) == []


async def test_silence_counts_only_from_when_a_broker_is_back(broker: Broker) -> None:
    """It hears nobody without a connection, nor while it is stopped."""
    presences, clock = broker.presences, monotonic()
    presences._clock = lambda: clock
    presences.heard("e1", Presence(agent="a1", protocol=PROTOCOL))
    for comes_back in (broker._again, broker.leader._lose):
        clock += 3600
        assert presences.is_silent("a1")
        comes_back()
        await eventually(lambda: broker.leader.leads)
        assert not presences.is_silent("a1")


@pytest.mark.parametrize(("ahead", "words"), [(3600, "3600 s ahead of"), (-90, "90 s behind")])
def test_an_agent_whose_clock_is_off_is_in_trouble(ahead: float, words: str) -> None:
    mesh = Clockwork()
    mesh.ahead = ahead
    mesh.beat()
    assert mesh.presences.trouble("web01") == f"its host's clock is {words} the broker's"
    assert list(mesh.presences.troubles(20)) == ["web01"]
    mesh.ahead = 1.9
    mesh.beat()
    assert mesh.presences.troubles(20) == {}


def test_an_agent_of_another_protocol_is_offline_but_what_it_runs_is_not_given_up() -> None:
    """Its lease continues: giving its orders to others would run them twice."""
    mesh = Clockwork()
    mesh.beat()
    mesh.run_an_order()
    found: list[records.Record] = []
    for _ in range(20):
        mesh.presences.heard("web01", Presence(agent="one", version="0.0.9"))
        found += mesh.after(10)
    why = agent_misfit(Speaker(version="0.0.9"))
    assert found == [records.Left(element="web01", agent="one", reason=why)]
    assert mesh.order_state() == "running"
    assert mesh.presences.trouble("web01") == why
    assert "version 0.0.9 (protocol 1)" in why
    assert str(OURS) in why
    assert why.endswith("upgrade the agent")


def test_misfits_do_not_pile_up() -> None:
    mesh = Clockwork()
    for number in range(2000):
        mesh.presences.misfits(f"e{number}", "a", Speaker())
    assert len(mesh.presences._misfits) == 1000


def test_agents_of_the_past_do_not_pile_up() -> None:
    mesh = Clockwork()
    for number in range(1000):
        mesh.beat(f"agent{number}")
        mesh.after(1)
    assert len(mesh.presences._agents) < 300


def test_only_orders_whose_time_has_come_are_woken() -> None:
    mesh = Clockwork()
    for hour in (1, 2):
        mesh.write(
            records.Created(
                order=f"o{hour}",
                blueprint="b",
                version=1,
                digest="d",
                by=Caller(name="test"),
                element="web01",
                not_before=START + timedelta(hours=hour),
            )
        )
    assert mesh.state.orders["o1"].reason == "schedule"
    due = list(Wake().run_once(mesh.state, START + timedelta(hours=1)))
    assert due == [records.Due(order="o1")]
    mesh.write(due[0])
    assert mesh.state.orders["o1"].state is OrderState.OFFERED
    assert list(Wake().run_once(mesh.state, START + timedelta(hours=1))) == []
