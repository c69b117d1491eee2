"""How a host without any certificate asks to join: first it makes sure whom it asks.

The token names the cluster's root certificate by its digest. Whoever answers is asked for the root, and only then,
over a new connection that this root vouches for, shown the token.
"""

import asyncio
from typing import Any

from essaim.cluster.errors import ClusterError, InvalidArgument, Unavailable
from essaim.daemon.addresses import join_host_port, split_host_port
from essaim.daemon.keys.tls import joining_context
from essaim.daemon.peers.callback import answering
from essaim.daemon.peers.client import PeerClient
from essaim.daemon.settings import DEFAULT_CLUSTER_PORT
from essaim.secrets.tokens import JoinToken

from .joins import JoinAnswer, JoinMessage, WithdrawMessage


async def knock(
    peers: PeerClient, remotes: list[str], token: JoinToken, message: JoinMessage, listen: str, key: bytes
) -> JoinAnswer:
    """Ask each manager in turn: what one of them refuses is final. Raises Unavailable when none can be reached.

    `listen` (host:port) is where a manager will want to call this host back, who shows it `key` (PEM).
    """
    failure: ClusterError = InvalidArgument("the address of a manager to join is needed (HOST:PORT)")
    for remote in remotes:
        address = join_host_port(*split_host_port(remote, DEFAULT_CLUSTER_PORT))
        try:
            return await _ask(peers, address, token, message, listen, key)
        except Unavailable as error:
            failure = error
    raise failure


async def _ask(
    peers: PeerClient, address: str, token: JoinToken, message: JoinMessage, listen: str, key: bytes
) -> JoinAnswer:
    root = await peers.root(address)
    if not token.trusts(root):
        raise ClusterError(f"remote CA does not match fingerprint. Expected: {token.digest.hex()}")
    context = await asyncio.to_thread(joining_context, root)
    async with answering(listen, key, root) as door:
        try:
            answer: JoinAnswer = await peers.call(address, "/cluster/join", message, kind=JoinAnswer, context=context)
        except Unavailable as error:
            raise Unavailable(f"{error} ({door.failure})") if door.failure else error from None
    return answer


async def withdraw(peers: PeerClient, managers: list[str], timeout: float, log: Any) -> None:
    """Leave nothing of a join that failed in the cluster; a leader that is not told forgets it later."""
    for address in managers:
        try:
            await peers.call(address, "/cluster/withdraw", WithdrawMessage(), timeout=timeout)
            return
        except ClusterError as error:
            log.warning("a manager was not told that the join failed", manager=address, reason=str(error))
