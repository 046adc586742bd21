"""JetStream's management API, with settings exactly as the server states them.

nats-py reads settings into structs and drops the fields that it does not know.  Written back, those fields would be
lost: whoever changes a stream or a consumer reads it here, and writes back all of it.
"""

from __future__ import annotations

import json
from typing import Any, Final

from nats.aio.client import Client
from nats.errors import NoRespondersError
from nats.js.errors import APIError, ServiceUnavailableError

ANSWER_TIMEOUT: Final = 5.0
"""Seconds for the server to answer."""


async def ask(client: Client, what: str, body: Any = None) -> dict[str, Any]:
    """Returns the server's answer.

    Raises:
        APIError: the server refuses; `NotFoundError` if the stream or the consumer is missing.
        nats.errors.Error: there is no connection; so do `TimeoutError` and `OSError`.
    """
    data = b"" if body is None else json.dumps(body).encode()
    try:
        reply = await client.request(f"$JS.API.{what}", data, timeout=ANSWER_TIMEOUT)
    except NoRespondersError as error:
        raise ServiceUnavailableError from error
    answer: dict[str, Any] = json.loads(reply.data)
    if "error" in answer:
        known = {name: answer["error"].get(name) for name in ("code", "err_code", "description")}
        raise APIError.from_error(known)
    return answer


async def stream_config(client: Client, stream: str) -> dict[str, Any]:
    """Returns a stream's settings.

    Raises:
        APIError: there is no such stream, or the server refuses.
        nats.errors.Error: there is no connection; so do `TimeoutError` and `OSError`.
    """
    config: dict[str, Any] = (await ask(client, f"STREAM.INFO.{stream}"))["config"]
    return config


async def change_stream(client: Client, config: dict[str, Any], changes: dict[str, Any]) -> None:
    """Changes some of a stream's settings and keeps the others.

    Raises:
        APIError: the server refuses.
        nats.errors.Error: there is no connection; so do `TimeoutError` and `OSError`.
    """
    await ask(client, f"STREAM.UPDATE.{config['name']}", {**config, **changes})
