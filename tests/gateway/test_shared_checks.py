"""Eight gateways' checks with the leader's merging between them: how many checks there are, and who believes what."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import pytest

from essaim.cluster.wire import Findings, Verdicts
from essaim.gateway.health import board as board_module
from essaim.gateway.health import share as share_module
from essaim.gateway.health.assignment import EXTRA, Assignment
from essaim.gateway.health.board import SLICE, Board
from essaim.gateway.health.share import Found, Share
from essaim.gateway.health.targets import Target
from essaim.gateway.protocol.options import HealthOptions
from essaim.scheduler.traffic.verdicts import SharedVerdicts

from .conftest import until

GATEWAYS = [f"n{n}" for n in range(8)]
ENDPOINTS = [f"t{n}@10.0.0.{n % 8}:{n}" for n in range(40)]
INTERVAL = 0.1


class Mesh:
    """Boards that reach a leader at once, or not at all; `failing` are pairs of a gateway and what it cannot reach."""

    def __init__(self) -> None:
        self.leader: SharedVerdicts | None = None
        self.failing: set[tuple[str, str]] = set()
        self.checked: Counter[str] = Counter()
        self.boards: dict[str, Board] = {}

    def add(self, name: str) -> None:
        async def checker(options: HealthOptions, address: str, port: int) -> str | None:
            self.checked[address] += 1
            return "refused" if (name, address) in self.failing or ("", address) in self.failing else None

        board = Board(name, lambda key, found: None, lambda: self.report(name), checker)
        board.start()
        self.boards[name] = board

    def table(self) -> None:
        options = HealthOptions(interval=INTERVAL, fall=2)
        targets = [(key, f"n{n % 8}", key, 80, options) for n, key in enumerate(ENDPOINTS)]
        for board in self.boards.values():
            board.update(GATEWAYS, {"web": targets})

    def lead(self) -> None:
        """A leader that knows nothing takes over."""
        self.leader = SharedVerdicts()
        for name, board in self.boards.items():
            board.session(True)
            self.tell(self.leader.told(name, Findings(True, board.findings(True)[0])))
            self.tell(self.leader.full(), name)

    def lose_leader(self) -> None:
        self.leader = None
        for board in self.boards.values():
            board.session(False)

    def report(self, name: str) -> None:
        if self.leader is not None:
            self.tell(self.leader.told(name, Findings(False, *self.boards[name].findings(False))))

    def tell(self, message: Verdicts | None, *names: str) -> None:
        for name in names or self.boards:
            if message is not None:
                self.boards[name].take_verdicts(message.full, message.found, message.unknown)

    def down(self, key: str) -> list[str]:
        """The gateways that give the endpoint no traffic."""
        return [name for name, board in self.boards.items() if not board.found(key).up]

    def checkers(self, key: str) -> list[str]:
        return [name for name, board in self.boards.items() if board.is_checked(key)]

    def is_settled(self) -> bool:
        return all(board.found(key).by for board in self.boards.values() for key in ENDPOINTS)


@pytest.fixture
async def mesh() -> AsyncIterator[Mesh]:
    mesh = Mesh()
    for name in GATEWAYS:
        mesh.add(name)
    mesh.table()
    mesh.lead()
    await until(mesh.is_settled)
    yield mesh
    for board in mesh.boards.values():
        await board.stop()


async def test_checks_grow_with_the_endpoints_and_not_with_the_gateways(mesh: Mesh) -> None:
    assert [board.shares[1] for board in mesh.boards.values()] == [0] * 8
    assert sum(board.shares[0] for board in mesh.boards.values()) == (1 + EXTRA) * len(ENDPOINTS)
    before, began = sum(mesh.checked.values()), asyncio.get_running_loop().time()
    await until(lambda: min(mesh.checked.values()) >= 10 * (1 + EXTRA))
    intervals = (asyncio.get_running_loop().time() - began) / INTERVAL
    made = sum(mesh.checked.values()) - before
    assert sum(board.checks for board in mesh.boards.values()) == sum(mesh.checked.values())
    # A check's own time comes on top of the interval: never more than one for each checker and interval, and one.
    assert made <= (1 + EXTRA) * len(ENDPOINTS) * (intervals + 1)


async def test_endpoint_that_fails_for_all_is_down_everywhere_with_reason_and_finder(mesh: Mesh) -> None:
    key = ENDPOINTS[3]
    mesh.failing.add(("", key))
    await until(lambda: mesh.down(key) == GATEWAYS)
    found = {name: board.found(key) for name, board in mesh.boards.items()}
    assert {one.reason for one in found.values()} == {"refused"}
    for name in mesh.checkers(key):
        assert found[name].by == name
    assert {found[name].by for name in set(GATEWAYS) - set(mesh.checkers(key))} <= set(mesh.checkers(key))
    mesh.failing.clear()
    await until(lambda: mesh.down(key) == [])


async def test_failure_that_one_checker_sees_stays_with_it(mesh: Mesh) -> None:
    key = ENDPOINTS[3]
    victim = mesh.checkers(key)[-1]
    mesh.failing.add((victim, key))
    await until(lambda: mesh.down(key) == [victim])
    checks = mesh.checked[key]
    await until(lambda: mesh.checked[key] > checks + 20)
    assert mesh.down(key) == [victim]


async def test_failure_that_traffic_meets_at_a_gateway_that_does_not_check_stays_with_it(mesh: Mesh) -> None:
    key = ENDPOINTS[3]
    victim = next(name for name in GATEWAYS if name not in mesh.checkers(key))
    mesh.failing.add((victim, key))
    mesh.boards[victim].trouble(key)
    await until(lambda: mesh.down(key) == [victim])
    assert mesh.boards[victim].found(key) == Found(False, "refused", victim)
    mesh.failing.clear()
    await until(lambda: mesh.down(key) == [])


async def test_without_a_leader_verdicts_stay_and_then_everybody_looks(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(share_module, "GRACE", 0.3)
    monkeypatch.setattr(board_module, "REVIEW_SECONDS", 0.05)
    first, second = ENDPOINTS[3], ENDPOINTS[4]
    mesh.failing.add(("", first))
    await until(lambda: mesh.down(first) == GATEWAYS)
    mesh.lose_leader()
    assert mesh.down(first) == GATEWAYS
    mesh.failing.add(("", second))
    await until(lambda: mesh.down(second) == GATEWAYS)
    assert mesh.down(first) == GATEWAYS
    assert mesh.checkers(second) == GATEWAYS
    mesh.lead()
    await until(lambda: sum(board.shares[1] for board in mesh.boards.values()) == 0)
    assert (mesh.down(first), mesh.down(second)) == (GATEWAYS, GATEWAYS)
    assert len(mesh.checkers(second)) == 1 + EXTRA


async def test_gateway_that_leaves_hands_its_checks_to_others(mesh: Mesh) -> None:
    gone = mesh.boards.pop("n0")
    await gone.stop()
    assert mesh.leader is not None
    mesh.tell(mesh.leader.disconnect("n0"))
    for board in mesh.boards.values():
        board.update(GATEWAYS[1:], {})
    assert {len(mesh.checkers(key)) for key in ENDPOINTS} == {1 + EXTRA}
    await until(mesh.is_settled)


async def test_gateway_that_joins_a_big_mesh_does_not_hold_up_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """20,000 endpoints whose checkers are worked out anew: in slices, with the same outcome as at once."""
    gateways = [f"n{n}" for n in range(100)]
    options = HealthOptions()
    targets: dict[str, list[Target]] = {
        f"s{n}": [(f"t{n}-{m}@10.0.0.1:{m}", f"n{(n + m) % 100}", "10.0.0.1", m, options) for m in range(100)]
        for n in range(200)
    }

    async def never(options: HealthOptions, address: str, port: int) -> str | None:
        await asyncio.sleep(3600)
        return None

    board = Board("n7", lambda key, found: None, lambda: None, never)
    board.start()
    board.update(gateways, targets)
    wanted = Assignment(gateways[:-1])
    expected = {
        key for service in targets.values() for key, node, *_ in service if wanted.is_checked_by("n7", key, node)
    }
    here = {key for service in targets.values() for key, node, *_ in service if node == "n7"}
    worked_out = 0
    put = Share.put

    def counted(share: Share, *about: Any) -> None:
        nonlocal worked_out
        worked_out += 1
        put(share, *about)

    monkeypatch.setattr(Share, "put", counted)
    turns = [0]
    board.update(gateways[:-1], {})
    turns.append(worked_out)
    # What runs here is never without a check.
    assert all(board.is_checked(key) for key in here)
    async with asyncio.timeout(20):
        while board.shares[0] != len(expected) or worked_out < 20_000:
            await asyncio.sleep(0)
            turns.append(worked_out)
    checked = {key for service in targets.values() for key, *_ in service if board.is_checked(key)}
    await board.stop()
    assert checked == expected
    # All at once it is 100 to 250 ms.
    assert turns[-1] == 20_000
    assert turns[1] == len(here)
    assert max(after - before for before, after in pairwise(turns[1:])) == SLICE
