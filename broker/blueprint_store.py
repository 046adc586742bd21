"""The versions of blueprints, by digest: agents read what to run from here."""

from __future__ import annotations

from nats.aio.client import Client
from nats.js.errors import KeyNotFoundError

from muster.blueprints.definition import Blueprint, decode_blueprint
from muster.mesh import names
from muster.mesh.errors import RefusedError
from muster.mesh.jetstream import Publisher
from muster.mesh.model import Order


class BlueprintStore:
    """Reads and writes them."""

    def __init__(self, client: Client, publisher: Publisher) -> None:
        self._client, self._publisher = client, publisher

    async def put(self, blueprint: Blueprint) -> None:
        """Stores a version.

        Raises:
            UnavailableError: it is not known to be stored.
        """
        entry = names.entry(names.BLUEPRINT_BUCKET, blueprint.digest())
        await self._publisher.publish(entry, blueprint.encoded())

    async def blueprint_of(self, order: Order) -> Blueprint:
        """Returns the version that an order runs.

        Raises:
            RefusedError: it is not in the mesh any more.
        """
        bucket = await self._client.jetstream().key_value(names.BLUEPRINT_BUCKET)
        try:
            entry = await bucket.get(order.digest)
        except KeyNotFoundError:
            raise RefusedError(
                f"version {order.version} of blueprint {order.blueprint} is not in the mesh any more"
            ) from None
        return decode_blueprint(entry.value or b"")
