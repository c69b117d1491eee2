"""The keeper's decisions, and that they end where the nodes' roles say, from any start."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from essaim.cluster.node import ManagerStatus, Node, NodeSpec, NodeStatus
from essaim.daemon.membership.joins import JOIN_SECONDS, WAITING, never_came
from essaim.daemon.membership.members import Step, discharged, next_steps, outlived
from essaim.raft.interface import MemberView


def manager(number: int, *, role: str = "manager", enlisted: bool = True) -> Node:
    status = ManagerStatus(addr=f"10.0.0.{number}:2377", raft_id=number) if enlisted else None
    return Node(id=f"n{number}", spec=NodeSpec(role=role), manager_status=status)


def member(number: int, *, voter: bool = True, leader: bool = False) -> MemberView:
    return MemberView(id=number, address=f"10.0.0.{number}:2377", is_voter=voter, is_leader=leader)


def test_keeper_adds_a_joined_manager_then_promotes_it() -> None:
    nodes = [manager(1), manager(2)]
    assert next_steps(nodes, [member(1, leader=True)]) == [Step("add", 2, "10.0.0.2:2377")]
    assert next_steps(nodes, [member(1, leader=True), member(2, voter=False)]) == [Step("promote", 2)]
    assert next_steps(nodes, [member(1, leader=True), member(2)]) == []


def test_keeper_removes_a_member_whose_node_is_a_worker_or_gone() -> None:
    members = [member(1, leader=True), member(2), member(3, voter=False)]
    assert next_steps([manager(1), manager(2, role="worker")], members) == [Step("remove", 2), Step("remove", 3)]


def test_keeper_waits_for_a_promoted_node_to_ask() -> None:
    assert next_steps([manager(1), manager(2, enlisted=False)], [member(1, leader=True)]) == []


def test_keeper_does_nothing_while_the_store_is_empty() -> None:
    assert next_steps([], [member(1, leader=True)]) == []


def test_keeper_of_a_demoted_leader_hands_over() -> None:
    nodes = [manager(1, role="worker"), manager(2), manager(3)]
    members = [member(1, leader=True), member(2, voter=False), member(3)]
    assert next_steps(nodes, members) == [Step("transfer", 3)]


def test_discharged_are_demoted_nodes_that_are_out_of_the_log() -> None:
    nodes = [
        manager(1),
        manager(2, role="worker"),
        manager(3, role="worker"),
        manager(4, role="worker", enlisted=False),
    ]
    assert discharged(nodes, [member(1, leader=True), member(2)]) == ["n3"]


def test_outlived_are_managers_whose_members_were_removed() -> None:
    nodes = [manager(1), manager(2), manager(3, role="worker"), manager(4, enlisted=False)]
    assert outlived(nodes, {2, 3, 4}) == ["n2"]


def test_never_came_are_nodes_that_have_not_said_hello_since_their_admission() -> None:
    now = datetime(2026, 11, 30, tzinfo=UTC)
    early, late = now - timedelta(seconds=JOIN_SECONDS + 1), now - timedelta(seconds=JOIN_SECONDS - 1)
    waiting, down = NodeStatus(state="down", message=WAITING), NodeStatus(state="down", message="heartbeat failure")
    nodes = [
        Node(id=name, spec=NodeSpec(), status=status, created_at=created)
        for name, status, created in (("gone", waiting, early), ("coming", waiting, late), ("down", down, early))
    ]
    assert never_came(nodes, now) == ["gone"]


def take(step: Step, members: Sequence[MemberView]) -> list[MemberView]:
    if step.kind == "add":
        return [*members, member(step.member, voter=False)]
    if step.kind == "promote":
        return [member(m.id, leader=m.is_leader) if m.id == step.member else m for m in members]
    return [m for m in members if m.id != step.member]


@given(
    st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=6),
    st.dictionaries(st.integers(2, 9), st.booleans(), max_size=6),
    st.randoms(),
)
def test_keeper_ends_with_the_managers_as_voters_whatever_the_start_and_order(
    roles: list[tuple[bool, bool]], found: dict[int, bool], random: Random
) -> None:
    nodes = [manager(1)] + [
        manager(number, role="manager" if is_manager else "worker", enlisted=enlisted)
        for number, (is_manager, enlisted) in enumerate(roles, 2)
    ]
    members = [member(1, leader=True), *(member(number, voter=voter) for number, voter in found.items())]
    for _ in range(30):
        steps = next_steps(nodes, members)
        if not steps:
            break
        members = take(steps[random.randrange(len(steps))], members)
    wanted = {n.manager_status.raft_id for n in nodes if n.spec.role == "manager" and n.manager_status}
    assert {m.id for m in members} == wanted
    assert all(m.is_voter for m in members)
