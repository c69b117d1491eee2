"""Placement constraints: `node.labels.zone==a`, `node.role!=manager` and the like, as swarmkit has them.

- Which attribute is meant is said in any case (`Node.Role`, `NODE.LABELS.zone`); a label's own key in exactly its case.
- Values are compared without regard to case (Go's EqualFold: one sign to one sign, so that "ss" is not "ß").
- `node.ip` takes an address or a subnet, compared with the address at which the node is reached. One that is neither
  holds nowhere, negated or not.
- An attribute that a node lacks is empty.

Pure: strings and nodes in, verdicts out.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_network

from essaim.cluster.errors import InvalidArgument
from essaim.cluster.node import Node

_FORM = re.compile(r"\s*([A-Za-z_][\w.\-/]*?)\s*(==|!=)\s*(.*?)\s*", re.ASCII)
_PLAIN = {"node.id", "node.hostname", "node.role", "node.ip", "node.platform.os", "node.platform.arch"}
ENGINE_LABELS = "engine.labels."
_MAPS = ("node.labels.", ENGINE_LABELS)

MAPPED_BITS = 96
_LENGTH = re.compile(r"[0-9]{1,3}")

_OWN_CASE = "\u0130\u0131"
"""The Turkish i with a dot as a capital, and without one: no fold but that of Turkish joins them with another."""

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i386": "386", "i686": "386"}
"""Names of one architecture: what uname says, and what images say."""


@dataclass(frozen=True, slots=True)
class Constraint:
    """`text` is what the user wrote."""

    key: str
    equal: bool
    value: str
    text: str

    def holds(self, node: Node) -> bool:
        return _matches(node, self.key, self.value) is self.equal


def parse(text: str) -> Constraint:
    """Raises InvalidArgument in words fit for the user."""
    found = _FORM.fullmatch(text)
    if not found or not found[3]:
        raise InvalidArgument(f"invalid constraint {text!r}: write it as node.labels.KEY==VALUE, or with !=")
    key = found[1]
    lowered = key.lower()
    if lowered in _PLAIN:
        key = lowered
    elif lowered.startswith(_MAPS) and lowered not in _MAPS:
        prefix = next(prefix for prefix in _MAPS if lowered.startswith(prefix))
        key = prefix + key[len(prefix) :]
    else:
        known = ", ".join([*sorted(_PLAIN), *(f"{m}KEY" for m in _MAPS)])
        raise InvalidArgument(f"invalid constraint {text!r}: unknown attribute {key!r}; known are {known}")
    if key == "node.ip" and subnet(found[3]) is None:
        raise InvalidArgument(f"invalid constraint {text!r}: write an address (10.0.0.5) or a subnet (10.0.0.0/24)")
    return Constraint(key, found[2] == "==", found[3], text)


@lru_cache(maxsize=4096)
def _parsed(texts: tuple[str, ...]) -> tuple[Constraint, ...] | None:
    try:
        return tuple(parse(text) for text in texts)
    except InvalidArgument:
        return None


def parsed(texts: list[str]) -> tuple[Constraint, ...] | None:
    """None when one of them cannot be read: no node satisfies such a list."""
    return _parsed(tuple(texts))


def satisfies(node: Node, texts: list[str]) -> bool:
    constraints = parsed(texts)
    return constraints is not None and all(constraint.holds(node) for constraint in constraints)


def lookup(node: Node, descriptor: str) -> str:
    """The value of `node.labels.KEY` or `engine.labels.KEY` (empty when the node has none), as preferences name it."""
    prefix, key = _split(descriptor)
    if prefix == ENGINE_LABELS:
        labels = node.description.engine.labels if node.description and node.description.engine else None
    else:
        labels = node.spec.labels
    return (labels or {}).get(key, "")


@lru_cache(maxsize=4096)
def _split(descriptor: str) -> tuple[str, str]:
    """Which labels, and the key there; empty for what names none."""
    prefix = next((prefix for prefix in _MAPS if descriptor[: len(prefix)].lower() == prefix), "")
    return prefix, descriptor[len(prefix) :] if prefix else ""


def _matches(node: Node, key: str, value: str) -> bool:
    if ".labels." in key:
        return folded(lookup(node, key)) == folded(value)
    if key == "node.ip":
        return _address_matches(node.status.addr or "", value)
    if key == "node.platform.arch":
        return same_architecture(_plain(node, key), value)
    return folded(_plain(node, key)) == folded(value)


@lru_cache(maxsize=4096)
def folded(text: str) -> str:
    """Equal for texts that differ only in case, each sign by itself: those of one simple fold have one form."""
    return "".join(_fold_of(sign) for sign in text)


def _fold_of(sign: str) -> str:
    if sign in _OWN_CASE:
        return sign
    upper = sign.upper()
    lower = (upper if len(upper) == 1 else sign).lower()
    return lower if len(lower) == 1 else sign


def same_architecture(one: str, other: str) -> bool:
    one, other = folded(one), folded(other)
    return ARCHITECTURES.get(one, one) == ARCHITECTURES.get(other, other)


def _plain(node: Node, key: str) -> str:
    if key == "node.id":
        return node.id
    if key == "node.hostname":
        return node.hostname
    if key == "node.role":
        return node.spec.role
    platform = node.description.platform if node.description else None
    if platform is None:
        return ""
    return (platform.os if key == "node.platform.os" else platform.architecture) or ""


def _address_matches(address: str, value: str) -> bool:
    own, network = subnet(address), subnet(value)
    return own is not None and network is not None and own.version == network.version and own.network_address in network


@lru_cache(maxsize=4096)
def subnet(text: str) -> IPv4Network | IPv6Network | None:
    """A subnet, or the one address as the smallest; an IPv4 address in IPv6's form is the IPv4 address, as in Go."""
    address, slash, length = text.partition("/")
    if "%" in address or (slash and not _LENGTH.fullmatch(length)):
        return None
    try:
        found = ip_network(text, strict=False)
    except ValueError:
        return None
    mapped = found.network_address.ipv4_mapped if isinstance(found, IPv6Network) else None
    if mapped is None or found.prefixlen < MAPPED_BITS:
        return found
    return IPv4Network((mapped, found.prefixlen - MAPPED_BITS), strict=False)
