"""The small decisions, one by one: restarts, drain, ports, routes, the agenda."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from essaim.cluster.routes import RouteEndpoint, RoutePort, RouteService, RouteTable
from essaim.cluster.service import EndpointSpec, PortConfig, RestartPolicy, Service, ServiceSpec, TaskSpec
from essaim.cluster.task import RestartRecord, Task, TaskEndpoint, TaskStatus
from essaim.scheduler.agenda import Agenda
from essaim.scheduler.allocate.ports import FIRST, LAST, allocate, is_allocated, taken_ports
from essaim.scheduler.restart import next_restart
from essaim.scheduler.traffic.drain import NO_GATEWAY, DrainGate, limit_of
from essaim.scheduler.traffic.routes import RouteCache, route_table
from tests.scheduler.world import LONG, World, replicated

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NANO = 10**9

# -- restarts ------------------------------------------------------------------------------------------------------


def ended(state: str, *, ran: float | None = None, record: RestartRecord | None = None) -> Task:
    since = NOW - timedelta(seconds=ran) if ran is not None else None
    return Task(
        id="t",
        spec=TaskSpec(),
        status=TaskStatus(state=state),
        updated_at=NOW,
        running_since=since,
        restarts=record,
    )


@pytest.mark.parametrize(
    ("condition", "state", "restarts"),
    [
        (None, "failed", True),
        (None, "complete", True),
        ("any", "complete", True),
        ("on-failure", "failed", True),
        ("on-failure", "rejected", True),
        ("on-failure", "complete", False),
        ("none", "failed", False),
    ],
)
def test_restart_follows_the_condition(condition: str | None, state: str, restarts: bool) -> None:
    found = next_restart(ended(state), RestartPolicy(condition=condition), NOW)
    assert (found is not None) is restarts


def test_restart_comes_five_seconds_after_the_end_unless_said_otherwise() -> None:
    found = next_restart(ended("failed"), None, NOW + timedelta(seconds=2))
    assert found is not None
    assert found.at == NOW + timedelta(seconds=5)


def test_restart_does_not_trust_an_end_in_the_future() -> None:
    task = msgspec.structs.replace(ended("failed"), updated_at=NOW + timedelta(hours=1))
    found = next_restart(task, None, NOW)
    assert found is not None
    assert found.at == NOW + timedelta(seconds=5)


def test_attempts_within_the_window_are_limited_and_older_ones_forgotten() -> None:
    policy = RestartPolicy(max_attempts=2, window=60 * NANO)
    record = RestartRecord(count=7, recent=[NOW - timedelta(seconds=s) for s in (90, 50, 10)])
    assert next_restart(ended("failed", record=record), policy, NOW) is None
    later = next_restart(ended("failed", record=record), policy, NOW + timedelta(seconds=20))
    assert later is not None
    assert len(later.record.recent or []) == 2


def test_backoff_doubles_after_quick_ends_and_ends_with_a_steady_run() -> None:
    delays = []
    record: RestartRecord | None = None
    for _ in range(9):
        found = next_restart(ended("failed", ran=1, record=record), RestartPolicy(delay=NANO), NOW)
        assert found is not None
        delays.append((found.at - NOW).total_seconds())
        record = found.record
    assert delays == [1, 1, 1, 2, 4, 8, 16, 32, 60]
    steady = next_restart(ended("failed", ran=120, record=record), RestartPolicy(delay=NANO), NOW)
    assert steady is not None
    assert steady.record.streak == 0
    assert steady.at == NOW + timedelta(seconds=1)


def test_backoff_never_shortens_a_long_delay() -> None:
    record = RestartRecord(count=50, streak=50)
    found = next_restart(ended("failed", record=record), RestartPolicy(delay=300 * NANO), NOW)
    assert found is not None
    assert found.at == NOW + timedelta(seconds=300)


# -- drain ---------------------------------------------------------------------------------------------------------


def table(version: int, **tasks: str) -> RouteTable:
    endpoints = [
        RouteEndpoint(task_id=i, task_name=i, node_id="n", address="127.0.0.1", port=1, state=state)
        for i, state in tasks.items()
    ]
    ports = [RoutePort(protocol="tcp", target_port=80, published_port=80, endpoints=endpoints)]
    return RouteTable(version=version, services=[RouteService(id="s", name="s", ports=ports)])


def test_gate_opens_once_every_gateway_has_the_table_and_no_open_request() -> None:
    gate = DrainGate()
    gate.connect("a", 0)
    gate.connect("b", 0)
    gate.applied("a", 4, {})
    gate.applied("b", 4, {})
    gate.begin("t", 10, 1)
    gate.published(table(5, t="up"))
    assert gate.release(1) == []
    gate.published(table(6, t="draining"))
    gate.applied("a", 6, {})
    assert gate.release(2) == []
    gate.applied("b", 6, {"t": 2})
    assert gate.release(2) == []
    gate.applied("b", 5, {})  # an answer to an older table, overtaken
    assert gate.release(2) == []
    gate.applied("b", 6, {})
    assert gate.is_held("t")
    assert gate.release(2) == ["t"]
    assert not gate.is_held("t")
    gate.begin("t", 10, 3)
    assert not gate.is_held("t"), "what was let go once is not held again"


def test_gate_opens_at_the_limit_and_for_nodes_without_a_gateway() -> None:
    gate = DrainGate()
    gate.connect("a", 0)
    gate.begin("t", 10, 0)
    gate.published(table(6, t="draining"))
    assert gate.release(NO_GATEWAY - 0.1) == []
    assert gate.release(NO_GATEWAY) == ["t"]
    gate.applied("a", 5, {})
    gate.begin("u", 10, 5)
    assert gate.release(14.9) == []
    assert gate.release(15) == ["u"]


def test_gate_waits_for_gateways_that_are_not_connected_and_may_serve() -> None:
    """A new leader has heard nobody; a daemon that is being restarted has workers that serve by its last table."""
    gate = DrainGate()
    gate.begin("t", 10, 0)
    gate.published(table(6, t="draining"))
    assert gate.release(1, ["a", "b"]) == []
    gate.connect("a", 1)
    gate.applied("a", 6, {})
    assert gate.release(2, ["a", "b"]) == []
    gate.connect("b", 2)
    assert gate.release(2, ["a", "b"]) == []
    gate.applied("b", 6, {})
    gate.disconnect("a")
    assert gate.release(3, ["a", "b"]) == []
    assert gate.release(3, ["b"]) == ["t"], "a is known to be down"
    gate.begin("u", 10, 20)
    gate.published(table(7, u="draining"))
    assert gate.release(29.9, ["a", "b"]) == []
    assert gate.release(30, ["a", "b"]) == ["u"]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(None, 10), ("", 10), ("30s", 30), ("500ms", 0.5), ("1m", 60), ("2", 2), ("0s", 0), ("soon", 10)],
)
def test_drain_limit_is_read_from_the_label(text: str | None, seconds: float) -> None:
    assert limit_of(None if text is None else {"essaim.drain": text}) == seconds


# -- ports ---------------------------------------------------------------------------------------------------------


def service_with(*ports: PortConfig, name: str = "s") -> Service:
    return Service(id=name, spec=ServiceSpec(name=name, endpoint_spec=EndpointSpec(ports=list(ports))))


def ports_of(service: Service | str) -> list[tuple[str | None, int | None]]:
    assert isinstance(service, Service), service
    assert service.endpoint is not None
    return [(p.protocol, p.published_port) for p in service.endpoint.ports or []]


def test_absent_published_port_comes_from_the_dynamic_range_and_stays() -> None:
    taken = {("tcp", FIRST), ("udp", FIRST + 1)}
    first = allocate(service_with(PortConfig(target_port=80), PortConfig(target_port=53, protocol="udp")), taken)
    assert ports_of(first) == [("tcp", FIRST + 1), ("udp", FIRST)]
    assert isinstance(first, Service)
    assert is_allocated(first)
    grown = msgspec.structs.replace(
        first,
        spec=service_with(PortConfig(target_port=81, published_port=9), PortConfig(target_port=80)).spec,
    )
    assert not is_allocated(grown)
    assert ports_of(allocate(grown, taken | taken_ports([first]))) == [("tcp", 9), ("tcp", FIRST + 1)]


def test_taken_fixed_port_is_refused_with_the_reason() -> None:
    outcome = allocate(service_with(PortConfig(target_port=80, published_port=80)), {("tcp", 80)})
    assert outcome == "port 80/tcp is already in use by another service as an ingress port"
    assert ports_of(allocate(service_with(PortConfig(target_port=80, published_port=80)), {("udp", 80)}))


def test_host_mode_port_is_taken_by_nobody_and_may_be_left_to_the_node() -> None:
    host = PortConfig(target_port=80, publish_mode="host")
    outcome = allocate(service_with(host), {("tcp", 80)})
    assert ports_of(outcome) == [("tcp", None)]
    assert isinstance(outcome, Service)
    assert taken_ports([outcome]) == set()


def test_exhausted_range_is_said() -> None:
    taken = {("tcp", port) for port in range(FIRST, LAST + 1)}
    assert allocate(service_with(PortConfig(target_port=80)), taken) == (
        "no free port is left in 30000-32767 for target port 80"
    )


# -- routes --------------------------------------------------------------------------------------------------------


def test_table_says_what_gateways_need() -> None:
    world = World()
    world.add_node("n1", labels={"zone": "a"})
    world.add_node("n2", labels={"essaim.zone": "b", "zone": "x"})
    spec = replicated("web", 2, ports=[(4000, 80)], labels={"essaim.port.80.protocol": "http"})
    service = world.add_service(spec)
    world.add_service(replicated("hidden", 2))
    world.settle()
    found = route_table(world.store)
    assert [s.name for s in found.services] == ["web"]
    (port,) = found.services[0].ports
    assert (port.published_port, port.target_port, port.app_protocol) == (4000, 80, "http")
    assert [(e.task_name, e.zone, e.state) for e in port.endpoints] == [
        (t.name, {"n1": "a", "n2": "b"}[t.node_id or ""], "up")
        for t in sorted(world.running(service.id), key=lambda t: t.slot or 0)
    ]
    assert {e.version for e in port.endpoints} == {service.spec_version.index if service.spec_version else 0}
    assert [(g.node_id, g.address, g.zone) for g in found.gateways] == [
        ("n1", "127.0.0.1", "a"),
        ("n2", "127.0.0.1", "b"),
    ]


def test_port_named_by_a_routing_label_alone_is_routed_unpublished() -> None:
    world = World()
    world.add_nodes(1)
    labels = {"traefik.http.services.web.loadbalancer.server.port": "8080"}
    world.add_service(replicated("web", 1, labels=labels))
    world.settle()
    (port,) = route_table(world.store).services[0].ports
    assert (port.published_port, port.target_port, port.app_protocol) == (0, 8080, "http")
    assert len(port.endpoints) == 1


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("http://st_auth:9091/verify", [9091]),
        ("http://auth:9091", [9091]),
        ("http://tasks.AUTH/", [80]),
        ("https://auth:9091", []),
        ("http://other:9091", []),
        ("http://auth:port", []),
        ("http://[auth", []),
    ],
)
def test_port_at_which_a_service_says_who_may_pass_is_routed_unpublished(address: str, found: list[int]) -> None:
    labels = {"traefik.http.middlewares.a.forwardauth.address": address, "com.docker.stack.namespace": "st"}
    world = World()
    world.add_nodes(1)
    world.add_service(replicated("st_auth", 1, labels=labels))
    world.settle()
    ports = [port for service in route_table(world.store).services for port in service.ports]
    assert [(port.published_port, port.target_port) for port in ports] == [(0, port) for port in found]
    assert all(len(port.endpoints) == 1 for port in ports)


def test_down_node_is_in_no_route() -> None:
    world = World()
    world.add_nodes(2)
    world.add_service(replicated("web", 2, ports=[(4000, 80)]))
    world.settle()
    world.node_down("n2")
    found = route_table(world.store)
    assert [e.node_id for e in found.services[0].ports[0].endpoints] == ["n1"]
    assert [g.node_id for g in found.gateways] == ["n1"]


@settings(deadline=None, derandomize=not LONG)
@given(st.integers(0, 10_000), st.integers(1, 40))
def test_cached_table_equals_the_one_made_anew(seed: int, steps: int) -> None:
    world = World(seed)
    world.add_nodes(3)
    for name, port in (("a", 1000), ("b", 1001), ("c", 0)):
        world.add_service(replicated(name, 3, ports=[(port, 80)]))
    cache = RouteCache()
    with world.store.watch(*cache.tables) as watch:
        for _ in range(steps):
            what = world.chance.choice(["step", "step", "step", "down", "back", "label", "sick", "remove"])
            number = world.chance.randrange(1, 4)
            if what == "step":
                world.step()
            elif what == "down":
                world.node_down(f"n{number}")
            elif what == "back":
                world.node_back(f"n{number}")
            elif what == "label":
                world.change_node(f"n{number}", labels={"zone": str(seed)})
            elif what == "sick":
                for task in world.running("svc-a")[:1]:
                    world.put("tasks", msgspec.structs.replace(task, status=TaskStatus(state="running", healthy=False)))
            elif what == "remove" and number == 1:
                world.remove_service("svc-b")
            cache.observe(watch.drain())
            one, other = cache.table(world.store), route_table(world.store)
            assert (one.services, one.gateways) == (other.services, other.gateways)
            assert not cache.is_stale


def test_unchanged_table_is_the_same_object() -> None:
    world = World()
    world.add_nodes(1)
    service = world.add_service(replicated("web", 1, ports=[(4000, 80)]))
    world.settle()
    cache = RouteCache()
    first = cache.table(world.store)
    with world.store.watch(*cache.tables) as watch:
        task = world.running(service.id)[0]
        world.put("tasks", msgspec.structs.replace(task, status=msgspec.structs.replace(task.status, message="x")))
        cache.observe(watch.drain())
        assert cache.is_stale
        assert cache.table(world.store) is first


def test_endpoint_of_another_port_is_not_mixed_in() -> None:
    world = World()
    world.add_nodes(1)
    service = world.add_service(replicated("web", 1, ports=[(4000, 80), (4001, 81)]))
    world.settle()
    task = world.running(service.id)[0]
    endpoints = [
        TaskEndpoint(protocol="tcp", target_port=80, address="10.0.0.1", port=1),
        TaskEndpoint(protocol="udp", target_port=81, address="10.0.0.1", port=2),
    ]
    world.put("tasks", msgspec.structs.replace(task, endpoints=endpoints))
    ports = route_table(world.store).services[0].ports
    assert [[e.port for e in p.endpoints] for p in ports] == [[1], []]


# -- the agenda ----------------------------------------------------------------------------------------------------


def test_agenda_gives_each_key_once_and_timers_in_time() -> None:
    agenda = Agenda()
    agenda.add("a")
    agenda.add("b")
    agenda.add("a")
    agenda.at(NOW + timedelta(seconds=5), "c")
    agenda.at(NOW + timedelta(seconds=2), "c")
    assert agenda.take(NOW, 1) == ["a"]
    assert agenda.has_due
    assert agenda.take(NOW, 10) == ["b"]
    assert agenda.next_time() == NOW + timedelta(seconds=2)
    assert agenda.take(NOW + timedelta(seconds=2), 10) == ["c"]
    assert agenda.next_time() is None


def test_agenda_forgets_the_timer_of_a_key_that_came_earlier() -> None:
    agenda = Agenda()
    agenda.at(NOW + timedelta(seconds=5), "a")
    agenda.add("a")
    assert agenda.take(NOW, 10) == ["a"]
    assert agenda.next_time() is None
    assert agenda.take(NOW + timedelta(seconds=9), 10) == []
