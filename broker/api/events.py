"""`/api/v1/events`: what happens, live and resumable."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Annotated

import msgspec
from litestar import get
from litestar.params import Parameter
from litestar.response import Response, Stream

from muster.blueprints.suggest import did_you_mean
from muster.broker.api import sse
from muster.broker.api.context import PREFIX, Api, ApiDependency, Limit
from muster.broker.operations.answers import Listing
from muster.broker.past_events import Place, event_place
from muster.mesh.errors import InvalidError, Problem, UsageError
from muster.mesh.events import KINDS, Event

PAGE = 500
"""Events to read at a time while catching up."""

_encode = msgspec.json.Encoder().encode


@get(
    f"{PREFIX}/events",
    summary="Stream events",
    description="Server-sent events, one for each event, its `id` the place to resume from. With "
    "`Accept: application/json` the answer is one page of past events instead.",
    media_type=sse.MEDIA_TYPE,
    tags=["events"],
    opt={"problems": (410, 422)},
)
async def get_events(
    api: ApiDependency,
    last_event_id: Annotated[
        str | None, Parameter(header="Last-Event-ID", description="Resume after this event; EventSource sends it.")
    ] = None,
    after: Annotated[str | None, Parameter(description="The same, for those who cannot set a header.")] = None,
    kind: Annotated[str | None, Parameter(description="Only this kind (`order.failed`), or all of a noun's.")] = None,
    accept: Annotated[str | None, Parameter(header="Accept", description="JSON or server-sent events.")] = None,
    limit: Limit = 100,
) -> Response[Listing] | Stream:
    """What happens, live; or one page of what happened."""
    start = last_event_id or after
    place(start)
    _check_kind(kind)
    if accept is not None and "application/json" in accept:
        events, more = await api.services.query.past_events.after(start, (kind,) if kind else (), limit)
        page = Listing(items=list(events), next=events[-1].id if more else None)
        return Response(page, media_type="application/json")
    await api.services.query.past_events.check(place(start))
    return sse.stream(_live(api, start, kind), api.services.finals.closing)


def place(text: str | None) -> Place:
    """See `event_place`; before all of them if there is none.

    Raises:
        InvalidError: it is not an event's id.
    """
    if text is None:
        return (-1, -1)
    try:
        return event_place(text)
    except UsageError as error:
        problem = Problem(message=error.detail, path="after")
        raise InvalidError("the request's parameters are not valid", problem) from None


def _check_kind(kind: str | None) -> None:
    nouns = {known.partition(".")[0] for known in KINDS}
    if kind is not None and kind not in KINDS and kind not in nouns:
        problem = Problem(message=f"there is no event {kind!r}", path="kind", hint=did_you_mean(kind, [*KINDS, *nouns]))
        raise InvalidError("the request's parameters are not valid", problem)


def _is_of(event: Event, kind: str | None) -> bool:
    return kind is None or event.kind == kind or event.kind.startswith(f"{kind}.")


async def _live(api: Api, start: str | None, kind: str | None) -> AsyncGenerator[bytes, None]:
    """Past events behind `start`, then those that come.

    A reader too slow for the live feed is dropped from it and catches up from the projection, so it
    misses nothing and costs no memory meanwhile.
    """
    last = start
    while True:
        async with api.feed.listen() as events:
            if last is not None:
                async for event in _past(api, last, kind):
                    last = event.id
                    yield _message(event)
            done = place(last)
            async for event in events:
                if (here := place(event.id)) <= done:
                    continue
                done, last = here, event.id
                if _is_of(event, kind):
                    yield _message(event)


async def _past(api: Api, start: str, kind: str | None) -> AsyncGenerator[Event, None]:
    while True:
        events, more = await api.services.query.past_events.after(start, (kind,) if kind else (), PAGE)
        for event in events:
            yield event
        if not more:
            return
        start = events[-1].id


def _message(event: Event) -> bytes:
    return sse.message(_encode(event), ident=event.id)
