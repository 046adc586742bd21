"""What every service of the broker works with."""

from __future__ import annotations

from typing import NamedTuple

from muster.broker.ids import Ids
from muster.broker.log import Log
from muster.broker.query import Query
from muster.broker.state.world import World


class Means(NamedTuple):
    """All of it; one of each a broker."""

    world: World
    log: Log
    query: Query
    ids: Ids
