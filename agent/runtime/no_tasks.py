"""The runtime of a host that only serves the mesh (`essaimd --gateway-only`): it runs nothing.

The scheduler places nothing on such a node (`Node.runs_tasks`); a task that comes all the same, from a manager that has
not heard yet, is rejected with the reason and goes elsewhere.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable

import msgspec

from essaim.cluster.node import GATEWAY_RUNTIME, EngineDescription, NodeDescription
from essaim.cluster.service import Resources
from essaim.cluster.wire import LogRequest

from .host import host_description
from .interface import LogLine, Rejected, UnknownTask, View, Work


class NoTasksRuntime:
    """A `Runtime` that rejects every task."""

    def __init__(self, *, data_addr: str, hostname: str) -> None:
        self._data_addr = data_addr
        self._hostname = hostname

    async def describe(self) -> NodeDescription:
        description = await asyncio.to_thread(host_description, self._hostname)
        return msgspec.structs.replace(
            description,
            runtime=GATEWAY_RUNTIME,
            data_addr=self._data_addr,
            resources=Resources(nano_cpus=0, memory_bytes=0),
            engine=EngineDescription(engine_version="gateway"),
        )

    async def recover(self, node_id: str) -> dict[str, View]:
        return {}

    async def prepare(self, work: Work, say: Callable[[str], None]) -> list[str]:
        raise Rejected("this node is only a gateway (essaimd --gateway-only): it runs no tasks")

    async def start(self, task_id: str) -> None:
        raise UnknownTask(task_id)

    async def watch(self, task_id: str) -> AsyncGenerator[View, None]:
        nothing: tuple[View, ...] = ()
        for view in nothing:
            yield view
        raise UnknownTask(task_id)

    async def revived(self, task_id: str) -> None:
        await asyncio.Event().wait()

    async def stop(self, task_id: str) -> None:
        """There is nothing to stop."""

    async def remove(self, task_id: str) -> None:
        """There is nothing to remove."""

    async def logs(self, request: LogRequest) -> AsyncGenerator[LogLine, None]:
        nothing: tuple[LogLine, ...] = ()
        for line in nothing:
            yield line
        raise UnknownTask(request.task_id)

    async def close(self) -> None:
        """Nothing was opened."""
