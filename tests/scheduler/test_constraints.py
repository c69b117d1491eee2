"""Constraints as swarmkit reads them, against a second version that is written as its rules are told."""

import ipaddress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from essaim.cluster.node import EngineDescription, Node, NodeDescription, NodeSpec, NodeStatus
from essaim.cluster.service import Platform
from essaim.scheduler.constraints import lookup, satisfies

LETTERS = "aAbBkKsSſK1-"
"""With those signs beyond ASCII that fold to a letter of it: the long s and the Kelvin sign."""
words = st.text(LETTERS, max_size=3)
addresses = st.sampled_from(["", "10.0.0.5", "10.0.1.5", "::1", "fd00::5", "::ffff:10.0.0.5", "nonsense"])
values = st.text("aAbBkKsS1-", min_size=1, max_size=3) | st.sampled_from(
    ["10.0.0.5", "10.0.0.0/24", "10.0.0.5/8", "::1", "fd00::/8", "::ffff:10.0.0.5", "10.0.0.0/99", "10.0.0.256"]
)
ATTRIBUTES = ["node.id", "node.hostname", "node.role", "node.ip", "node.platform.os"]
keys = st.sampled_from([*ATTRIBUTES, "node.labels.a", "node.labels.A", "engine.labels.a", "engine.labels.B"])


def cased(key: str, mask: int) -> str:
    """The attribute's name with some letters as capitals; what follows `labels.` stays."""
    head, middle, tail = key.partition("labels.")
    shown = "".join(c.upper() if mask >> (i % 16) & 1 else c for i, c in enumerate(head + middle))
    return shown + tail


nodes = st.builds(
    lambda node_id, hostname, role, addr, os, labels, engine: Node(
        id=node_id,
        spec=NodeSpec(role=role, labels=labels),
        status=NodeStatus(state="ready", addr=addr),
        description=NodeDescription(
            hostname=hostname, platform=Platform(os=os, architecture="x86_64"), engine=EngineDescription(labels=engine)
        ),
    ),
    node_id=words,
    hostname=words,
    role=st.sampled_from(["worker", "manager"]),
    addr=addresses,
    os=words,
    labels=st.none() | st.dictionaries(st.sampled_from("aAbB"), words, max_size=3),
    engine=st.none() | st.dictionaries(st.sampled_from("aAbB"), words, max_size=3),
)


def naive_equal(one: str, other: str) -> bool:
    """Sign by sign, every sign that is another one's capital or small form being the same."""

    def forms(sign: str) -> set[str]:
        return {sign, sign.lower(), sign.upper(), sign.upper().lower()}

    return len(one) == len(other) and all(forms(a) & forms(b) for a, b in zip(one, other, strict=True))


def naive_address(text: str) -> Any:
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def naive_holds(node: Node, key: str, equal: bool, value: str) -> bool:
    assert node.description is not None
    assert node.description.platform is not None
    assert node.description.engine is not None
    if key == "node.ip":
        own, wanted = naive_address(node.status.addr or ""), naive_address(value)
        if wanted is not None:
            return (own == wanted) is equal
        try:
            subnet = ipaddress.ip_network(value, strict=False)
        except ValueError:
            return False
        return (own is not None and own in subnet) is equal
    plain = {
        "node.id": node.id,
        "node.hostname": node.description.hostname or "",
        "node.role": node.spec.role,
        "node.platform.os": node.description.platform.os or "",
    }
    kind, _, label = key.partition(".labels.")
    labels = (node.spec.labels if kind == "node" else node.description.engine.labels) or {}
    return naive_equal(plain[key] if key in plain else labels.get(label, ""), value) is equal


@settings(max_examples=600)
@given(node=nodes, key=keys, mask=st.integers(0, (1 << 16) - 1), equal=st.booleans(), value=values)
def test_constraint_agrees_with_a_naive_reading(node: Node, key: str, mask: int, equal: bool, value: str) -> None:
    text = f"{cased(key, mask)} {'==' if equal else '!='} {value}"
    assert satisfies(node, [text]) is naive_holds(node, key, equal, value)


def node(**labels: str) -> Node:
    return Node(id="n", spec=NodeSpec(role="worker", labels=labels), status=NodeStatus(state="ready", addr="10.0.0.5"))


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("node.labels.zone==EU-West", True),
        ("node.labels.zone!=EU-WEST", False),
        ("NODE.LABELS.zone==eu-west", True),
        ("node.labels.ZONE==eu-west", False),
        ("Node.Role==WORKER", True),
        ("node.ip!=not-an-address", False),
        ("node.ip==10.0.0.0/255.0.0.0", False),
        ("node.ip==10.0.0.9/24", True),
        ("node.labels.absent!=x", True),
    ],
)
def test_constraint_folds_case_where_swarm_does(text: str, holds: bool) -> None:
    assert satisfies(node(zone="eu-west"), [text]) is holds


def test_constraint_does_not_join_the_turkish_letters_with_ours() -> None:
    assert not satisfies(node(zone="ı"), ["node.labels.zone==i"])
    assert not satisfies(node(zone="ß"), ["node.labels.zone==ss"])


def test_lookup_of_a_preference_reads_the_prefix_in_any_case() -> None:
    assert lookup(node(Zone="a"), "Node.Labels.Zone") == "a"
    assert lookup(node(Zone="a"), "node.labels.zone") == ""
    assert lookup(node(Zone="a"), "nonsense") == ""
