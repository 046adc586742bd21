"""The topics of the worklist: what can have changed after the handler of a record.

An aggregate enqueues keys of a topic; the rules that are registered for the topic, in any aggregate, process them.
"""

from __future__ import annotations

from typing import Final

ORDER: Final = "order"
"""An order that may be released, continue or end.  The oldest comes first, after the keys of all other topics."""

SUBJECT: Final = "order.subject"
"""An order on whose subjects a record was refused: a claim is compared with its sequence all the same."""

ENDED: Final = "order.ended"
"""An order that has just ended; it is in `Changes.orders`."""

OBJECT: Final = "object"
"""An object that was applied or deleted: `KIND/NAME`."""

VIEW: Final = "element.view"
"""An element of which filters may see something else, or that is gone."""

WORK: Final = "element.work"
"""An element that takes work, or does not any more; or that is new."""

SUCCEEDED: Final = "element.succeeded"
"""An element whose agent follows one that died in its place."""

POOL: Final = "pool"
"""A pool whose members changed, or one of whose members takes work, or does not any more."""

QUEUE: Final = "pool.queue"
"""A pool without a name that somebody needs now, or nobody needs any more."""

LANE: Final = "lane"
"""A lane with a free place, or another limit, or nothing in it any more."""

REPLACE: Final = "lane.replace"
"""A lane whose oldest orders make way for new ones."""
