"""What the node says of itself: asked of the runtime, and told anew when it has changed."""

import asyncio
from collections.abc import Awaitable, Callable

from msgspec.structs import replace

from essaim.cluster.node import NodeDescription, TLSInfo
from essaim.cluster.wire import Describe, FromAgent

from .runtime import Runtime, RuntimeUnavailable

DESCRIBE_EVERY = 30.0
"""Seconds between looks whether the node's description has changed."""

Send = Callable[[FromAgent], Awaitable[None]]


class Describer:
    """`tls_info` tells what the node trusts, which is part of its description."""

    def __init__(
        self, runtime: Runtime, tls_info: Callable[[], TLSInfo | None], sleep: Callable[[float], Awaitable[None]]
    ) -> None:
        self._runtime = runtime
        self._tls_info = tls_info
        self._sleep = sleep
        self._said: NodeDescription | None = None
        self._stale = asyncio.Event()

    async def describe(self) -> NodeDescription:
        """For the beginning of a session. Raises RuntimeUnavailable."""
        self._said = await self._ask()
        return self._said

    def trust_changed(self) -> None:
        """What the node trusts is no more what its description says."""
        self._stale.set()

    async def tell_changes(self, send: Send) -> None:
        """Lives as long as a session."""
        while True:
            await self._sleep(DESCRIBE_EVERY)
            try:
                description = await self._ask()
            except RuntimeUnavailable:
                continue
            if description != self._said:
                await self._tell(send, description)

    async def tell_trust(self, send: Send) -> None:
        """Lives as long as a session."""
        while True:
            await self._stale.wait()
            self._stale.clear()
            if self._said is not None:
                await self._tell(send, replace(self._said, tls_info=self._tls_info()))

    async def _ask(self) -> NodeDescription:
        return replace(await self._runtime.describe(), tls_info=self._tls_info())

    async def _tell(self, send: Send, description: NodeDescription) -> None:
        self._said = description
        await send(Describe(description))
