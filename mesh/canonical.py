"""A value as JSON in one form: two are the same if their bytes are.

To Python, 1, 1.0 and true are equal, so `==` misses a change from one to another.  To whoever reads JSON they are not.
"""

from __future__ import annotations

from typing import Final

import msgspec

canonical: Final = msgspec.json.Encoder(order="deterministic").encode
"""The bytes; the order of an object's fields does not count."""
