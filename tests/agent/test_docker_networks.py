"""A node's overlay networks: what a task hears when one of them cannot be had."""

import errno
from typing import Any, cast

import pytest
import structlog
from pyroute2.netlink.exceptions import NetlinkError

from essaim.agent.docker import networks
from essaim.agent.docker.engine import Engine
from essaim.agent.docker.networks import Overlays
from essaim.agent.runtime import Rejected
from essaim.cluster.overlay import OverlayNetwork
from essaim.cluster.service import TaskSpec
from essaim.cluster.task import NetworkAttachment, Task, TaskStatus

NETWORK = OverlayNetwork("net1", "demo_inner", "10.0.1.0/24", "10.0.1.1", 4097)
TASK = Task(id="t1", spec=TaskSpec(), status=TaskStatus(), networks_attachments=[NetworkAttachment(network_id="net1")])


class BrokenEngine:
    """Every call fails in the same way."""

    def __init__(self, problem: Exception) -> None:
        self.problem = problem

    async def call(self, *words: Any, **options: Any) -> Any:
        raise self.problem


@pytest.fixture(autouse=True)
def short_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "WAIT", 0.05)


async def reason(offered: list[OverlayNetwork], problem: Exception) -> str:
    overlays = Overlays(cast("Engine", BrokenEngine(problem)), "10.77.0.1", structlog.get_logger())
    if offered:
        overlays.offer(offered)
    with pytest.raises(Rejected) as caught:
        await overlays.ready(TASK)
    await overlays.close()
    return str(caught.value)


async def test_network_that_nobody_told_of_is_named_with_that_reason() -> None:
    said = await reason([], OSError("not reached"))
    assert said.startswith("network net1 could not be made on this node")
    assert said.endswith("the leading manager has not told of it")


@pytest.mark.parametrize(
    ("problem", "says"),
    [
        (NetlinkError(errno.EPERM, "Operation not permitted"), "run it as root (or with CAP_NET_ADMIN)"),
        (OSError("the disk is full"), "the disk is full"),
    ],
)
async def test_network_that_cannot_be_made_rejects_the_task_with_the_cause(problem: Exception, says: str) -> None:
    assert (await reason([NETWORK], problem)).endswith(says)
