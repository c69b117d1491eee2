"""The route table as messages: changes add up to the whole, for whoever is behind by however much."""

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from essaim.cluster import wire
from essaim.cluster.route_delta import WrongBase, apply_delta, changed_services, make_delta
from essaim.cluster.routes import RouteEndpoint, RouteGateway, RoutePort, RouteService, RouteTable
from essaim.scheduler.traffic.route_history import MAX_STEPS, RouteHistory

NAMES = "abcd"
contents = st.tuples(
    st.dictionaries(st.sampled_from(NAMES), st.lists(st.integers(1, 3), max_size=3)),
    st.sets(st.sampled_from(["n1", "n2"])),
    st.sets(st.sampled_from(["n1", "n3"])),
)


def table(version: int, services: dict[str, list[int]], gateways: set[str], idle: set[str] = frozenset()) -> RouteTable:
    """Services by name, with the ports of their endpoints."""

    def service(name: str, ports: list[int]) -> RouteService:
        endpoints = [
            RouteEndpoint(task_id=f"{name}{n}", task_name=name, node_id="n1", address="127.0.0.1", port=port)
            for n, port in enumerate(ports)
        ]
        port = RoutePort(protocol="tcp", target_port=80, published_port=4000, endpoints=endpoints)
        return RouteService(id=f"id-{name}", name=name, ports=[port])

    return RouteTable(
        version=version,
        services=[service(name, services[name]) for name in sorted(services)],
        gateways=[RouteGateway(node_id=node, hostname=node, address="127.0.0.1") for node in sorted(gateways)],
        idle=sorted(idle),
    )


def receive(known: RouteTable | None, message: bytes) -> RouteTable:
    decoded = wire.decode_to_agent(message)
    if isinstance(decoded, wire.Routes):
        return decoded.table
    assert isinstance(decoded, wire.RoutesChanged)
    assert known is not None
    return apply_delta(known, decoded.delta)


@given(contents, contents)
def test_delta_applied_is_the_new_table_and_fits_no_other(one: tuple[object, ...], other: tuple[object, ...]) -> None:
    old, new = table(1, *one), table(2, *other)  # type: ignore[arg-type]
    delta = make_delta(1, changed_services(old, new), (old.gateways, old.idle) != (new.gateways, new.idle), new)
    assert apply_delta(old, delta) == new
    for service in delta.services:
        assert service not in old.services
    try:
        apply_delta(new, delta)
    except WrongBase:
        return
    raise AssertionError("a delta was applied to a table that it does not fit")


@settings(deadline=None)
@given(st.lists(st.tuples(contents, st.sets(st.integers(0, 2))), max_size=12))
def test_history_brings_every_session_to_the_newest_table(steps: list[tuple[tuple[object, ...], set[int]]]) -> None:
    """Three sessions read now and then; each message says all that happened since the last."""
    history = RouteHistory()
    known: list[RouteTable | None] = [None, None, None]
    for version, (content, readers) in enumerate(steps, 1):
        new = table(version, *content)  # type: ignore[arg-type]
        assert history.publish(new)
        assert not history.publish(new)
        for reader in readers:
            mine = known[reader]
            news = history.since(mine.version if mine is not None else None)
            assert news is not None
            known[reader] = receive(mine, news[1])
            assert known[reader] == new
            assert history.since(version) is None


def test_history_sends_the_whole_to_who_is_too_far_behind_or_unheard_of() -> None:
    history = RouteHistory()
    for version in range(1, MAX_STEPS + 3):
        history.publish(table(version, {"a": [version]}, set()))
    kinds = {
        base: type(wire.decode_to_agent(news[1]))
        for base in (None, 1, 2, MAX_STEPS + 1, 999_999)
        if (news := history.since(base))
    }
    assert kinds == {
        None: wire.Routes,
        1: wire.Routes,
        2: wire.RoutesChanged,
        MAX_STEPS + 1: wire.RoutesChanged,
        999_999: wire.Routes,
    }


def test_one_change_among_many_services_is_a_small_message() -> None:
    services = {f"s{n:04}": [n] * 10 for n in range(500)}
    history = RouteHistory()
    first = table(1, services, {"n1"})
    history.publish(first)
    whole = history.since(None)
    changed = [table(2, {"s0007": [1]}, set()).services[0], *first.services]
    changed.pop(8)
    history.publish(msgspec.structs.replace(first, version=2, services=sorted(changed, key=lambda s: s.name)))
    news = history.since(1)
    assert whole is not None
    assert news is not None
    assert len(news[1]) * 100 < len(whole[1])
    decoded = wire.decode_to_agent(news[1])
    assert isinstance(decoded, wire.RoutesChanged)
    assert [service.name for service in decoded.delta.services] == ["s0007"]
    assert decoded.delta.gateways is None
