"""Where HTTP tasks of an agent may connect to: the rules of `--http-allow` and `--http-deny`.

The most specific rule decides: a host name, then `*.SUFFIX`, then the smallest network, then `*`; of two alike the
denial.  Whoever owns a name chooses what it resolves to.  Therefore a rule for a name, or `*`, never opens what is
denied by default: only a rule for these very addresses does.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_LABEL: Final = r"(?!-)[a-z0-9_-]{1,63}(?<!-)"
_NAME: Final = re.compile(rf"(\*\.)?(?:{_LABEL}\.)*(?![0-9]+$){_LABEL}")
"""A host name or a suffix; the last label is not a number, which would be an address in another notation."""


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One rule: it has a network, or is about names."""

    text: str
    """As it is shown: `10.0.0.0/8`, `example.com`, `*.example.com`, `*`."""
    allows: bool = False
    network: Network | None = None
    default: str = ""
    """What is there, for a rule that is in force unless another one overrides it."""

    @property
    def rank(self) -> tuple[int, bool, bool]:
        """Which of the matching rules decides: the one with the highest."""
        if self.network is not None:
            size = self.network.prefixlen
        else:
            size = len(self.text) + 1000 * (not self.text.startswith("*"))
        return size, not self.default, not self.allows

    @property
    def is_single(self) -> bool:
        """Whether no other rule is more specific."""
        if self.network is not None:
            return self.network.prefixlen == self.network.max_prefixlen
        return not self.text.startswith("*")

    def names(self, host: str) -> bool:
        """Whether it is about this host name."""
        if self.network is not None or self.text == "*":
            return False
        return host.endswith(self.text[1:]) if self.text.startswith("*") else host == self.text

    def has(self, address: Address) -> bool:
        """Whether the address is in its network."""
        return self.network is not None and address in self.network


DEFAULTS: Final = tuple(
    Rule(text=text, network=ipaddress.ip_network(text), default=what)
    for text, what in (
        ("169.254.0.0/16", "link-local addresses and cloud metadata"),
        ("fe80::/10", "link-local addresses"),
        ("fd00:ec2::/32", "metadata of AWS"),
        ("fd20:ce::254/128", "metadata of Google Cloud"),
        ("100.100.100.200/32", "metadata of Alibaba Cloud"),
        ("168.63.129.16/32", "metadata of Azure"),
        ("192.0.0.192/32", "metadata of Oracle Cloud"),
    )
)
"""What gives credentials of the host to whoever asks, and what no name in a URL is for."""

_ANY: Final = {
    ipaddress.ip_address("0.0.0.0"): ipaddress.ip_address("127.0.0.1"),  # noqa: S104 - it is compared, not bound
    ipaddress.ip_address("::"): ipaddress.ip_address("::1"),
}
"""Addresses that lead to this host."""

_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_COMPATIBLE: Final = ipaddress.IPv6Network("::/96")


class Denial(msgspec.Struct, frozen=True, kw_only=True):
    """Why there is no connection."""

    host: str
    """As the URL has it."""
    address: Address | None = None
    """What it resolved to; None: it does not resolve here."""
    rule: Rule

    @property
    def message(self) -> str:
        """What is denied, by which rule, and how to allow it."""
        is_named = self.address is not None and self.host != str(self.address)
        place = f"{self.host} ({self.address})" if is_named else self.host
        if self.rule.default:
            why = f"{self.rule.text} ({self.rule.default}) is denied by default"
        else:
            why = f"the agent has --http-deny {self.rule.text}"
        if self.address is None and self.rule.network is not None:
            why += ", and the name does not resolve here, so that it cannot be checked before the proxy resolves it"
        return f"must not connect to {place}: {why}; {self._fix()}"

    def _fix(self) -> str:
        if self.rule.is_single and not self.rule.default:
            return "to allow it, start the agent without that rule"
        by_name = self.address is None or self.rule.names(self.host)
        return f"to allow it, start the agent with --http-allow {self.host if by_name else self.address}"


class Reach(msgspec.Struct, frozen=True):
    """All rules of an agent.  What none of them is about is allowed."""

    rules: tuple[Rule, ...] = ()

    @classmethod
    def of(cls, allow: Iterable[str] = (), deny: Iterable[str] = ()) -> Reach:
        """The rules that somebody typed.

        Raises:
            ValueError: one of them is not a network, an address, a host name, `*.SUFFIX` or `*`.
        """
        allowed = (rule(text, allows=True) for text in allow)
        return cls((*allowed, *(rule(text, allows=False) for text in deny)))

    def denial(self, host: str, address: Address | None) -> Denial | None:
        """Why this host, which resolved to this address, must not be connected to; None: it may be.

        Without an address, for a proxy that alone can resolve the name, a name that no rule is about is denied
        where any network is denied by the operator: what cannot be checked does not pass.
        """
        host = plain_name(host)
        named = [rule for rule in self.rules if rule.names(host)]
        anything = [rule for rule in self.rules if rule.text == "*"]
        if address is None:
            networks = [rule for rule in self.rules if rule.network is not None and not rule.allows]
            found = _first_of(named, anything, networks)
            return Denial(host=host, rule=found) if found is not None and not found.allows else None
        for form in _forms(address):
            within = [rule for rule in (*self.rules, *DEFAULTS) if rule.has(form)]
            network = max(within, key=_rank, default=None)
            found = network if network is not None and network.default else _first_of(named, within, anything)
            if found is not None and not found.allows:
                return Denial(host=host, address=form, rule=found)
        return None


def rule(text: str, *, allows: bool) -> Rule:
    """One rule that somebody typed.

    Raises:
        ValueError: it is none.
    """
    given = plain_name(text.strip().removeprefix("[").removesuffix("]"))
    try:
        network = ipaddress.ip_network(given, strict=False)
    except ValueError:
        if given == "*" or _NAME.fullmatch(given):
            return Rule(text=given, allows=allows)
        raise ValueError(
            f"{text!r} is not a network (10.0.0.0/8), an address, a host name, *.SUFFIX or * (without scheme and port)"
        ) from None
    if "/" in given and ipaddress.ip_interface(given).ip != network.network_address:
        raise ValueError(f"{text!r} is an address inside a network: write {network} for all of the network")
    mapped = network.network_address.ipv4_mapped if isinstance(network, ipaddress.IPv6Network) else None
    if mapped is not None and network.prefixlen >= 96:  # noqa: PLR2004 - ::ffff:0:0/96, RFC 4291 §2.5.5.2
        network = ipaddress.IPv4Network((mapped, network.prefixlen - 96))
    is_address = network.prefixlen == network.max_prefixlen and "/" not in given
    return Rule(text=str(network.network_address) if is_address else str(network), allows=allows, network=network)


def plain_name(host: str) -> str:
    """A host name as it is compared: lower case, without the root's dot, in ASCII (RFC 5890)."""
    name = host.lower().removesuffix(".")
    if name.isascii():
        return name
    try:
        return name.encode("idna").decode()
    except UnicodeError:
        return name


def _rank(one: Rule) -> tuple[int, bool, bool]:
    return one.rank


def _first_of(*groups: list[Rule]) -> Rule | None:
    """The most specific rule of the first group that has one."""
    return next((max(group, key=_rank) for group in groups if group), None)


def _forms(address: Address) -> Iterator[Address]:
    """An address as it is connected to, and those that a network may turn it into."""
    address = ipaddress.ip_address(str(address).partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        yield address  # a rule about all of IPv6 holds for it too
        address = address.ipv4_mapped
    yield address
    if address in _ANY:
        yield _ANY[address]
    elif isinstance(address, ipaddress.IPv6Address):
        if address.sixtofour is not None:
            yield address.sixtofour
        elif address in _NAT64 or (address in _COMPATIBLE and int(address) > 1):
            yield ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
