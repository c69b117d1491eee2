"""A node's overlay networks: what a task hears when one of them cannot be had."""

import asyncio
import errno
from typing import Any, cast

import msgspec
import pytest
import structlog
from pyroute2.netlink.exceptions import NetlinkError

from essaim.agent.runtime.docker import networks
from essaim.agent.runtime.docker.engine import Engine, EngineError
from essaim.agent.runtime.docker.networks import Overlays, join
from essaim.agent.runtime.interface import Rejected
from essaim.cluster.overlay import OverlayNetwork
from essaim.cluster.service import TaskSpec
from essaim.cluster.task import NetworkAttachment, Task, TaskStatus
from essaim.network.links import Link, Seen

NETWORK = OverlayNetwork("net1", "demo_inner", "10.0.1.0/24", "10.0.1.1", 4097)
TASK = Task(id="t1", spec=TaskSpec(), status=TaskStatus(), networks_attachments=[NetworkAttachment(network_id="net1")])


class BrokenEngine:
    """Every call fails in the same way."""

    def __init__(self, problem: Exception) -> None:
        self.problem = problem

    async def call(self, *words: Any, **options: Any) -> Any:
        raise self.problem


async def reason(offered: list[OverlayNetwork], problem: Exception) -> str:
    overlays = Overlays(cast("Engine", BrokenEngine(problem)), "10.77.0.1", structlog.get_logger())
    if offered:
        overlays.offer(offered)
    said = await refusal(overlays)
    await overlays.close()
    return said


async def refusal(overlays: Overlays) -> str:
    """Why a task that is given little time cannot have its network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(networks, "WAIT", 0.05)
        with pytest.raises(Rejected) as caught:
            await overlays.ready(TASK)
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


TWO = msgspec.structs.replace(NETWORK, id="net2", name="back", gateway="10.0.2.1", internal=True)
ON_BOTH = msgspec.structs.replace(
    TASK,
    networks_attachments=[
        NetworkAttachment(network_id="net1", addresses=["10.0.1.5/24"]),
        NetworkAttachment(network_id="net2", addresses=["10.0.2.6/24"]),
    ],
)


def test_join_begins_on_the_first_network_asks_all_and_connects_to_the_others() -> None:
    body: dict[str, Any] = {"HostConfig": {"Dns": ["9.9.9.9"], "PortBindings": {"80/tcp": [{}]}}}
    further = join(body, ON_BOTH, [NETWORK, TWO])
    point = {"IPAMConfig": {"IPv4Address": "10.0.1.5"}}
    assert body["NetworkingConfig"] == {"EndpointsConfig": {"net1": point}}
    assert (body["HostConfig"]["NetworkMode"], body["HostConfig"]["Dns"]) == (
        "net1",
        ["10.0.1.1", "10.0.2.1", "9.9.9.9"],
    )
    assert further == [("net2", {"IPAMConfig": {"IPv4Address": "10.0.2.6"}})]


def test_join_published_port_of_internal_networks_alone_goes_by_the_nodes_bridge() -> None:
    inside = msgspec.structs.replace(NETWORK, internal=True)
    for bindings, there, joins in (
        ({"80/tcp": [{}]}, [inside, TWO], ["net2", "bridge"]),
        ({}, [inside, TWO], ["net2"]),
        ({"80/tcp": [{}]}, [NETWORK, TWO], ["net2"]),
    ):
        body: dict[str, Any] = {"HostConfig": {"PortBindings": bindings}}
        assert [name for name, _ in join(body, ON_BOTH, there)] == joins


def test_join_nodes_own_network_or_none_changes_nothing() -> None:
    body: dict[str, Any] = {"HostConfig": {"NetworkMode": "host"}}
    assert join(body, ON_BOTH, [NETWORK, TWO]) == []
    assert body == {"HostConfig": {"NetworkMode": "host"}}


class SlowEngine:
    """Networks by name; nothing is refused, and others go on before a removal is done."""

    def __init__(self) -> None:
        self.networks: dict[str, dict[str, Any]] = {}

    async def call(self, method: str, path: str, **options: Any) -> Any:
        if method == "GET":
            return [{"Name": name, "Labels": body["Labels"]} for name, body in self.networks.items()]
        await asyncio.sleep(0)
        if method == "POST":
            self.networks[options["body"]["Name"]] = options["body"]
        else:
            await asyncio.sleep(0)
            del self.networks[path.removeprefix("/networks/")]
        return None


async def test_network_that_a_task_is_about_to_join_is_there_whatever_the_leader_said_meanwhile() -> None:
    engine = SlowEngine()
    overlays = Overlays(cast("Engine", engine), "127.0.0.1", structlog.get_logger())
    overlays.offer([NETWORK])
    await overlays.ready(TASK)
    # The leader's word of a moment ago, when the node's last task on the network had just ended.
    overlays.offer([])
    for _ in range(20):
        await asyncio.sleep(0)
    assert "net1" in engine.networks
    # Started: from now on the Engine itself keeps it, and this one lets it go.
    overlays.release(TASK.id)
    async with asyncio.timeout(5):
        while "net1" in engine.networks:
            await asyncio.sleep(0)
        # A task that comes while it goes waits until it is made anew.
        overlays.offer([NETWORK])
    await overlays.close()


async def test_network_of_a_node_that_left_and_joined_again_is_there_again() -> None:
    engine = SlowEngine()
    overlays = Overlays(cast("Engine", engine), "127.0.0.1", structlog.get_logger())
    overlays.offer([NETWORK])
    await overlays.ready(TASK)
    overlays.release(TASK.id)
    await overlays.clear()
    assert engine.networks == {}
    overlays.offer([NETWORK])
    await overlays.ready(TASK)
    assert set(engine.networks) == {"net1"}
    await overlays.close()


async def test_network_left_by_an_earlier_run_goes_when_the_node_leaves() -> None:
    engine = SlowEngine()
    engine.networks["old"] = {"Labels": {"essaim.network.vxlan": "4099"}}
    overlays = Overlays(cast("Engine", engine), "127.0.0.1", structlog.get_logger())
    await overlays.clear()
    assert engine.networks == {}
    await overlays.close()


async def test_network_that_somebody_pruned_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "CHECK_EVERY", 0.01)
    engine = SlowEngine()
    overlays = Overlays(cast("Engine", engine), "127.0.0.1", structlog.get_logger())
    overlays.offer([NETWORK])
    await overlays.ready(TASK)
    overlays.release(TASK.id)
    engine.networks.clear()
    async with asyncio.timeout(5):
        while "net1" not in engine.networks:
            await asyncio.sleep(0.01)
    await overlays.ready(TASK)
    await overlays.close()


class PartlyBroken(SlowEngine):
    """It refuses to make or to remove one network."""

    async def call(self, method: str, path: str, **options: Any) -> Any:
        if "net1" in (path.rpartition("/")[2], (options.get("body") or {}).get("Name")) and method != "GET":
            raise EngineError(403, "Pool overlaps with other one on this address space")
        return await super().call(method, path, **options)


async def test_network_that_cannot_be_made_or_removed_holds_up_no_other() -> None:
    engine = PartlyBroken()
    overlays = Overlays(cast("Engine", engine), "127.0.0.1", structlog.get_logger())
    overlays.offer([NETWORK, TWO])
    on_two = msgspec.structs.replace(TASK, networks_attachments=[NetworkAttachment(network_id="net2")])
    await overlays.ready(on_two)
    said = await refusal(overlays)
    assert said.startswith("network net1 could not be made")
    assert "Pool overlaps" in said
    overlays.release(on_two.id)
    engine.networks["net1"] = {"Labels": {}}
    overlays.offer([])
    async with asyncio.timeout(5):
        while "net2" in engine.networks:
            await asyncio.sleep(0.01)
    await overlays.close()


@pytest.mark.parametrize(
    "mistake", [IndexError("list index out of range"), NetlinkError(errno.ENODEV, "No such device")]
)
async def test_wire_that_breaks_in_any_way_does_not_end_the_loop(
    monkeypatch: pytest.MonkeyPatch, mistake: Exception
) -> None:
    monkeypatch.setattr(networks, "RETRY", 0.01)
    mended: list[str] = []

    def mend(link: Link, seen: Seen) -> None:
        mended.append(link.network_id)
        if mended.count("net1") < 3 and link.network_id == "net1":
            raise mistake

    monkeypatch.setattr(networks.links, "look", lambda wanted: {link.network_id: Seen(True, False) for link in wanted})
    monkeypatch.setattr(networks.links, "mend", mend)
    overlays = Overlays(cast("Engine", SlowEngine()), "10.77.0.1", structlog.get_logger())
    overlays.offer([NETWORK, TWO])
    monkeypatch.setattr(networks, "WAIT", 5.0)
    await overlays.ready(ON_BOTH)
    assert mended.count("net1") >= 3
    await overlays.close()
