"""`essaimd --join`: a host that joins its cluster when it is started for the first time.

- A node that has an identity is what that says: the flags have no effect on a restart.
- Managers that cannot be reached yet are waited for, since hosts boot in any order. What a manager refuses (a wrong
  token) is final, and is raised.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from essaim.api.node import JoinRequest
from essaim.cluster.errors import InvalidArgument, Unavailable
from essaim.daemon.settings import Settings

PAUSE = 2.0
"""Seconds between attempts."""


class Joining(Protocol):
    @property
    def node_id(self) -> str:
        """Empty outside any swarm."""

    async def join(self, request: JoinRequest) -> None:
        """Raises ClusterError; Unavailable when no manager can be reached."""


def request_of(settings: Settings) -> JoinRequest | None:
    """What the flags ask for. Raises InvalidArgument when only half of it is given."""
    if not settings.join and not settings.token:
        return None
    if not settings.join:
        raise InvalidArgument("--token goes with --join: name a manager to join (--join HOST:2377)")
    if not settings.token:
        raise InvalidArgument(
            "--join needs a token: --token, or ESSAIM_JOIN_TOKEN in the environment "
            "(see `essaim swarm join-token worker` on a manager)"
        )
    return JoinRequest(list(settings.join), settings.token)


async def join_first(node: Joining, request: JoinRequest, sleep: Callable[[float], Awaitable[None]], log: Any) -> None:
    """Join unless this node is in a swarm already. Raises ClusterError for what waiting does not mend."""
    while not node.node_id:
        try:
            await node.join(request)
        except Unavailable as error:
            log.warning("the cluster cannot be joined yet; trying again", reason=str(error), seconds=PAUSE)
            await sleep(PAUSE)
