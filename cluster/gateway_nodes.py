"""Which nodes' gateways serve: all, unless their label `essaim.gateway` says otherwise.

- `false`, `no`, `off` or `0`: this one serves nothing.
- `only`: while there is a node with it, those with it serve, and no others: also none that joins later.

Whoever serves is told the keys that TLS is ended with, so the second is what to use where a join token may be in more
hands than the keys should be.

Pure: nodes in, ids out.
"""

from collections.abc import Iterable

from .node import Node

LABEL = "essaim.gateway"
NO = frozenset({"false", "no", "off", "0"})
ONLY = "only"


def said_of(node: Node) -> str:
    """The label's value, as it is compared."""
    return (node.spec.labels or {}).get(LABEL, "").strip().lower()


def idle_nodes(nodes: Iterable[Node]) -> frozenset[str]:
    """Ids of the nodes whose gateways listen nowhere, are told no keys, and do not count among the gateways."""
    said = {node.id: said_of(node) for node in nodes}
    if ONLY in said.values():
        return frozenset(node_id for node_id, value in said.items() if value != ONLY)
    return frozenset(node_id for node_id, value in said.items() if value in NO)
