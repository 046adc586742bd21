"""How long an expression may take at most, for the values that it is given: worked out before it runs.

The CEL library cannot be interrupted, and counts nothing but rounds of macros (10,000 in all).  So each operator and
function of the text is charged with what it can cost on the largest text and list among the values, in nanoseconds that
were measured, times the rounds of the macro around it.  What could block everything else is not started.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from muster.blueprints.references import Token, tokens_of

MAX_COST: Final = 60_000_000
"""Nanoseconds of one evaluation, as an upper bound; nearly all take a thousandth of it."""

MAX_ROUNDS: Final = 10_000
"""Rounds of all macros together: the library ends what takes more."""

_OPERATION: Final = 200
_CONVERTED: Final = 2_000
"""An item or field that the library is given."""
_COMPARED: Final = 120
"""One item of a list or map that is compared or searched."""
_CHARACTER: Final = 5
"""One byte that a function goes through."""
_SEARCHED: Final = 0.03
"""One byte of a text for each byte of another one, where neither is in the expression."""
_MATCHED: Final = 0.1
"""The same for a pattern; a repetition in braces counts for its thousand copies."""
_COPIED: Final = 100
"""What `filter` copies: each item that it has, for each that it takes."""

MACROS: Final = frozenset({"all", "exists", "exists_one", "existsOne", "filter", "map"})
_SEARCHES: Final = frozenset({"contains", "indexOf", "lastIndexOf", "matches", "split"})
_CONSTANTS: Final = frozenset({"true", "false", "null"})


class Size(NamedTuple):
    """What values consist of."""

    items: int
    """Items and fields, all of them."""
    longest: int
    """Items of the longest list or map."""
    text: int
    """Bytes of all texts."""
    largest: int
    """Bytes of the largest text."""


class _Charge(NamedTuple):
    """What one operation costs at most: a sum of these, times what they count."""

    constant: float = _OPERATION
    items: float = 0
    text: float = 0
    largest: float = 0
    square: float = 0
    """Of the largest text's bytes."""
    copies: float = 0
    """Of the square of the rounds."""
    rounds: bool = False
    """Whether it is inside a macro."""


class Cost:
    """The charges of one expression."""

    def __init__(self, text: str) -> None:
        parts = _Parts(text)
        self._length, self._tokens = len(text.encode(errors="replace")), len(parts.tokens)
        self._charges = tuple(parts.charges())
        self._macros = len(parts.spans)
        self._depth, self._is_chained = parts.loops()
        self._growing = parts.growing()
        self._stretching = parts.stretching()
        called = {token.text for token in parts.tokens}
        self._made = 1.0 if "split" in called else 0.5 if "from_json" in called else 0.0
        """Items that a byte of text may become."""

    def of(self, size: Size) -> float:
        """Nanoseconds at most, for values of a size."""
        growth = (2 ** min(self._growing, 64) if self._macros else self._growing + 1) * self._stretching
        largest, text = (size.largest + self._length) * growth, (size.text + self._length) * growth
        made = int(largest * self._made)
        items, longest = (size.items + self._tokens) * growth + made, (size.longest + self._tokens) * growth + made
        first = items if self._is_chained else longest
        rounds = min(MAX_ROUNDS, first * longest ** max(0, self._depth - 1)) if self._macros else 1
        cost: float = _CONVERTED * size.items + _CHARACTER * size.text + _OPERATION * made
        for charge in self._charges:
            once = charge.constant + charge.items * items + charge.text * text + charge.largest * largest
            once += charge.square * largest * largest
            cost += once * (rounds if charge.rounds else 1) + charge.copies * rounds * rounds
        return cost


def size_of(value: Any) -> Size:
    """What a value consists of; counting ends where it is too much in any case."""
    items = longest = text = largest = 0
    todo = [value]
    while todo and items * _CONVERTED <= MAX_COST:
        one = todo.pop()
        items += 1
        if isinstance(one, str | bytes):
            length = len(one) if isinstance(one, bytes) or one.isascii() else 4 * len(one)
            text, largest = text + length, max(largest, length)
        elif isinstance(one, Mapping):
            longest = max(longest, len(one))
            if 2 * len(one) * _CONVERTED > MAX_COST:
                return Size(2 * len(one), longest, text, largest)
            todo += one.keys()
            todo += one.values()
        elif isinstance(one, list | tuple):
            longest = max(longest, len(one))
            if len(one) * _CONVERTED > MAX_COST:
                return Size(len(one), longest, text, largest)
            todo += one
    return Size(items, longest, text, largest)


class _Parts:
    """The parts of an expression, as far as they can be distinguished without the library's own parser."""

    def __init__(self, text: str) -> None:
        self.tokens = tokens_of(text)
        self._closing = _brackets(self.tokens)
        self.spans = [(at + 1, self._closing.get(at + 1, len(self.tokens))) for at in self._macros()]
        """Returns the places of the arguments of macros."""

    def _macros(self) -> Iterator[int]:
        for at in range(1, len(self.tokens) - 1):
            before, token, after = self.tokens[at - 1 : at + 2]
            if token.text in MACROS and before.text == "." and after.text == "(":
                yield at

    def charges(self) -> Iterator[_Charge]:
        """What each token costs."""
        ends = 0  # where the macros end in which we are: rounds are not counted for each
        starts = dict(self.spans)
        for at in range(len(self.tokens)):
            ends = max(ends, starts.get(at, 0))
            yield self._charge(at)._replace(rounds=at < ends or self.tokens[at].text == "map")

    def _charge(self, at: int) -> _Charge:
        token, following = self.tokens[at], self._text(at + 1)
        if token.kind == "name":
            if token.text == "in":
                return self._searched(at)
            return self._called(at) if following == "(" else _Charge()
        if token.kind != "other":
            return _Charge()
        if token.text in "<>" or (token.text in "=!" and following == "="):
            return _Charge(largest=0.3) if self._is_plain(at) else _Charge(items=_COMPARED, text=0.3)
        return _Charge(items=_COMPARED, largest=1) if token.text == "+" else _Charge()

    def _called(self, at: int) -> _Charge:
        name = self.tokens[at].text
        if name in {"filter", "map"}:
            return _Charge(copies=_COPIED, largest=1 if name == "map" else 0)
        if name in MACROS or name in {"has", "startsWith", "endsWith"}:
            return _Charge(largest=0.3)
        if name not in _SEARCHES:
            return _Charge(largest=_CHARACTER)
        is_written = self._kind(at + 2) == "string" and self._text(at + 3) in {")", ","}
        if name != "matches":
            return _Charge(largest=_CHARACTER, square=0 if is_written else _SEARCHED)
        if not is_written:
            return _Charge(square=1000 * _MATCHED)
        pattern = self._text(at + 2)
        return _Charge(largest=_CHARACTER + _MATCHED * (1000 if "{" in pattern else 1) * len(pattern))

    def _searched(self, at: int) -> _Charge:
        """`x in y`: through all of y, unless it is written out."""
        if self._text(at + 1) == "[":
            inside = self.tokens[at + 2 : self._closing.get(at + 1, len(self.tokens))]
            if not any(map(_is_read, inside)):
                return _Charge(constant=_OPERATION + _COMPARED * len(inside), largest=0.3)
        return _Charge(items=_COMPARED, text=0.3)

    def _is_plain(self, at: int) -> bool:
        """Whether one side of a comparison is a text, a number, true, false or null."""
        behind = at + (2 if self._text(at + 1) == "=" else 1)
        behind += self._text(behind) == "-"
        return _is_constant(self.tokens[at - 1 : at]) or (
            _is_constant(self.tokens[behind : behind + 1]) and self._text(behind + 1) not in {"[", "("}
        )

    def loops(self) -> tuple[int, bool]:
        """How many macros are inside each other at most, and whether one goes through what another's variable has.

        Such a one takes no more rounds than there are items, so it is not counted for itself.
        """
        free, is_chained = [], False
        for start, end in self.spans:
            around = {self._text(one + 1) for one, other in self.spans if one < start and end < other}
            if self._root(start - 3) in around:
                is_chained = True
            else:
                free.append((start, end))
        depth = max((sum(one <= start and end <= other for one, other in free) for start, end in free), default=0)
        return depth, is_chained

    def _root(self, at: int) -> str:
        """The name that `a.b.c` starts with; empty if it is something else that ends there."""
        while self._kind(at) == "name" and self._text(at - 1) == ".":
            at -= 2
        return self._text(at) if self._kind(at) == "name" else ""

    def growing(self) -> int:
        """How often a value is put together from others: by `+`, or by a list or map that is written out."""
        count = 0
        for at, token in enumerate(self.tokens):
            if token.kind == "other" and token.text == "+":
                count += 1
            elif token.kind == "other" and (token.text == "{" or (token.text == "[" and not self._is_index(at))):
                inside = self.tokens[at + 1 : self._closing.get(at, len(self.tokens))]
                if any(map(_is_read, inside)):
                    count += 1 + sum(one.text == "," for one in inside)
        return count

    def stretching(self) -> int:
        """How many times as long `replace` can make a text."""
        times = 1
        for at, token in enumerate(self.tokens):
            if token.text == "replace" and self._text(at + 1) == "(":
                times *= len(self._text(at + 4).encode(errors="replace")) if self.is_written(at) else MAX_COST
        return min(times, MAX_COST)

    def is_written(self, at: int) -> bool:
        """Whether both texts of a `replace` are in the expression."""
        return [self._kind(at + 2), self._text(at + 3), self._kind(at + 4)] == ["string", ",", "string"]

    def _is_index(self, at: int) -> bool:
        return self._text(at - 1) in {")", "]", "}"} or (self._kind(at - 1) == "name" and self._text(at - 1) != "in")

    def _text(self, at: int) -> str:
        return self.tokens[at].text if 0 <= at < len(self.tokens) else ""

    def _kind(self, at: int) -> str:
        return self.tokens[at].kind if 0 <= at < len(self.tokens) else ""


def _brackets(tokens: list[Token]) -> dict[int, int]:
    """Where each bracket is closed."""
    opened: list[int] = []
    closing: dict[int, int] = {}
    for at, token in enumerate(tokens):
        if token.kind == "other" and token.text in "([{":
            opened.append(at)
        elif token.kind == "other" and token.text in ")]}" and opened:
            closing[opened.pop()] = at
    return closing


def _is_read(token: Token) -> bool:
    return token.kind == "name" and token.text not in _CONSTANTS


def _is_constant(tokens: list[Token]) -> bool:
    return any(token.kind == "string" or token.text in _CONSTANTS or token.text.isdigit() for token in tokens)
