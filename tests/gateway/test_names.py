"""Names in Traefik's labels: a service's own, then its stack's, then everybody's; what differs is nobody's."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from essaim.gateway.control.plan import Planned, Planner
from essaim.gateway.protocol.routes import RoutePort, RouteService, RouteTable
from tests.ports import free_port

from .conftest import Backends, endpoint, entry_points, exchange, gateway_with, table

H, T = "traefik.http.", "traefik.tcp."
R, S, M = H + "routers.", H + "services.", H + "middlewares."
STACK = "com.docker.stack.namespace"


def of(stack: str, name: str, labels: dict[str, str], *ports: int, backend: int = 9) -> RouteService:
    full = f"{stack}_{name}" if stack else name
    served = [
        RoutePort(protocol="tcp", target_port=port, published_port=0, endpoints=[endpoint(f"{full}.1", backend)])
        for port in ports or (80,)
    ]
    return RouteService(id=f"id-{full}", name=full, labels=({STACK: stack} if stack else {}) | labels, ports=served)


def planned(*services: RouteService) -> Planned:
    made = Planner("127.0.0.1", entry_points({"web": 80, "other": 8080}))
    return made.plan(RouteTable(version=1, services=sorted(services, key=lambda one: one.name)))


def leads_to(found: Planned, service: str) -> dict[str, set[str]]:
    """The services whose replicas each of a service's routers leads to, by router."""
    replicas = {port.key: {one.task_id.rpartition(".")[0] for one in port.endpoints}
                for plan in found.services.values() for port in plan.ports}  # fmt: skip
    return {router.name: replicas[router.port_key] for router in found.services[f"id-{service}"].all_routers}


def warnings_of(found: Planned, service: str) -> str:
    return "\n".join(found.warnings.get(f"id-{service}", []))


def test_one_file_deployed_twice_keeps_each_stack_to_itself() -> None:
    def web(stack: str) -> RouteService:
        return of(stack, "web", {
            R + "web.rule": f"Host(`{stack}.example`)", R + "web.service": "web", R + "web.middlewares": "auth",
            S + "web.loadbalancer.server.port": "80", M + "auth.basicauth.users": f"{stack}:" + "{SHA}x=",
            T + "routers.web.rule": f"HostSNI(`{stack}.example`)", T + "routers.web.tls": "true",
        })  # fmt: skip

    found = planned(web("prod"), web("dev"))
    for stack in ("prod", "dev"):
        assert leads_to(found, f"{stack}_web") == {"web": {f"{stack}_web"}}
        users = [one.options["users"] for one in found.services[f"id-{stack}_web"].routers[0].chain]
        assert users == [f"{stack}:" + "{SHA}x="]
        assert len(found.services[f"id-{stack}_web"].tcp_routers) == 1
        assert warnings_of(found, f"{stack}_web") == ""


PORT = S + "api.loadbalancer.server.port"
STICKY = S + "api.loadbalancer.sticky"


@pytest.mark.parametrize(
    ("others", "expected", "said"),
    [
        ([], None, "there is no service 'api' with a port"),
        ([of("one", "a", {PORT: "80"})], {"one_a"}, ""),
        ([of("two", "a", {PORT: "80"})], {"two_a"}, ""),
        ([of("one", "a", {PORT: "80"}), of("two", "a", {PORT: "80"})], {"one_a"}, ""),
        ([of("one", "a", {PORT: "80"}), of("one", "b", {PORT: "80"})], {"one_a", "one_b"}, ""),
        ([of("one", "a", {PORT: "80"}), of("one", "b", {PORT: "80", STICKY: "true"})], None,
         "the service 'api' is defined differently by one_a, one_b: rename all but one"),
        ([of("two", "a", {PORT: "80"}), of("three", "b", {PORT: "81"}, 81)], None,
         "the service 'api' is defined differently by three_b, two_a: rename all but one"),
    ],
)  # fmt: skip
def test_service_of_a_name_is_the_nearest_or_nobodys(
    others: list[RouteService], expected: set[str] | None, said: str
) -> None:
    found = planned(of("one", "user", {R + "x.rule": "Host(`x`)", R + "x.service": "api"}), *others)
    assert leads_to(found, "one_user") == ({} if expected is None else {"x": expected})
    assert said in warnings_of(found, "one_user")
    assert bool(said) == bool(warnings_of(found, "one_user"))


def prefix(found: Planned, service: str) -> list[str]:
    return [one.options["prefix"] for router in found.services[f"id-{service}"].routers for one in router.chain]


def test_names_in_a_chain_are_looked_up_where_the_chain_is_defined() -> None:
    chain = {M + "both.chain.middlewares": "inner"}
    using = {R + "x.rule": "Host(`x`)", R + "x.middlewares": "both@docker"}
    found = planned(
        of("one", "user", using | {M + "inner.addprefix.prefix": "/no"}),
        of("shared", "a", chain | {M + "inner.addprefix.prefix": "/shared"}),
    )
    assert prefix(found, "one_user") == ["/shared"]
    twice = planned(
        of("one", "user", {R + "x.rule": "Host(`x`)", R + "x.middlewares": "both"}),
        of("shared", "a", chain | {M + "inner.addprefix.prefix": "/shared"}),
        of("other", "a", chain | {M + "inner.addprefix.prefix": "/other"}),
    )
    assert prefix(twice, "one_user") == []
    assert "the middleware 'both' is defined differently by other_a, shared_a" in warnings_of(twice, "one_user")


def test_chains_of_many_services_are_refused_in_time() -> None:
    services = [
        of(f"s{depth}{side}", "a", {M + f"c{depth}.chain.middlewares": f"c{depth + 1}"})
        for depth in range(20)
        for side in ("x", "y")
    ]
    found = planned(of("one", "user", {R + "x.rule": "Host(`x`)", R + "x.middlewares": "c0"}), *services)
    assert "x is not served: " in warnings_of(found, "one_user")


BLUE = {R + "web.rule": "Host(`a`)", S + "web.loadbalancer.server.port": "80"}


def test_services_of_a_stack_with_equal_router_labels_share_the_router() -> None:
    found = planned(of("shop", "blue", BLUE), of("shop", "green", BLUE), of("other", "red", BLUE))
    assert leads_to(found, "shop_blue") == {"web": {"shop_blue", "shop_green"}}
    assert leads_to(found, "shop_green") == {}
    assert "have the same rule and priority" in warnings_of(found, "shop_blue")
    assert "routers web of other_red and web of shop_blue" in warnings_of(found, "other_red")


@pytest.mark.parametrize(
    "difference",
    [{R + "web.priority": "7"}, {S + "web.loadbalancer.sticky": "true"}, {"essaim.balance": "random"}],
)
def test_services_with_different_labels_keep_routers_of_their_own(difference: dict[str, str]) -> None:
    found = planned(of("shop", "blue", BLUE), of("shop", "green", BLUE | difference))
    assert leads_to(found, "shop_blue") == {"web": {"shop_blue"}}
    assert leads_to(found, "shop_green") == {"web": {"shop_green"}}


def test_shared_router_follows_both_services_from_table_to_table() -> None:
    lasting = Planner("127.0.0.1", entry_points({"web": 80}))
    blue, green = of("shop", "blue", BLUE), of("shop", "green", BLUE)
    for services in ([blue, green], [blue], [blue, green], [green]):
        found = lasting.plan(RouteTable(version=1, services=services))
        assert leads_to(found, services[0].name) == {"web": {one.name for one in services}}
    more = of("shop", "green", BLUE, 80, 81)
    lasting.plan(RouteTable(version=2, services=[blue, green]))
    emptied = RouteService(id=more.id, name=more.name, labels=more.labels, ports=[
        RoutePort(protocol="tcp", target_port=80, published_port=0, endpoints=[]) ])  # fmt: skip
    found = lasting.plan(RouteTable(version=3, services=[blue, emptied]))
    assert leads_to(found, "shop_blue") == {"web": {"shop_blue"}}


names = st.sampled_from(["web", "auth", "api"])


@st.composite
def shapes(draw: st.DrawFn) -> list[tuple[str, dict[str, str]]]:
    """The services of one stack: routers that use names, and definitions of some of them."""
    found = []
    for service in draw(st.lists(st.sampled_from(["a", "b"]), min_size=1, unique=True)):
        labels = {}
        for name in draw(st.lists(names, unique=True)):
            labels[R + f"{name}.rule"] = f"Host(`{draw(names)}.STACK`)"
            if draw(st.booleans()):
                labels[R + f"{name}.service"] = draw(names)
            if draw(st.booleans()):
                labels[R + f"{name}.middlewares"] = draw(names)
        for name in draw(st.lists(names, unique=True)):
            labels[S + f"{name}.loadbalancer.server.port"] = "80"
        for name in draw(st.lists(names, unique=True)):
            labels[M + f"{name}.addprefix.prefix"] = "/STACK"
        found.append((service, labels))
    return found


def deployed(stack: str, shape: list[tuple[str, dict[str, str]]]) -> list[RouteService]:
    return [
        of(stack, name, {key: value.replace("STACK", stack) for key, value in labels.items()}) for name, labels in shape
    ]


@given(shapes(), shapes())
def test_no_stack_reaches_another_that_defines_the_same_names(
    one: list[tuple[str, dict[str, str]]], other: list[tuple[str, dict[str, str]]]
) -> None:
    """A stack that defines what it uses is served as if it were alone; nobody gets half of somebody else's."""
    alone, both = planned(*deployed("dev", one)), planned(*deployed("dev", one), *deployed("prod", other))
    for service in deployed("dev", one):
        known = {router.name for router in alone.services[service.id].routers}
        served = leads_to(both, service.name)
        for name in known:
            # It was complete by itself, so nothing that another stack says can change it.
            assert served[name] == leads_to(alone, service.name)[name]
            assert [one for one in both.services[service.id].routers if one.name == name] == [
                one for one in alone.services[service.id].routers if one.name == name
            ]


async def test_blue_and_green_both_answer_at_an_entry_point(tmp_path: Path, backends: Backends) -> None:
    port = free_port()
    services = [of("shop", name, BLUE, backend=await backends.web(name)) for name in ("blue", "green")]
    request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    async with gateway_with(tmp_path, entry_points({"web": port})) as gateway:
        await gateway.apply(table(1, *services))
        answers = await asyncio.gather(*(exchange(port, request) for _ in range(20)))
        assert {name for name in ("blue", "green") if any(name.encode() in one for one in answers)} == {"blue", "green"}
        served = {
            task["task_id"]: sum(task["codes"].values()) for one in await gateway.traffic() for task in one["tasks"]
        }
        assert sum(served.values()) == 20
        assert set(served) == {"shop_blue.1", "shop_green.1"}
        text = await gateway.metrics()
        told = [line for line in text.splitlines() if line.startswith("essaim_gateway_requests_total{")]
        totals = {
            name: sum(float(line.split()[-1]) for line in told if f'service="shop_{name}"' in line)
            for name in ("blue", "green")
        }
        assert totals == {name: served[f"shop_{name}.1"] for name in totals}
        series = [line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")]
        assert len(set(series)) == len(series)
