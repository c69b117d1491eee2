"""Whom a member talks to, against what it may know."""

from hypothesis import given
from hypothesis import strategies as st

from essaim.raft.core.members import Change, ChangeKind, Configuration, change, first_configuration
from essaim.raft.transport.contacts import Contacts

OLD = first_configuration({1: "m1", 2: "m2"})


def without(now: Configuration, member: int) -> Configuration:
    return change(now, [Change(ChangeKind.REMOVE, member)])


def test_contacts_joining_member_answers_who_calls_it_before_it_has_any_configuration() -> None:
    contacts = Contacts(9)
    contacts.follow([(0, Configuration())], 0, 0)
    contacts.called(4, "m4")
    assert contacts.address(4) == "m4"


def test_contacts_leader_is_kept_while_old_configurations_are_replayed() -> None:
    contacts = Contacts(9)
    contacts.called(4, "m4")
    for applied in range(1, 4):
        contacts.follow([(1, OLD)], applied, 4)
        assert contacts.wanted() == {1: "m1", 2: "m2", 4: "m4"}
    contacts.follow([(1, OLD)], 4, 0)  # it lost the leader for a moment
    assert contacts.address(4) == "m4"
    contacts.follow([(1, OLD)], 4, 4)
    assert contacts.wanted()[4] == "m4"


def test_contacts_leader_is_reached_where_it_says_others_where_they_are_listed() -> None:
    contacts = Contacts(9)
    contacts.follow([(1, OLD)], 1, 1)
    contacts.called(1, "new1")
    contacts.called(2, "new2")
    assert contacts.wanted() == {1: "new1", 2: "m2"}


def test_contacts_removed_member_is_left_once_that_is_certain() -> None:
    contacts = Contacts(1)
    contacts.called(2, "m2")
    contacts.follow([(1, OLD), (5, without(OLD, 2))], 4, 1)
    assert contacts.wanted() == {2: "m2"}
    assert not contacts.is_removed(2)
    contacts.follow([(1, OLD), (5, without(OLD, 2))], 5, 1)
    assert contacts.wanted() == {}
    assert contacts.address(2) is None
    assert contacts.is_removed(2)


@given(
    st.lists(st.tuples(st.sets(st.integers(1, 6), min_size=1), st.integers(0, 6)), min_size=1, max_size=6),
    st.sets(st.integers(1, 6)),
)
def test_contacts_leader_that_has_called_is_always_reached(
    lives: list[tuple[set[int], int]], callers: set[int]
) -> None:
    contacts = Contacts(9)
    for member in callers:
        contacts.called(member, f"m{member}")
    for index, (members, leader) in enumerate(lives, 1):
        listed = first_configuration({member: f"m{member}" for member in members})
        contacts.follow([(index, listed)], index, leader)
        expected = members | ({leader} & callers)
        assert contacts.wanted() == {member: f"m{member}" for member in expected}
