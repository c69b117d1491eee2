"""One service's labels are that service's affair: every label that the gateway knows, with values that nobody should
give it, beside a healthy service that must not notice."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from essaim.gateway.control import plan as plan_module
from essaim.gateway.control.plan import Planned, Planner
from essaim.gateway.control.status import describe
from essaim.gateway.protocol.messages import PutService
from essaim.gateway.protocol.routes import RoutePort, RouteService, RouteTable
from essaim.gateway.protocol.wall import LONGEST, MOST_WARNINGS
from essaim.gateway.routing import labels as labels_module
from essaim.gateway.routing.labels import Directory
from essaim.gateway.upstream.backend import Backend
from essaim.gateway.upstream.shared_limit import SharedLimit
from essaim.gateway.worker.routers import Routers

from .conftest import endpoint, entry_points
from .hostile import GROUPS, VALUES, all_of, labels_of

CELLS = memoryview(bytearray(64)).cast("I")
POINTS = {"web": 80, "websecure": 443}
EVERY = [(group, label) for group, labels in GROUPS.items() for label in labels]
values = st.one_of(st.sampled_from(VALUES), st.text(max_size=40), st.integers().map(str), st.floats().map(str))


def service(name: str, labels: dict[str, str], target: int = 80) -> RouteService:
    ports = [
        RoutePort(protocol="tcp", target_port=target, published_port=published, endpoints=[endpoint(f"{name}.1", 9)])
        for published in ((8000 if name == "healthy" else 8001), 0)
    ]
    return RouteService(id=f"id-{name}", name=name, labels=labels, ports=ports)


HEALTHY = service(
    "healthy",
    {
        "traefik.http.routers.healthy.rule": "Host(`healthy.example`)",
        "traefik.http.routers.healthy.middlewares": "healthy",
        "traefik.http.middlewares.healthy.stripprefix.prefixes": "/a",
        "traefik.tcp.routers.healthy.rule": "HostSNI(`healthy.example`)",
        "traefik.tcp.routers.healthy.tls": "true",
        "essaim.retries": "2",
    },
)


def planned(*services: RouteService) -> Planned:
    return Planner("127.0.0.1", entry_points(POINTS)).plan(RouteTable(version=1, services=list(services)))


ALONE = planned(HEALTHY).services[HEALTHY.id]


def check(labels: dict[str, str]) -> Planned:
    """Plan a service with these labels beside the healthy one, on the way to a worker and to a user."""
    bad = service("bad", labels)
    found = planned(HEALTHY, bad)
    assert found.services[HEALTHY.id] == ALONE
    assert not found.warnings.get(HEALTHY.id)
    assert HEALTHY.id not in found.faults
    assert {"tcp/127.0.0.1/8000", "tcp/127.0.0.1/80"} <= found.bindings.keys()
    book = Routers()
    for one in found.services.values():
        told = msgspec.msgpack.decode(msgspec.msgpack.encode(PutService(one)), type=PutService).service
        assert told == one
        assert book.replace(told.id, told.routers, told.tcp_routers) == []
        for port in told.ports:
            backend = Backend(port, CELLS, ("n1", None), _nothing, _nothing, SharedLimit(CELLS, len(CELLS), 0))
            backend.update(told, port, {}, 0.0)
            assert backend.pick() is not None
    status = describe(
        RouteTable(version=1, services=[HEALTHY, bad]), found, {}, lambda key: (True, "", ""), {}, {}, found.faults
    )
    assert len(msgspec.json.encode(status)) < 1 << 20
    for said in found.warnings.get(bad.id, []):
        assert said.isprintable()
        assert len(said) <= LONGEST + 3
    return found


def _nothing(*_: Any) -> None:
    pass


@pytest.mark.parametrize("group", GROUPS)
def test_label_with_any_hostile_value_leaves_the_healthy_service_as_it_is(group: str) -> None:
    for label in GROUPS[group]:
        for value in VALUES:
            check(labels_of(group, label, value))


@pytest.mark.parametrize("group", GROUPS)
def test_labels_of_a_group_with_one_hostile_value_leave_the_healthy_service_as_it_is(group: str) -> None:
    for value in VALUES:
        check(all_of(group, value))


@given(st.lists(st.tuples(st.sampled_from(EVERY), values), min_size=1, max_size=6))
def test_labels_in_any_company_leave_the_healthy_service_as_it_is(drawn: list[tuple[tuple[str, str], str]]) -> None:
    labels: dict[str, str] = {}
    for (group, label), value in drawn:
        labels |= labels_of(group, label, value)
    check(labels)


@given(st.dictionaries(st.text(max_size=20).map(lambda rest: "traefik.http." + rest), values, max_size=4))
def test_labels_of_any_name_leave_the_healthy_service_as_it_is(labels: dict[str, str]) -> None:
    check(labels)


def test_service_with_thousands_of_misspelt_labels_is_read_in_a_moment_and_its_warnings_are_bounded() -> None:
    labels = {f"essaim.tiemout.{n}": "1" for n in range(3000)} | {
        f"traefik.http.rooters.{n}.rule": "" for n in range(3000)
    }
    found = check(labels)
    assert len(found.warnings["id-bad"]) == MOST_WARNINGS + 1
    assert "warnings more" in found.warnings["id-bad"][-1]


def test_service_whose_chains_contain_each_other_twice_is_not_taken_apart() -> None:
    chains = {f"traefik.http.middlewares.c{n}.chain.middlewares": f"c{n + 1},c{n + 1}" for n in range(30)} | {
        "traefik.http.middlewares.c30.addprefix.prefix": "/x"
    }
    rule = {"traefik.http.routers.bad.rule": "Host(`bad.example`)", "traefik.http.routers.bad.middlewares": "c0"}
    found = check(chains | rule)
    assert any("more than 200 middlewares" in said for said in found.warnings["id-bad"])


def test_service_with_labels_of_a_megabyte_is_faulty_and_says_so() -> None:
    found = check({"x": "y" * (1 << 20)})
    assert "its labels have" in found.faults["id-bad"]
    assert found.services["id-bad"].ports == []


def test_service_that_defines_what_a_healthy_one_defines_changes_nothing_for_it() -> None:
    check(
        {
            "traefik.http.middlewares.healthy.stripprefix.prefixes": "((",
            "traefik.http.services.healthy.loadbalancer.server.port": "1",
        }
    )
    # Also where it comes first.
    first = service("a-first", {"traefik.http.middlewares.healthy.basicauth.users": "broken"})
    assert planned(first, HEALTHY).services[HEALTHY.id].routers == ALONE.routers


@pytest.mark.parametrize("text", ["\u00b2", "-1", "65536", "", "8_0", "\uff18\uff10"])
def test_service_port_that_is_none_leaves_the_router_out_and_is_said(text: str) -> None:
    found = check({
        "traefik.http.routers.bad.rule": "Host(`bad.example`)",
        "traefik.http.services.bad.loadbalancer.server.port": text,
    })  # fmt: skip
    assert found.services["id-bad"].routers == []
    assert any("is not a port (1 to 65535)" in said for said in found.warnings["id-bad"])


# -- faults that no label is known to bring about ------------------------------------------------------------------


class Broken(Exception):
    pass


def breaking(function: Any) -> Any:
    """The function, but for what belongs to the bad service."""

    def broken(*args: Any, **more: Any) -> Any:
        told = [one for one in (*args, *more.values()) if not isinstance(one, Directory)]
        if any("bad" in repr(one)[:2000] for one in told):
            raise Broken("it cannot be\nread")
        return function(*args, **more)

    return broken


@pytest.mark.parametrize(
    ("module", "name", "served", "said"),
    [
        (
            plan_module,
            "read_options",
            False,
            "not served: the gateway cannot read this service (Broken: it cannot be\\nread)",
        ),
        (plan_module, "read_labels", False, "not served: the gateway cannot read"),
        (plan_module, "port_key", False, "not served: "),
        (plan_module, "read_tls", True, "its routers are not served: the gateway cannot read"),
        (plan_module, "resolve", True, "its routers are not served: "),
        (labels_module, "parse_rule", True, "router bad is not served: the gateway cannot read"),
        (labels_module, "parse_tcp_rule", True, "TCP router bad is not served: "),
    ],
)
def test_fault_of_the_gateways_own_is_the_one_services(
    monkeypatch: pytest.MonkeyPatch, module: Any, name: str, served: bool, said: str
) -> None:
    monkeypatch.setattr(module, name, breaking(getattr(module, name)))
    labels = labels_of("tcp routers", "traefik.tcp.routers.bad.tls", "true") | labels_of("own", "essaim.retries", "1")
    found = check(labels)
    assert said in found.faults["id-bad"]
    assert bool(found.services["id-bad"].ports) is served
    monkeypatch.undo()
    assert check(labels).faults == {}


def test_status_has_the_leaders_word_on_a_service_beside_the_gateways() -> None:
    told = msgspec.structs.replace(HEALTHY, fault="its schedule cannot be read")
    table = RouteTable(version=1, services=[told])

    def fault(found: dict[str, str]) -> Any:
        return describe(table, planned(told), {}, lambda key: (True, "", ""), {}, {}, found)["services"][0]["fault"]

    assert fault({}) == "its schedule cannot be read"
    assert fault({HEALTHY.id: "not served"}) == "its schedule cannot be read; not served"


def test_planner_service_that_was_faulty_is_served_once_it_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    planner = Planner("127.0.0.1", entry_points(POINTS))
    bad = service("bad", {"traefik.http.routers.bad.rule": "Host(`bad.example`)"})
    with monkeypatch.context() as patched:
        patched.setattr(plan_module, "read_options", breaking(plan_module.read_options))
        assert planner.plan(RouteTable(version=1, services=[HEALTHY, bad])).faults
    again = msgspec.structs.replace(bad, labels={**bad.labels, "other": "x"})
    found = planner.plan(RouteTable(version=2, services=[HEALTHY, again]))
    assert found.faults == {}
    assert found.services["id-bad"].routers
    assert "tcp/127.0.0.1/8001" in found.bindings
