"""A node's containers and their rules: what is loaded when, and what names stand for meanwhile."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec
import structlog
from structlog.testing import capture_logs

from essaim.agent.runtime.docker.balancing import Balancer, Place, place_of
from essaim.cluster.overlay import OverlayNetwork, VirtualService
from essaim.network.namespaces import NamespaceGone, RulesRefused

DB = VirtualService("10.0.1.2", ["10.0.1.3", "10.0.1.4"])
NETWORK = OverlayNetwork(
    "net1", "inner", "10.0.1.0/24", "10.0.1.1", 4097, names={"db": ["10.0.1.2"]}, services=[DB]
)  # fmt: skip
ONE = Place("c1", 101, {"net1": "10.0.1.20"})
TWO = Place("c2", 102, {"net1": "10.0.1.21"})


@dataclass
class Kernel:
    """Says what the test wants; remembers what it was asked."""

    lacks: str = ""
    refuses: set[str] = field(default_factory=set)
    ended: set[str] = field(default_factory=set)
    loaded: list[str] = field(default_factory=list)
    tries: int = 0
    forgotten: list[tuple[str, set[str]]] = field(default_factory=list)
    go: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.go.set()

    def why_not(self) -> str:
        return self.lacks

    def load(self, pid: int, container_id: str, rules: str) -> None:
        assert self.go.wait(5)
        self.tries += 1
        if container_id in self.ended:
            raise NamespaceGone(f"process {pid}")
        if container_id in self.refuses:
            raise RulesRefused("nft: no")
        self.loaded.append(container_id)

    def forget_flows(self, pid: int, container_id: str, addresses: set[str]) -> None:
        self.forgotten.append((container_id, addresses))


def balancer(kernel: Kernel) -> Balancer:
    return Balancer(structlog.get_logger(), kernel, retry=0.01)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


def stands_for(of: Balancer, place: Place) -> list[str] | None:
    return of.directory.lookup("net1", place.addresses["net1"], "db")


def with_replicas(*up: str) -> OverlayNetwork:
    return msgspec.structs.replace(NETWORK, services=[VirtualService("10.0.1.2", [*up])])


async def test_name_stands_for_the_virtual_address_once_the_container_has_its_rules() -> None:
    kernel = Kernel()
    kernel.go.clear()
    made = balancer(kernel)
    made.offer([NETWORK])
    made.seen(ONE)
    assert stands_for(made, ONE) == DB.up
    settled = asyncio.create_task(made.settled())
    await asyncio.sleep(0)
    assert not settled.done()
    kernel.go.set()
    await asyncio.wait_for(settled, 5)
    assert stands_for(made, ONE) == [DB.vip]
    assert stands_for(made, TWO) == DB.up
    await made.close()


async def test_rules_are_loaded_again_only_when_they_change_or_the_container_is_another() -> None:
    kernel = Kernel()
    made = balancer(kernel)
    made.offer([NETWORK])
    made.seen(ONE)
    made.seen(TWO)
    await until(lambda: sorted(kernel.loaded) == ["c1", "c2"])
    made.offer([msgspec.structs.replace(NETWORK, names={})])
    made.seen(ONE)
    made.seen(Place("c2", 202, TWO.addresses))
    await until(lambda: kernel.loaded[2:] == ["c2"])
    made.offer([with_replicas("10.0.1.3")])
    await until(lambda: sorted(kernel.loaded[3:]) == ["c1", "c2"])
    await until(lambda: len(kernel.forgotten) == 2)
    assert [addresses for _, addresses in kernel.forgotten] == [{"10.0.1.4"}] * 2
    made.gone("c1")
    made.offer([NETWORK])
    await until(lambda: kernel.loaded[5:] == ["c2"])
    await made.close()


async def test_refused_rules_leave_replicas_own_addresses_say_why_once_and_are_tried_again() -> None:
    kernel = Kernel(refuses={"c1"})
    made = balancer(kernel)
    with capture_logs() as logged:
        made.offer([NETWORK])
        made.seen(ONE)
        made.seen(TWO)
        await until(lambda: stands_for(made, TWO) == [DB.vip])
        assert stands_for(made, ONE) == DB.up
        await asyncio.wait_for(made.settled(), 5)
        await until(lambda: kernel.tries > 5)
    assert [entry["reason"] for entry in logged] == ["a container's rules for virtual addresses were refused: nft: no"]
    kernel.refuses.clear()
    await until(lambda: stands_for(made, ONE) == [DB.vip])
    await made.close()


async def test_kernel_that_lacks_something_is_asked_again_and_names_work_meanwhile() -> None:
    kernel = Kernel(lacks="the program nft is not there: install nftables")
    made = balancer(kernel)
    with capture_logs() as logged:
        made.offer([NETWORK])
        made.seen(ONE)
        await until(lambda: bool(logged))
        assert stands_for(made, ONE) == DB.up
    assert logged[0]["reason"].endswith("cannot be had on this node: the program nft is not there: install nftables")
    kernel.lacks = ""
    await until(lambda: stands_for(made, ONE) == [DB.vip])
    await made.close()


async def test_container_that_ended_meanwhile_is_no_problem() -> None:
    kernel = Kernel(ended={"c1"})
    made = balancer(kernel)
    with capture_logs() as logged:
        made.offer([NETWORK])
        made.seen(ONE)
        made.seen(TWO)
        await until(lambda: stands_for(made, TWO) == [DB.vip])
    assert not logged
    await made.close()


def test_place_of_a_running_container_is_its_process_and_addresses() -> None:
    networks = {"net1": {"IPAddress": "10.0.1.20"}, "net2": {"IPAddress": ""}, "net3": None}
    inspected = {"Id": "c1", "State": {"Running": True, "Pid": 101}, "NetworkSettings": {"Networks": networks}}
    assert place_of(inspected) == ONE
    assert place_of({"Id": "c1", "State": {"Running": False, "Pid": 0}}) is None
