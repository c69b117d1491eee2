"""Plans that are made from table to table are those that a planner without a past would make."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from essaim.gateway.control.plan import Planned, Planner
from essaim.gateway.protocol.routes import RoutePort, RouteService, RouteTable

from .conftest import endpoint, entry_points

NAMES = ["a", "b"]
MIDDLEWARE = "traefik.http.middlewares."
LABELS = [
    ("traefik.http.routers.{0}.rule", "Host(`{1}`)"),
    ("traefik.http.routers.{0}.rule", "Hots(`{1}`)"),
    ("traefik.http.routers.{0}.middlewares", "{1}"),
    ("traefik.http.routers.{0}.middlewares", "{1}@docker,{0}"),
    ("traefik.http.routers.{0}.service", "{1}"),
    ("traefik.http.services.{0}.loadbalancer.server.port", "80"),
    ("traefik.http.services.{0}.loadbalancer.server.port", "81"),
    (MIDDLEWARE + "{0}.stripprefix.prefixes", "/{1}"),
    (MIDDLEWARE + "{0}.chain.middlewares", "{1}"),
    (MIDDLEWARE + "{0}.ratelimit.average", "many"),
    (MIDDLEWARE + "{0}.forwardauth.address", "http://{1}:81"),
    ("traefik.enable", "false"),
    ("essaim.retries", "2"),
    ("essaim.retrys", "2"),
]
names = st.sampled_from(NAMES)


@st.composite
def labels(draw: st.DrawFn) -> dict[str, str]:
    found = {}
    for key, value in draw(st.lists(st.sampled_from(LABELS), max_size=5)):
        one, other = draw(names), draw(names)
        found[key.format(one, other)] = value.format(one, other)
    return found


@st.composite
def services(draw: st.DrawFn) -> list[RouteService]:
    found = []
    for name in draw(st.lists(names, unique=True)):
        ports = [
            RoutePort(
                protocol=draw(st.sampled_from(["tcp", "tcp", "udp", "sctp"])),
                target_port=draw(st.sampled_from([80, 81])),
                published_port=draw(st.sampled_from([0, 0, 80, 8080])),
                app_protocol=draw(st.sampled_from(["tcp", "http"])),
                endpoints=[endpoint(f"{name}.{number}", 9) for number in range(draw(st.integers(0, 2)))],
            )
            for _ in range(draw(st.integers(0, 2)))
        ]
        found.append(RouteService(id=f"id-{name}", name=name, labels=draw(labels()), ports=ports))
    return found


def without_turns(planned: Planned) -> Any:
    """A port's place among the counters depends on the past, and is meant to."""
    plans = {
        key: msgspec.structs.replace(plan, ports=[msgspec.structs.replace(port, turn=0) for port in plan.ports])
        for key, plan in planned.services.items()
    }
    return plans, planned.bindings, planned.warnings


def planner() -> Planner:
    return Planner("127.0.0.1", entry_points({"web": 80, "other": 8080}))


@st.composite
def changed(draw: st.DrawFn, before: list[RouteService]) -> list[RouteService]:
    """A table in which most services stay the same object, as in one that came as a change."""
    fresh = {service.id: service for service in draw(services())}
    kept = [service for service in before if draw(st.booleans()) or service.id not in fresh]
    known = {service.id for service in kept}
    return [*kept, *(service for key, service in fresh.items() if key not in known)]


@settings(max_examples=50)
@given(st.data())
def test_planner_with_a_past_plans_as_one_without(data: st.DataObject) -> None:
    lasting = planner()
    table: list[RouteService] = data.draw(services())
    for version in range(5):
        made = RouteTable(version=version, services=table)
        assert without_turns(lasting.plan(made)) == without_turns(planner().plan(made))
        table = data.draw(changed(table))


R, M, S = "traefik.http.routers.", MIDDLEWARE, "traefik.http.services."
RULE = {R + "x.rule": "Host(`x`)"}


@pytest.mark.parametrize(
    ("user", "before", "after"),
    [
        (R + "x.middlewares=m", {M + "m.stripprefix.prefixes": "/a"}, {M + "m.stripprefix.prefixes": "/b"}),
        (R + "x.middlewares=m", {}, {M + "m.stripprefix.prefixes": "/b"}),
        (R + "x.middlewares=m@docker", {M + "m.stripprefix.prefixes": "/a"}, {}),
        (R + "x.middlewares=M", {M + "m.chain.middlewares": "n", M + "n.replacepath.path": "/a"},
         {M + "m.chain.middlewares": "n", M + "n.replacepath.path": "/b"}),
        (R + "x.service=other", {S + "other.loadbalancer.server.port": "80"},
         {S + "other.loadbalancer.server.port": "81"}),
        (R + "x.service=other", {S + "other.loadbalancer.server.port": "80"}, {"traefik.enable": "false"}),
    ],
)  # fmt: skip
def test_planner_router_follows_what_another_service_defines(
    user: str, before: dict[str, str], after: dict[str, str]
) -> None:
    def one(name: str, labels: dict[str, str]) -> RouteService:
        ports = [RoutePort(protocol="tcp", target_port=n, published_port=0, endpoints=[]) for n in (80, 81)]
        return RouteService(id=name, name=name, labels=labels, ports=ports)

    label, _, value = user.partition("=")
    using, lasting = one("using", RULE | {label: value}), planner()
    for version, labels in enumerate((before, after, before)):
        made = RouteTable(version=version, services=[using, one("defining", labels)])
        assert without_turns(lasting.plan(made)) == without_turns(planner().plan(made))
    made = RouteTable(version=9, services=[using])
    assert without_turns(lasting.plan(made)) == without_turns(planner().plan(made))


def test_planner_one_changed_endpoint_works_out_one_service() -> None:
    lasting = planner()
    rule = {"traefik.http.routers.{0}.rule": "Host(`{0}`)"}
    table = [
        RouteService(
            id=f"s{number}",
            name=f"s{number}",
            labels={key.format(number): value.format(number) for key, value in rule.items()},
            ports=[RoutePort(protocol="tcp", target_port=80, published_port=1000 + number, endpoints=[])],
        )
        for number in range(100)
    ]
    first = lasting.plan(RouteTable(version=1, services=table))
    port = msgspec.structs.replace(table[7].ports[0], endpoints=[endpoint("t", 9)])
    after = [*table]
    after[7] = msgspec.structs.replace(table[7], ports=[port])
    second = lasting.plan(RouteTable(version=2, services=after))
    assert [key for key in first.services if second.services[key] is not first.services[key]] == ["s7"]
    assert second.services["s7"].routers == first.services["s7"].routers
    assert second.bindings is first.bindings
