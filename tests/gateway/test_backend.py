"""Which endpoints are ready, who waits, and who is ejected."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from essaim.gateway.protocol.messages import EndpointPlan, PortPlan, ServicePlan
from essaim.gateway.protocol.options import ServiceOptions
from essaim.gateway.upstream.backend import EJECT_FIRST, EJECT_LONGEST, MAX_GONE, Backend


def plan(name: str, **more: Any) -> EndpointPlan:
    fields = {"node_id": "n1", "zone": None, "version": 1, "usable": True, "draining": False} | more
    return EndpointPlan(key=name, task_id=name, address="192.0.2.1", port=80, **fields)


class Scene:
    """A backend on node n1 in zone z1, and what it told."""

    def __init__(self, *plans: EndpointPlan, **options: Any) -> None:
        self.troubles: list[tuple[str, str]] = []
        self.drains = 0
        self.options = ServiceOptions(**options)
        turns = memoryview(bytearray(4)).cast("I")
        first = PortPlan("p", "tcp", 0, 80, [])
        self.backend = Backend(first, turns, ("n1", "z1"), self._trouble, self._drained)
        self.update(*plans)

    def _trouble(self, endpoint: Any, reason: str) -> None:
        self.troubles.append((endpoint.key, reason))

    def _drained(self) -> None:
        self.drains += 1

    def update(self, *plans: EndpointPlan, now: float = 0.0) -> None:
        port = PortPlan("p", "tcp", 0, 80, list(plans))
        self.backend.update(ServicePlan("s", "s", self.options, [port]), port, {}, now)

    @property
    def ready(self) -> list[str]:
        return [endpoint.key for endpoint in self.backend.ready]


replicas = st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=12)


@given(replicas, st.integers(0, 100))
def test_backend_below_the_panic_share_all_usable_are_ready(states: list[tuple[bool, ...]], panic: int) -> None:
    """Against the rule as it is written in the docs; each replica is usable, up, ejected or not."""
    scene = Scene(*(plan(str(n), usable=usable) for n, (usable, _, _) in enumerate(states)), panic=panic)
    for endpoint, (_, up, ejected) in zip(scene.backend.endpoints.values(), states, strict=True):
        endpoint.up = up
        endpoint.ejected_until = 10.0 if ejected else 0.0
    scene.backend.refresh(1.0)
    usable = {str(n) for n, (u, _, _) in enumerate(states) if u}
    fit = {str(n) for n, (u, up, _) in enumerate(states) if u and up}
    best = {str(n) for n, (u, up, ejected) in enumerate(states) if u and up and not ejected}
    panics = bool(usable) and 100 * len(best) / len(usable) < panic
    assert set(scene.ready) == (usable if panics else best or fit)


class Waiting:
    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.deadline = 0.0
        self.served: str | None = None

    def endpoint_ready(self) -> None:
        endpoint = self.backend.pick()
        if endpoint is None:
            self.backend.wait(self, 0.0)
        else:
            endpoint.open += 1
            self.served = endpoint.key

    def refuse_waiting(self, reason: str) -> None:
        self.served = reason


def test_backend_draining_and_unusable_endpoints_are_not_ready() -> None:
    scene = Scene(plan("a"), plan("b", usable=False, draining=True), plan("c", usable=False))
    assert scene.ready == ["a"]


def test_backend_failed_endpoint_is_ejected_for_a_doubling_time() -> None:
    scene = Scene(plan("a"), plan("b"))
    failing = scene.backend.endpoints["a"]
    now, spans = 0.0, []
    for _ in range(8):
        failing.failed("connection refused", now)
        assert scene.ready == ["b"]
        spans.append(failing.ejected_until - now)
        now = failing.ejected_until
        scene.backend.refresh(now)
        assert scene.ready == ["a", "b"]
    assert spans[:3] == [EJECT_FIRST, 2 * EJECT_FIRST, 4 * EJECT_FIRST]
    assert max(spans) == EJECT_LONGEST
    assert scene.troubles[0] == ("a", "connection refused")


def test_backend_all_ejected_are_all_tried_rather_than_none() -> None:
    scene = Scene(plan("a"), plan("b"))
    for endpoint in scene.backend.endpoints.values():
        endpoint.failed("x", 0.0)
    assert scene.ready == ["a", "b"]


def test_backend_server_errors_eject_only_up_to_the_share() -> None:
    scene = Scene(*(plan(name) for name in "abcd"), eject_5xx=3, eject_share=50)
    for _ in range(3):
        for endpoint in scene.backend.endpoints.values():
            endpoint.server_error(0.0)
    assert len(scene.ready) == 2
    assert all(reason == "3 server errors in a row" for _, reason in scene.troubles)


def test_backend_failure_rate_ejects_with_its_reason_for_a_doubling_time_that_good_connections_do_not_reset() -> None:
    scene = Scene(plan("a"), plan("b"), eject_rate=50, eject_least=20)
    failing, now, spans = scene.backend.endpoints["a"], 100.0, []
    for _ in range(7):
        for number in range(19):
            (failing.answered if number % 3 else failing.server_error)(now)
        for _ in range(20):
            if scene.ready == ["a", "b"]:
                failing.server_error(now)
        assert scene.ready == ["b"]
        spans.append(failing.ejected_until - now)
        # As `connect` does when a connection is made.
        failing.failures = 0
        now = failing.ejected_until
        scene.backend.refresh(now)
    assert spans == [1, 2, 4, 8, 16, 30, 30]
    assert set(scene.troubles) == {("a", "12 of 24 requests in 10 s failed")}
    now += EJECT_LONGEST + 1
    for _ in range(20):
        failing.server_error(now)
    assert failing.ejected_until - now == EJECT_FIRST


def test_backend_failure_rate_is_judged_from_the_least_number_on_and_within_the_window() -> None:
    scene = Scene(plan("a"), plan("b"), eject_rate=60, eject_least=5, eject_window=10.0)
    one = scene.backend.endpoints["a"]
    for _ in range(4):
        one.server_error(100.0)
    one.server_error(111.0)
    assert scene.ready == ["a", "b"]
    for at in (112.0, 113.0):
        one.answered(at)
    for at in (114.0, 115.0):
        one.server_error(at)
    assert scene.troubles == [("a", "3 of 5 requests in 10 s failed")]


def test_backend_failure_rate_ejects_only_up_to_the_share() -> None:
    scene = Scene(*(plan(name) for name in "abcd"), eject_rate=10, eject_least=2, eject_share=25)
    for _ in range(5):
        for endpoint in scene.backend.endpoints.values():
            endpoint.server_error(0.0)
    assert len(scene.ready) == 3


def test_backend_failures_of_an_ejected_endpoint_do_not_keep_it_out_longer() -> None:
    """They were sent before it was taken out."""
    scene = Scene(plan("a"), plan("b"), eject_rate=50, eject_least=2, eject_5xx=2)
    one = scene.backend.endpoints["a"]
    for _ in range(50):
        one.server_error(100.0)
    assert (one.ejections, one.ejected_until) == (1, 101.0)


def test_backend_failed_connection_does_not_shorten_an_ejection() -> None:
    scene = Scene(plan("a"), plan("b"), eject_5xx=1)
    one, now = scene.backend.endpoints["a"], 100.0
    for _ in range(5):
        one.server_error(now)
        now = one.ejected_until
    one.server_error(now)
    one.failed("connection refused", now + 1)
    assert one.ejected_until == now + EJECT_LONGEST


def test_backend_failure_rate_that_is_switched_off_or_changed_forgets() -> None:
    scene = Scene(plan("a"), plan("b"), eject_rate=50, eject_least=2)
    one = scene.backend.endpoints["a"]
    one.server_error(1.0)
    scene.update(plan("a"), plan("b"))
    assert one.rate is not None
    assert one.rate.requests == 1
    scene.options = ServiceOptions(eject_rate=50, eject_least=2, eject_window=5.0)
    scene.update(plan("a"), plan("b"))
    assert one.rate.requests == 0
    scene.options = ServiceOptions()
    scene.update(plan("a"), plan("b"))
    assert one.rate is None
    one.answered(1.0)
    assert not one.watched


def test_backend_near_prefers_the_node_then_the_zone_then_all() -> None:
    far, zone, local = plan("far", node_id="n3"), plan("zone", node_id="n2", zone="z1"), plan("local")
    scene = Scene(far, zone, local, near="node")
    assert scene.ready == ["local"]
    scene.update(far, zone)
    assert scene.ready == ["zone"]
    scene.update(far)
    assert scene.ready == ["far"]


def test_backend_near_ones_that_are_full_or_failed_spill_over_to_the_zone_and_then_to_all() -> None:
    far, zone, local = plan("far", node_id="n3"), plan("zone", node_id="n2", zone="z1"), plan("local")
    scene = Scene(far, zone, local, near="node", max_connections=2)
    picked = []
    for _ in range(7):
        endpoint = scene.backend.pick()
        picked.append(endpoint.key if endpoint else None)
        if endpoint:
            endpoint.open += 1
    assert picked == ["local", "local", "zone", "zone", "far", "far", None]
    tried = Scene(far, zone, local, near="node").backend
    assert [one.key for one in (tried.pick(tried={tried.endpoints["local"]}),) if one] == ["zone"]


def test_backend_near_does_not_change_the_shares_of_versions() -> None:
    """A node that has the new version alone asks others for the old one, and none for a version without a share."""
    new, old = plan("new", version=2), plan("old", version=1, node_id="n2")
    scene = Scene(new, old, near="node", version_weights={"latest": 5, "previous": 95})
    picks = [scene.backend.pick().key for _ in range(100)]  # type: ignore[union-attr]
    assert (picks.count("new"), picks.count("old")) == (5, 95)
    scene = Scene(new, old, near="node", version_weights={"latest": 0, "previous": 100})
    assert scene.ready == ["old"]
    assert scene.backend.pick(tried={scene.backend.endpoints["old"]}) is None
    scene = Scene(new, plan("too", version=1), old, near="node", version_weights={"previous": 100})
    assert scene.ready == ["too"]
    assert [[one.key for one in tier] for tier in scene.backend.farther] == [["old"]]


def test_backend_sticky_client_stays_with_its_replica_though_others_are_nearer() -> None:
    scene = Scene(plan("here"), plan("there", node_id="n2"), near="node")
    there = scene.backend.endpoints["there"]
    assert scene.ready == ["here"]
    assert scene.backend.tagged(there.tag) is there


def test_backend_retries_are_spread_and_not_all_sent_to_the_first() -> None:
    backend = Scene(*(plan(name) for name in "abcd")).backend
    for _ in range(30):
        other = backend.pick(tried={backend.endpoints["a"]})
        assert other is not None
        other.open += 1
    assert max(one.open for one in backend.endpoints.values()) <= 12


def test_backend_request_waits_and_is_served_when_an_endpoint_comes() -> None:
    scene = Scene(queue_timeout=5.0)
    waiter = Waiting(scene.backend)
    waiter.endpoint_ready()
    assert waiter.served is None
    assert waiter.deadline == 5.0
    scene.update(plan("a"), now=1.0)
    assert waiter.served == "a"


def test_backend_queue_is_bounded() -> None:
    scene = Scene(queue_limit=2)
    assert [scene.backend.wait(Waiting(scene.backend), 0.0) for _ in range(3)] == [True, True, False]
    assert scene.backend.refused == 1


def test_backend_full_endpoints_make_requests_wait_in_order_for_a_place() -> None:
    scene = Scene(plan("a"), plan("b"), max_connections=1)
    waiters = [Waiting(scene.backend) for _ in range(5)]
    for number, waiter in enumerate(waiters):
        waiter.endpoint_ready()
        waiter.deadline = float(number)
    assert [waiter.served for waiter in waiters] == ["a", "b", None, None, None]
    scene.backend.endpoints["b"].released()
    assert [waiter.served for waiter in waiters] == ["a", "b", "b", None, None]
    assert [waiter.deadline for waiter in waiters[3:]] == [3.0, 4.0]
    scene.backend.endpoints["a"].released()
    assert [waiter.served for waiter in waiters] == ["a", "b", "b", "a", None]
    scene.backend.endpoints["b"].released()
    assert [waiter.served for waiter in waiters] == ["a", "b", "b", "a", "b"]


def test_backend_endpoint_that_left_is_drained_and_its_counters_stay() -> None:
    scene = Scene(plan("a"))
    endpoint = scene.backend.endpoints["a"]
    endpoint.open, endpoint.codes[200] = 1, 7
    scene.update()
    assert scene.ready == []
    endpoint.released()
    assert scene.drains == 1
    for number in range(3 * MAX_GONE):
        scene.update(plan(f"x{number}"))
    assert len(scene.backend.gone) == MAX_GONE
    assert sum(one.codes.get(200, 0) for one in scene.backend.gone) == 7


def test_backend_no_counter_is_lost_with_the_endpoints_that_left() -> None:
    numbers = ("latency_sum", "bytes_in", "bytes_out", "connect_errors", "retries", "ejections")
    scene = Scene()
    for number in range(2 * MAX_GONE):
        scene.update(plan(f"x{number}"))
        endpoint = scene.backend.endpoints[f"x{number}"]
        endpoint.codes, endpoint.latency[1] = {200: 1, 502: 2}, 3
        for place, name in enumerate(numbers):
            setattr(endpoint, name, place + 1)
    scene.update()
    gone, count = scene.backend.gone, 2 * MAX_GONE
    assert [sum(getattr(one, name) for one in gone) for name in numbers] == [
        (place + 1) * count for place in range(len(numbers))
    ]
    assert [sum(one.codes.get(code, 0) for one in gone) for code in (200, 502)] == [count, 2 * count]
    assert sum(one.latency[1] for one in gone) == 3 * count


def test_backend_update_keeps_what_is_known_about_an_endpoint() -> None:
    scene = Scene(plan("a"))
    endpoint = scene.backend.endpoints["a"]
    endpoint.open = 3
    scene.update(plan("a"), plan("b"))
    assert scene.backend.endpoints["a"] is endpoint


@given(st.lists(st.sampled_from(["a", "b", "c", "d"]), unique=True), st.sets(st.sampled_from(["a", "b", "c", "d"])))
def test_backend_pick_never_gives_one_that_was_tried(names: list[str], tried: set[str]) -> None:
    scene = Scene(*(plan(name) for name in names))
    given_up = {endpoint for key, endpoint in scene.backend.endpoints.items() if key in tried}
    picked = scene.backend.pick(tried=given_up)
    if set(names) - tried:
        assert picked is not None
        assert picked.key not in tried
    else:
        assert picked is None
