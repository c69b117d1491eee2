"""Which nodes' gateways serve: all, but for those whose label `essaim.gateway` says that they do not.

Pure: nodes in, answers out.
"""

from .node import Node

LABEL = "essaim.gateway"
NO = frozenset({"false", "no", "off", "0"})


def serves_traffic(node: Node) -> bool:
    """Whether the node's gateway listens, is told keys, and counts among the gateways."""
    return (node.spec.labels or {}).get(LABEL, "").strip().lower() not in NO
