"""A node's steps between worker and manager: from any order of news, it ends as what the newest object says."""

import asyncio
from dataclasses import dataclass, field

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from essaim.cluster.errors import Unavailable
from essaim.cluster.node import ManagerStatus, Node, NodeSpec
from essaim.cluster.shape import Version
from essaim.daemon.keys.identity import Identity
from essaim.daemon.node import transitions
from essaim.daemon.node.transitions import Step, Transitions, next_step


def identity(role: str, member: int = 0) -> Identity:
    return Identity("n", role, "c", "10.0.0.1:2377", "10.0.0.1:2377", "10.0.0.1", [], member)


def node(role: str, member: int = 0, version: int = 1) -> Node:
    status = ManagerStatus(addr="10.0.0.1:2377", raft_id=member) if member else None
    return Node(id="n", version=Version(index=version), spec=NodeSpec(role=role), manager_status=status)


@pytest.mark.parametrize(
    ("now", "wanted", "step"),
    [
        (identity("worker"), node("worker"), ""),
        (identity("worker"), node("manager"), "enlist"),
        (identity("worker"), node("manager", 5), "enlist"),  # the answer with number 5 was lost
        (identity("manager", 5), node("manager", 5), ""),
        (identity("manager", 5), node("worker", 5), ""),  # still a member: it waits until it is out of the log
        (identity("manager", 5), node("worker"), "resign"),
        (
            identity("manager", 5),
            node("manager"),
            "resign",
        ),  # demoted and promoted again: first the one, then the other
        (identity("manager", 5), node("manager", 6), "resign"),
    ],
)
def test_next_step_of_each_state(now: Identity, wanted: Node, step: Step) -> None:
    assert next_step(now, wanted) == step


@dataclass
class World:
    """The cluster's side: a node object with a version, and numbers that are given once."""

    wanted: Node = field(default_factory=lambda: node("worker"))
    now: Identity = field(default_factory=lambda: identity("worker"))
    numbers: int = 0
    fail: int = 0
    taken: list[Step] = field(default_factory=list)
    busy: bool = False

    def __post_init__(self) -> None:
        log = structlog.get_logger()
        self.turns = Transitions(lambda: self.now, self.take, asyncio.Lock(), log)

    def change(self, role: str, member: int) -> Node:
        self.wanted = node(role, member, self.wanted.version.index + 1)
        return self.wanted

    async def take(self, step: Step) -> None:
        assert not self.busy, "two steps at a time"
        self.busy = True
        await asyncio.sleep(0)
        self.busy = False
        if self.fail:
            self.fail -= 1
            raise Unavailable("not now")
        self.taken.append(step)
        if step == "resign":
            self.now = identity("worker")
            return
        if self.wanted.spec.role != "manager":
            raise Unavailable("promote it first")
        self.numbers += 1
        told = self.change("manager", self.numbers)
        self.turns.seen(told.version.index)
        self.now = identity("manager", self.numbers)
        self.turns.told(told)

    async def settle(self) -> None:
        for _ in range(500):
            await asyncio.sleep(0)

    @property
    def is_settled(self) -> bool:
        return not next_step(self.now, self.wanted)


async def test_node_demoted_and_promoted_at_once_gets_another_number() -> None:
    world = World()
    world.turns.told(world.change("manager", 0))
    await world.settle()
    first = world.now.raft_id
    world.turns.told(world.change("worker", first))
    world.turns.told(world.change("manager", first))
    world.turns.told(world.change("manager", 0))  # the keeper: its member was removed
    await world.settle()
    assert world.taken == ["enlist", "resign", "enlist"]
    assert world.now.role == "manager"
    assert world.now.raft_id not in (0, first)
    await world.turns.stop()


async def test_news_from_before_the_enlistment_does_not_end_it() -> None:
    world = World()
    promoted = world.change("manager", 0)
    world.turns.told(promoted)
    await world.settle()
    world.turns.told(promoted)  # the session brings it late
    await world.settle()
    assert world.taken == ["enlist"]
    await world.turns.stop()


async def test_step_that_fails_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transitions, "FIRST_PAUSE", 0)
    world = World(fail=3)
    world.turns.told(world.change("manager", 0))
    for _ in range(100):
        await world.settle()
        if world.is_settled:
            break
    assert world.now.role == "manager"
    await world.turns.stop()


@given(
    st.lists(st.sampled_from(["promote", "demote", "renumber", "discharge", "step", "late"]), max_size=12), st.data()
)
def test_node_ends_as_its_newest_object_says_in_any_order(events: list[str], data: st.DataObject) -> None:
    async def run() -> None:
        world = World()
        told = [world.wanted]
        for event in events:
            member = world.wanted.manager_status.raft_id if world.wanted.manager_status else 0
            role = {"promote": "manager", "demote": "worker"}.get(event, world.wanted.spec.role)
            if event == "step":
                for _ in range(data.draw(st.integers(1, 4))):
                    await asyncio.sleep(0)
            elif event == "late":
                world.turns.told(data.draw(st.sampled_from(told)))
            elif event == "discharge" and role == "manager":
                continue
            else:
                told.append(world.change(role, 0 if event in ("renumber", "discharge") else member or 0))
                world.turns.told(told[-1])
        await world.settle()
        assert world.is_settled, f"{world.now} is to be {world.wanted}"
        await world.turns.stop()

    asyncio.run(run())
