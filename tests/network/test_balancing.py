"""The rules' text, read by a small evaluator of its own and compared with what the services say."""

import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from essaim.cluster.overlay import VirtualService
from essaim.network.balancing import ended, ruleset


class Rules:
    """As the kernel reads them: new flows through `balance`, then every packet through `check`."""

    def __init__(self, text: str) -> None:
        chains = {name: body.split("\n") for name, body in re.findall(r"  chain (\w+) \{\n(.*?)\n  \}", text, re.S)}
        self.chains = {name: [line.strip() for line in lines] for name, lines in chains.items()}
        self.turns: Counter[str] = Counter()

    def new_flow(self, target: str) -> str:
        """Where it goes, or `refused`."""
        went = self._balanced(target)
        return "refused" if self._is_refused(target, went) else went

    def next_packet(self, target: str, went: str) -> str:
        return "refused" if self._is_refused(target, went) else went

    def _balanced(self, target: str) -> str:
        for rule in self.chains.get("balance", [])[1:]:
            chosen = dict(re.findall(r"([\d.]+) : goto (\w+)", rule)).get(target)
            if chosen is not None:
                return self._chosen(chosen)
        return target

    def _chosen(self, chain: str) -> str:
        (rule,) = self.chains[chain]
        entries = re.findall(r"(\d+) : ([\d.]+)", rule)
        if not entries:
            return rule.removeprefix("dnat to ")
        (modulus,) = re.findall(r"numgen inc mod (\d+) ", rule)
        assert [int(number) for number, _ in entries] == list(range(int(modulus)))
        turn = self.turns[chain] % int(modulus)
        self.turns[chain] += 1
        return str(entries[turn][1])

    def _is_refused(self, target: str, went: str) -> bool:
        for rule in self.chains.get("check", [])[1:]:
            sets = [set(found.split(", ")) for found in re.findall(r"\{ (.*?) \}", rule)]
            if rule.startswith("ct direction original ct status dnat"):
                if target != went and target in sets[0] and (len(sets) < 2 or went not in sets[1]):
                    return True
            elif went in sets[0]:
                return True
        return False


addresses = st.integers(2, 40).map(lambda n: f"10.0.1.{n}")


@st.composite
def some_services(draw: st.DrawFn) -> list[VirtualService]:
    taken = draw(st.lists(addresses, unique=True, max_size=20))
    services = []
    for _ in range(draw(st.integers(0, 3))):
        if not taken:
            break
        vip, *rest = taken
        up, leaving = draw(st.integers(0, 4)), draw(st.integers(0, 3))
        services.append(VirtualService(vip, rest[:up], rest[up : up + leaving]))
        taken = rest[up + leaving :]
    return services


@given(some_services(), addresses, addresses, st.integers(0, 300))
def test_ruleset_any_services_do_what_they_say(
    services: list[VirtualService], target: str, went: str, turn: int
) -> None:
    rules = Rules(ruleset("net1", services, turn))
    service = next((s for s in services if s.vip == target), None)
    if service is None:
        assert rules.new_flow(target) == target
    elif not service.up:
        assert rules.new_flow(target) == "refused"
    else:
        rounds = Counter(rules.new_flow(target) for _ in range(3 * len(service.up)))
        assert rounds == Counter(dict.fromkeys(service.up, 3))
        living = {a for s in services for a in (*s.up, *s.leaving)}
        if went != target and went not in {s.vip for s in services}:
            assert rules.next_packet(target, went) == (went if went in living else "refused")


def test_ruleset_first_replica_differs_by_turn() -> None:
    service = VirtualService("10.0.1.2", ["10.0.1.3", "10.0.1.4", "10.0.1.5"])
    firsts = {Rules(ruleset("n", [service], turn)).new_flow("10.0.1.2") for turn in range(3)}
    assert firsts == set(service.up)


def test_ruleset_without_services_only_takes_the_table_away() -> None:
    assert ruleset("0123456789abcdef", [], 1) == "table ip essaim_0123456789ab\ndelete table ip essaim_0123456789ab\n"


@pytest.mark.parametrize("bad", ["", "10.0.1", "10.0.1.2 } ; flush ruleset", "::1"])
def test_ruleset_what_is_no_address_does_not_get_in(bad: str) -> None:
    for service in (VirtualService(bad), VirtualService("10.0.1.2", [bad]), VirtualService("10.0.1.2", [], [bad])):
        with pytest.raises(ValueError, match=r"ddress|octet|digits"):
            ruleset("n", [service], 0)


def test_ended_are_those_that_had_flows_and_have_none() -> None:
    before = [VirtualService("10.0.1.2", ["10.0.1.3", "10.0.1.4"], ["10.0.1.5"])]
    after = [VirtualService("10.0.1.2", ["10.0.1.6"], ["10.0.1.3"])]
    assert ended(before, after) == {"10.0.1.4", "10.0.1.5"}
