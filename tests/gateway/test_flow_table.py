"""Which UDP flows stay, decided twice: by the table, and by a list that is sorted anew each time."""

from dataclasses import dataclass
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from essaim.gateway.runtime.sources import Sources, source_of
from essaim.gateway.udp.flows import SHARE, FlowTable


@dataclass
class Kept:
    key: int
    source: str
    group: str
    born: int
    answered: bool = False
    used: int = 0

    @property
    def rank(self) -> tuple[bool, int]:
        """Who goes first."""
        return self.answered, self.used if self.answered else self.born


class Naive:
    def __init__(self, most: int) -> None:
        self.most = most
        self.kept: list[Kept] = []
        self.clock = 0

    def admits(self, source: str, group: str, limit: int) -> bool:
        return self.most > 0 and not (limit and sum((k.source, k.group) == (source, group) for k in self.kept) >= limit)

    def enter(self, key: int, source: str, group: str) -> int | None:
        self.clock += 1
        mine = [k for k in self.kept if k.source == source]
        victim = None
        if len(mine) >= max(1, self.most // SHARE):
            victim = min(mine, key=lambda k: k.rank)
        elif len(self.kept) >= self.most:
            victim = min(self.kept, key=lambda k: k.rank)
        if victim:
            self.kept.remove(victim)
        self.kept.append(Kept(key, source, group, self.clock))
        return victim.key if victim else None

    def answered(self, key: int) -> None:
        self.clock += 1
        for one in self.kept:
            if one.key == key:
                one.answered, one.used = True, self.clock

    def leave(self, key: int) -> None:
        self.kept = [one for one in self.kept if one.key != key]


steps = st.lists(
    st.one_of(
        st.tuples(st.just("new"), st.sampled_from("abcde"), st.sampled_from("xy"), st.sampled_from([0, 0, 1, 2])),
        st.tuples(st.just("answer"), st.integers(0, 40)),
        st.tuples(st.just("leave"), st.integers(0, 40)),
    ),
    max_size=80,
)


@given(st.integers(0, 9), steps)
def test_flow_table_agrees_with_a_list_that_is_sorted_anew(most: int, steps: list[Any]) -> None:
    table, naive, number = FlowTable[int](most), Naive(most), 0
    for step in steps:
        if step[0] == "new":
            _, source, group, limit = step
            admitted = table.admits(source, group, limit)
            assert admitted == naive.admits(source, group, limit)
            if admitted:
                assert table.enter(number, source, group) == naive.enter(number, source, group)
                number += 1
        elif step[0] == "leave":
            table.leave(step[1])
            naive.leave(step[1])
        elif step[1] in [one.key for one in naive.kept]:
            table.answered(step[1])
            naive.answered(step[1])
        assert len(table) == len(naive.kept) <= max(0, most)


def test_flow_table_flood_of_made_up_sources_takes_nothing_from_answered_flows() -> None:
    table = FlowTable[str](100)
    for number in range(50):
        table.enter(f"good{number}", f"client{number}", "g")
        table.answered(f"good{number}")
    ended = {table.enter(f"bad{number}", f"made up {number}", "g") for number in range(10_000)}
    assert not [one for one in ended if one and one.startswith("good")]
    assert len(table) == 100


def test_source_of_ipv6_is_its_network_and_of_ipv4_the_address() -> None:
    assert source_of("2001:db8:1:2::1") == source_of("2001:db8:1:2:ffff::9") != source_of("2001:db8:1:3::1")
    assert source_of("192.0.2.1") != source_of("192.0.2.2")
    assert source_of("unknown") == "unknown"
    assert source_of("not:an:address") == "not:an:address"


def test_sources_count_addresses_of_one_ipv6_network_together() -> None:
    sources = Sources()
    assert sources.enter("2001:db8::1", 2)
    assert sources.enter("2001:db8::2", 2)
    assert not sources.enter("2001:db8::3", 2)
    for _ in range(3):
        sources.leave("2001:db8::9")
    assert sources.enter("2001:db8::4", 1)
