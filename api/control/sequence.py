"""Whether an update was made from what it changes.

Whoever read an object in some version has seen its present specification if that was made before. What is noted in the
object besides (an update's progress, a node's state) makes a version of its own, and makes nobody's knowledge stale: in
Swarm, a script that updates a service again while its update goes on, or labels a node that has just joined, is turned
away now and then.

Pure: objects and numbers in, nothing or an error out.
"""

from essaim.cluster.errors import OutOfSequence
from essaim.cluster.node import Node
from essaim.cluster.service import Service


def check_sequence(value: Service | Node, version: int) -> None:
    """Raises OutOfSequence."""
    oldest = value.spec_after.index + 1 if value.spec_after else value.version.index
    if not oldest <= version <= value.version.index:
        raise OutOfSequence
