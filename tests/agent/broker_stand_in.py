"""A broker as far as an agent sees one: it releases packets, answers joins, and reads the log.

It decides nothing: the test says what is offered, and what a resume leads to.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Any

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, RePublish, RetentionPolicy, StreamConfig

from muster.blueprints.definition import Blueprint
from muster.mesh import names, records
from muster.mesh.caller import Caller
from muster.mesh.connection import connect
from muster.mesh.errors import ForbiddenError, InvalidError, MusterError, UnavailableError, VersionError
from muster.mesh.messages import Assignment, Control, JoinRequest, Packet, Presence, ResumeReply, ResumeRequest, Welcome
from muster.mesh.model import Direct, Job, Offered, OrderRequest
from muster.mesh.version import Speaker
from tests.kit.waiting import eventually


def _asker(message: Msg, element: str) -> str:
    """The element by whose subject it is asked; the body must not name another one."""
    if (asker := names.agent_of(message.subject)) != element:
        raise ForbiddenError(f"the agent of {asker} must not ask for {element}")
    return asker


async def _forget(_: ResumeRequest) -> None:
    """Nothing more is to be done about an order."""


BOXES = names.BLUEPRINT_BUCKET, names.ASSIGNMENT_BUCKET


class StandIn:
    """The stand-in, and what it has seen."""

    def __init__(self, client: Client, lease: timedelta) -> None:
        self.client = client
        self.js = client.jetstream(timeout=5)
        self.lease = lease
        self.ahead = 0.0
        """Seconds by which its clock is ahead of the host's."""
        self.log: list[records.AnyRecord] = []
        self.sequences: list[int] = []
        self.output: defaultdict[str, bytearray] = defaultdict(bytearray)
        self.output_headers: list[dict[str, str]] = []
        self.presence: list[Presence] = []
        self.resumes: list[ResumeRequest] = []
        self.requests: list[tuple[dict[str, Any], dict[str, str]]] = []
        self.assignments: dict[str, Assignment] = {}
        self.packets: dict[str, Packet] = {}
        self.on_resume: Callable[[ResumeRequest], Awaitable[None]] = _forget
        self.on_create: Callable[[dict[str, Any]], None] = lambda _: None
        """May refuse to make child orders."""
        self._children: dict[str, str] = {}
        """Child orders that were made, by key."""
        self._agents: dict[str, JoinRequest] = {}
        """Who acts for an element."""

    async def open(self) -> None:
        """Make the streams and listen."""
        begins = RePublish(src=names.DIRECT_STARTS, dest=names.REPUBLISHED_STARTS)
        for name, subject, passed_on in (
            (names.LOG_STREAM, names.LOG_SUBJECTS, begins),
            (names.OUTPUT_STREAM, names.OUTPUT_SUBJECTS, None),
        ):
            await self.js.add_stream(
                StreamConfig(name=name, subjects=[subject], duplicate_window=120, republish=passed_on)
            )
        await self.js.add_stream(
            StreamConfig(
                name=names.WORK_STREAM,
                subjects=[names.WORK_SUBJECTS],
                retention=RetentionPolicy.WORK_QUEUE,
                max_consumers=1000,
            )
        )
        for bucket in BOXES:
            await self.js.create_key_value(bucket=bucket)
        self.joins = await self.client.subscribe(names.agent("*", "join"), cb=partial(self._answer, self._join))
        for verb, handler in (("leave", self._leave), ("resume", self._resume), ("create", self._create)):
            await self.client.subscribe(names.agent("*", verb), cb=partial(self._answer, handler))
        await self.client.subscribe(names.PRESENCE_SUBJECTS, cb=self._present)
        await self.js.subscribe(names.LOG_SUBJECTS, stream=names.LOG_STREAM, cb=self._record, ordered_consumer=True)
        await self.js.subscribe(
            names.OUTPUT_SUBJECTS, stream=names.OUTPUT_STREAM, cb=self._chunk, ordered_consumer=True
        )

    async def consumer(self, name: str, subject: str) -> None:
        """A consumer of released work."""
        config = ConsumerConfig(
            durable_name=name,
            filter_subject=subject,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=self.lease.total_seconds(),
            max_ack_pending=10_000,
        )
        await self.js.add_consumer(names.WORK_STREAM, config)

    async def element(self, name: str, **fields: Any) -> Assignment:
        """An element that an agent may join as; once more: a changed assignment."""
        assignment = Assignment(element=name, kind="machine", **({"takes_work": True} | fields))
        if name not in self.assignments:
            await self.consumer(names.element_consumer(name), names.work_element(name))
        self.assignments[name] = assignment
        bucket = await self.js.key_value(names.ASSIGNMENT_BUCKET)
        await bucket.put(names.key(name), msgspec.json.encode(assignment))
        return assignment

    async def blueprint(self, text: dict[str, Any]) -> Blueprint:
        """A blueprint version in the bucket."""
        blueprint = msgspec.convert({"kind": "blueprint", "name": "test", **text}, Blueprint)
        bucket = await self.js.key_value(names.BLUEPRINT_BUCKET)
        await bucket.put(blueprint.digest(), blueprint.encoded())
        return blueprint

    async def create(self, blueprint: Blueprint, **fields: Any) -> Packet:
        """An order on the log, not released yet."""
        order = names.new_id()
        created = records.Created(
            order=order, blueprint=blueprint.name, version=1, digest=blueprint.digest(), by=Caller(name="test")
        )
        ack = await self.js.publish(records.subject(created), records.encode(created))
        packet = Packet(
            order=order,
            attempt=1,
            start=Offered(rev=ack.seq),
            blueprint=blueprint.name,
            digest=blueprint.digest(),
            **fields,
        )
        self.packets[order] = packet
        return packet

    async def offer(self, packet: Packet) -> None:
        """Release it."""
        subject = names.work_pool(packet.pool) if packet.pool else names.work_element(packet.element or "")
        await self.js.publish(subject, msgspec.json.encode(packet), headers={"Nats-Msg-Id": f"{packet.order}.1"})

    async def order(self, tasks: dict[str, Any] | list[dict[str, Any]], **fields: Any) -> str:
        """Create and release an order of these tasks for element `e1`, or as `fields` say; its id."""
        blueprint = await self.blueprint({"tasks": tasks} if isinstance(tasks, list) else tasks)
        packet = await self.create(blueprint, **({} if "pool" in fields else {"element": "e1"}) | fields)
        await self.offer(packet)
        return packet.order

    async def begin(
        self, tasks: list[dict[str, Any]], *, agent: str | None = None, beat: float | None = None
    ) -> Packet:
        """Starts an order directly: on the agent last heard of, by its last heartbeat, or as the test says.

        The packet is the one that carries the lease.
        """
        blueprint = await self.blueprint({"tasks": tasks})
        heard = await eventually(lambda: self.presence[-1:], what="a heartbeat")
        record = records.Created(
            order=names.new_id(),
            blueprint=blueprint.name,
            version=1,
            digest=blueprint.digest(),
            by=Caller(name="test"),
            element="e1",
            start=Direct(agent=agent or heard[0].agent, beat=heard[0].at if beat is None else beat),
        )
        await self.js.publish(records.subject(record), records.encode(record))
        packet = self.packets[record.order] = Packet(
            order=record.order,
            attempt=1,
            start=Direct(agent=heard[0].agent),
            blueprint=blueprint.name,
            digest=blueprint.digest(),
            element="e1",
        )
        return packet

    async def lose(self, request: ResumeRequest, *jobs: Job) -> None:
        """What a broker does that finds the order's attempt lost: it offers the next one, however often it is asked."""
        packet = self.packets[request.order]
        if packet.attempt > request.attempt:
            return
        lost = records.Lost(order=request.order, attempt=packet.attempt, reason="its agent is gone")
        ack = await self.js.publish(records.subject(lost), records.encode(lost))
        packet = msgspec.structs.replace(packet, attempt=packet.attempt + 1, start=Offered(rev=ack.seq), jobs=jobs)
        self.packets[request.order] = packet
        await self.js.publish(names.work_element(request.element), msgspec.json.encode(packet))

    async def cancel(self, order: str, element: str = "e1") -> None:
        """Ask the agent to stop it."""
        await self.client.publish(names.control(element), msgspec.json.encode(Control(cancel=order)))

    def of(self, order: str, kind: type[Any] | None = None) -> list[Any]:
        """The agent's records about an order so far."""
        return [
            record for record in self.log if isinstance(record, kind or records.OrderRecord) and record.order == order
        ]

    async def first(self, order: str, kind: type[Any], within: float = 10.0, nth: int = 1) -> Any:
        """The first (or nth) record of a type about an order, once it is there."""
        found = await eventually(
            lambda: self.of(order, kind)[nth - 1 : nth], within, f"{kind.__name__} {nth} of {order} in {self.log[-5:]}"
        )
        return found[0]

    async def done(self, order: str, within: float = 10.0) -> records.Done:
        """The order's end."""
        record: records.Done = await self.first(order, records.Done, within)
        return record

    async def unacknowledged(self) -> int:
        """Messages of the work stream that nobody has dealt with."""
        return int((await self.js.stream_info(names.WORK_STREAM)).state.messages)

    async def settled(self) -> None:
        """Every released message is dealt with."""

        async def empty() -> bool:
            return await self.unacknowledged() == 0

        await eventually(empty, what="an empty work stream")

    async def _answer(self, handler: Callable[[Msg], Awaitable[Any]], message: Msg) -> None:
        try:
            answer = await handler(message)
        except msgspec.MsgspecError as error:
            answer = {"error": InvalidError(f"the request is not valid: {error}").as_problem()}
        except MusterError as error:
            answer = {"error": error.as_problem()}
        await message.respond(msgspec.json.encode(answer))

    async def _join(self, message: Msg) -> Welcome:
        request = msgspec.json.decode(message.data, type=JoinRequest)
        if not Speaker(protocol=request.protocol, version=request.version).fits:
            raise VersionError("the protocols do not fit")
        element = _asker(message, request.element)
        before = self._agents.get(element)
        is_served = before is not None and any(beat.agent == before.agent for beat in self.presence)
        if before is not None and is_served and request.agent != before.agent and request.place != before.place:
            raise UnavailableError(f"another agent acts for {element}")
        self._agents[element] = request
        return Welcome(assignment=self.assignments[element], time=time.time() + self.ahead)

    async def _leave(self, message: Msg) -> dict[str, bool]:
        request = msgspec.json.decode(message.data, type=JoinRequest)
        self._agents.pop(_asker(message, request.element), None)
        return {"done": True}

    async def _resume(self, message: Msg) -> ResumeReply:
        request = msgspec.json.decode(message.data, type=ResumeRequest)
        _asker(message, request.element)
        self.resumes.append(request)
        await self.on_resume(request)
        return ResumeReply(drop=True)

    async def _create(self, message: Msg) -> dict[str, Any]:
        body = msgspec.json.decode(message.data)
        msgspec.convert(body, OrderRequest)
        headers = dict(message.headers or {})
        self.requests.append((body, headers))
        element, parent = names.agent_of(message.subject), body.get("parent") or ""
        held = [it for it in self.log if isinstance(it, records.Claimed) and it.order == parent]
        if not any(claimed.element == element for claimed in held):
            raise ForbiddenError(f"{element} does not run the parent order {parent}")
        self.on_create(body)
        order = self._children.setdefault(headers.get("Nats-Msg-Id") or names.new_id(), names.new_id())
        return {"orders": [{"id": order, "parent": parent}]}

    async def _present(self, message: Msg) -> None:
        presence = msgspec.json.decode(message.data, type=Presence)
        self.presence.append(presence)
        element = names.untoken(message.subject.rpartition(".")[2])
        if presence.leaving and (joined := self._agents.get(element)) is not None and joined.agent == presence.agent:
            del self._agents[element]

    async def _record(self, message: Msg) -> None:
        record, _ = records.decode(message.subject, message.data)
        assert not isinstance(record, str), record
        self.log.append(record)
        self.sequences.append(message.metadata.sequence.stream)

    async def _chunk(self, message: Msg) -> None:
        _, _, order, _, job = message.subject.split(".")
        place = f"{order}.{job}"
        self.output[place] += message.data
        self.output_headers.append(dict(message.headers or {}))


@asynccontextmanager
async def stand_in(url: str, lease: timedelta) -> AsyncIterator[StandIn]:
    """A stand-in on this server."""
    async with connect(url, name="stand-in") as client:
        broker = StandIn(client, lease)
        await broker.open()
        yield broker
