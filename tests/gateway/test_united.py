"""Counters of ports that stand for several services' ports, told of each task once, against a sum task by task."""

from collections import Counter

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from essaim.gateway.control.united import shared_out
from essaim.gateway.protocol.messages import EndpointCounts, EndpointPlan, PortCounts, PortPlan, ServicePlan
from essaim.gateway.protocol.options import ServiceOptions
from essaim.gateway.routing.names import UNION
from essaim.gateway.runtime.counters import NOTHING

PORTS = ["blue", "green", "red"]


def counted(task: str, requests: int) -> EndpointCounts:
    return msgspec.structs.replace(NOTHING, task_id=task, codes={200: requests}, open=requests)


def plan(port: str, tasks: set[str]) -> ServicePlan:
    endpoints = [EndpointPlan(task, task, "n", "192.0.2.1", 80, True, False, None, 0) for task in sorted(tasks)]
    return ServicePlan(port, port, ServiceOptions(), [PortPlan(port, "http", 0, 0, endpoints, target_port=80)])


tasks = st.sets(st.sampled_from(["a", "b", "c", "d"]))
reports = st.dictionaries(st.sampled_from(["a", "b", "c", "d", "old"]), st.integers(1, 9))


@given(
    st.fixed_dictionaries(
        {"blue": reports, "green": reports, "red": reports, "blue + green": reports, "green + red": reports}
    )
)
def test_each_task_s_counts_go_to_its_own_port_and_nothing_is_lost(given: dict[str, dict[str, int]]) -> None:
    owner = {"a": "blue", "b": "green", "c": "red"}
    plans = [plan(port, {task for task, mine in owner.items() if mine == port}) for port in PORTS]
    counts = {
        key: PortCounts(key, 1, 2, [counted(task, number) for task, number in sorted(found.items())], NOTHING)
        for key, found in given.items()
    }
    found = shared_out(counts, plans)
    assert set(found) == set(PORTS)
    assert sum(one.waiting for one in found.values()) == len(counts)
    expected, gone = Counter[tuple[str, str]](), Counter[str]()
    for key, requests in given.items():
        for task, number in requests.items():
            keys = key.split(UNION)
            if len(keys) == 1 or owner.get(task) in keys:
                expected[owner[task] if len(keys) > 1 else key, task] += number
            else:
                gone[keys[0]] += number
    for key in PORTS:
        assert {one.task_id: one.codes[200] for one in found[key].endpoints} == {
            task: number for (port, task), number in expected.items() if port == key
        }
        assert found[key].gone.codes.get(200, 0) == gone[key]
        assert len({one.task_id for one in found[key].endpoints}) == len(found[key].endpoints)


def test_counts_without_united_ports_are_handed_on_as_they_are() -> None:
    counts = {"blue": PortCounts("blue", 0, 0, [], NOTHING)}
    assert shared_out(counts, []) is counts
