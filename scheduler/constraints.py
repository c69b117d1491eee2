"""Placement constraints: `node.labels.zone==a`, `node.role!=manager` and the like.

Pure: strings and nodes in, verdicts out.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address, ip_network

from essaim.cluster.errors import InvalidArgument
from essaim.cluster.node import Node

_FORM = re.compile(r"\s*([A-Za-z_][\w.\-/]*?)\s*(==|!=)\s*(.*?)\s*", re.ASCII)
_PLAIN = {"node.id", "node.hostname", "node.role", "node.ip", "node.platform.os", "node.platform.arch"}
_MAPS = ("node.labels.", "engine.labels.")

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
    elif not lowered.startswith(_MAPS) or lowered in _MAPS:
        known = ", ".join([*sorted(_PLAIN), *(f"{m}KEY" for m in _MAPS)])
        raise InvalidArgument(f"invalid constraint {text!r}: unknown attribute {key!r}; known are {known}")
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
    kind, _, key = descriptor.partition(".labels.")
    if kind == "engine":
        labels = node.description.engine.labels if node.description and node.description.engine else None
    else:
        labels = node.spec.labels
    return (labels or {}).get(key, "")


def _matches(node: Node, key: str, value: str) -> bool:
    if ".labels." in key:
        return lookup(node, key) == value
    if key == "node.ip":
        return _address_matches(node.status.addr or "", value)
    if key == "node.platform.arch":
        return same_architecture(_plain(node, key), value)
    return _plain(node, key).lower() == value.lower()


def same_architecture(one: str, other: str) -> bool:
    one, other = one.lower(), other.lower()
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
    try:
        return ip_address(address) in ip_network(value, strict=False)
    except ValueError:
        return False
