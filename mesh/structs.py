"""The base of every struct that crosses a process boundary, and the types of its fields."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, dataclass_transform

import msgspec

from muster.mesh import names


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(msgspec.field,))
class FrozenMeta(msgspec.StructMeta):
    """Makes every subclass frozen and keyword-only, visibly for type checkers."""

    def __new__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **options: Any) -> FrozenMeta:
        """Creates a struct type; msgspec inherits `frozen`, but not `kw_only`."""
        options.setdefault("kw_only", True)
        return super().__new__(cls, name, bases, namespace, **options)


class Wire(msgspec.Struct, metaclass=FrozenMeta, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all structs that cross process boundaries."""


Name = Annotated[str, msgspec.Meta(pattern=names.NAME_PATTERN)]
"""A name or an id that becomes part of a subject, a header, a key or a folder."""

PoolName = Annotated[str, msgspec.Meta(pattern=names.POOL_PATTERN)]

Digest = Annotated[str, msgspec.Meta(pattern=names.DIGEST_PATTERN)]

Moment = Annotated[datetime, msgspec.Meta(tz=True)]
"""A time with an offset; RFC 3339 §4.4 explains why others are refused."""
