"""What the node says of itself to the cluster, and why no task can start on it while its runtime does not answer."""

import asyncio
import socket
from collections.abc import Awaitable, Callable

from msgspec.structs import replace

from essaim.agent.runtime.host import host_description
from essaim.agent.runtime.interface import Runtime, RuntimeUnavailable
from essaim.cluster import wire
from essaim.cluster.node import NodeDescription, TLSInfo
from essaim.cluster.wire import FromAgent

from .session import SessionEnded

DESCRIBE_EVERY = 30.0
"""Seconds between looks whether the node's description has changed."""
DESCRIBE_AGAIN = 1.0
"""The same while the runtime does not answer."""
DESCRIBE_WITHIN = 5.0
RECOVER_PATIENCE = 60.0
"""Seconds after its start for which an agent keeps its place in the cluster though it cannot tell what runs here."""

Send = Callable[[FromAgent], Awaitable[None]]


class Describing:
    """`recovered` is set once the agent knows what runs here; `monotonic` gives seconds."""

    def __init__(
        self,
        node_id: str,
        runtime: Runtime,
        recovered: asyncio.Event,
        *,
        tls_info: Callable[[], TLSInfo | None],
        monotonic: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._node_id = node_id
        self._runtime = runtime
        self._recovered = recovered
        self._tls_info = tls_info
        self._monotonic = monotonic
        self._sleep = sleep
        self._description: NodeDescription | None = None
        self._problem = ""
        self._stale = asyncio.Event()
        self._started = monotonic()

    def begin(self) -> None:
        """The agent starts: its patience counts from here."""
        self._started = self._monotonic()

    def cannot_recover(self, problem: str) -> None:
        if not self._problem:
            self._problem = problem
            self._stale.set()

    def trust_changed(self) -> None:
        """What the node trusts is no more what its description says."""
        self._stale.set()

    async def hello(self) -> wire.Hello:
        """Raises SessionEnded when the node has nothing to say to the cluster."""
        await self._look()
        self._check_patience()
        return wire.Hello(self._node_id, await self._known(), wire.SESSION, self._problem)

    async def run(self, send: Send) -> None:
        """Tell what changes, for as long as a session lasts. Raises SessionEnded as `hello`."""
        while True:
            await self._sleep(DESCRIBE_AGAIN if self._problem else DESCRIBE_EVERY)
            if await self._look():
                await send(wire.Describe(await self._known(), self._problem))
            self._check_patience()

    async def run_at_once(self, send: Send) -> None:
        """What somebody else says has changed."""
        while True:
            await self._stale.wait()
            self._stale.clear()
            self._description = await self._known()
            await send(wire.Describe(self._description, self._problem))

    def _check_patience(self) -> None:
        is_lost = not self._recovered.is_set() and self._monotonic() - self._started > RECOVER_PATIENCE
        if self._problem and is_lost:
            raise SessionEnded(f"this node cannot tell what runs on it: {self._problem}")

    async def _look(self) -> bool:
        """Describe the node; whether that, or the problem with it, is news."""
        before = (self._description, self._problem)
        try:
            async with asyncio.timeout(DESCRIBE_WITHIN):
                self._description = replace(await self._runtime.describe(), tls_info=self._tls_info())
            self._problem = "" if self._recovered.is_set() else self._problem
        except (RuntimeUnavailable, TimeoutError) as problem:
            self._problem = str(problem) or "the Docker Engine does not answer in time"
        return (self._description, self._problem) != before

    async def _known(self) -> NodeDescription:
        """The last description there was, else what the host says without its runtime."""
        known = self._description
        if known is None:
            known = await asyncio.to_thread(host_description, socket.gethostname())
        return replace(known, tls_info=self._tls_info())
