"""Asks the broker what becomes of an order that this agent cannot claim, or has given up."""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec
import nats.errors
import structlog
from nats.aio.client import Client

from muster.mesh import names
from muster.mesh.messages import Packet, ResumeReply, ResumeRequest
from muster.mesh.service import Service

log = structlog.get_logger()

RETRY_DELAY: Final = 1.0
"""Seconds until the next request to brokers that did not answer."""

ANSWER_TIMEOUT: Final = 5.0
"""Seconds to wait for an answer."""

MOST_PENDING: Final = 4096
"""Orders given up and not reported yet; of older ones a broker learns when their messages are delivered again."""

_reply = msgspec.json.Decoder(ResumeReply)


async def resume(client: Client, request: ResumeRequest) -> bool:
    """Asks what becomes of an order; whether a broker has answered that its message is to be dropped."""
    subject, data = names.agent(request.element, "resume"), msgspec.json.encode(request)
    try:
        answer = await client.request(subject, data, timeout=ANSWER_TIMEOUT)
        return _reply.decode(answer.data).drop
    except (nats.errors.Error, TimeoutError, OSError, msgspec.MsgspecError) as error:  # none answers, or with an error
        log.debug("resume.unanswered", order=request.order, error=repr(error))
        return False


class GivenUp(Service):
    """Reports what this agent has given up, until a broker has answered.

    Its message may go to another member of the pool, who cannot know whether this agent still runs it.
    """

    def __init__(self, client: Client, agent: str) -> None:
        super().__init__()
        self._client = client
        self._agent = agent
        self._pending: dict[str, ResumeRequest] = {}
        self._changed = asyncio.Event()

    def add(self, packet: Packet, element: str, *, declined: bool = False) -> None:
        """This agent holds an order no more; `declined`: and has run nothing of it."""
        if len(self._pending) >= MOST_PENDING:
            order = next(iter(self._pending))
            del self._pending[order]
            log.warning("resume.dropped", order=order)
        self._pending[packet.order] = ResumeRequest(
            order=packet.order, attempt=packet.attempt, element=element, agent=self._agent, declined=declined
        )
        self._changed.set()

    async def run(self) -> None:
        """Reports until cancelled."""
        self.ready.set()
        while True:
            await self._changed.wait()
            self._changed.clear()
            while self._pending:
                order, request = next(iter(self._pending.items()))
                is_answered = await resume(self._client, request)
                if self._pending.get(order) is request:
                    del self._pending[order]
                    if not is_answered:
                        self._pending[order] = request  # behind the others: the next one may be answered
                if not is_answered:
                    await asyncio.sleep(RETRY_DELAY)
