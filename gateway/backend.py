"""What a worker knows about the replicas behind a port: which may get traffic, whose turn it is, who waits.

Rules:
- An endpoint is ready when the cluster wants traffic on it (`usable`), the active checks have not failed it (`up`) and
  it is not ejected. If ejection alone would leave nobody, ejection is ignored: trying beats refusing.
- A connection that fails ejects its endpoint at once, for a time that doubles from 1 s to 30 s with each failure in a
  row; the supervisor is told, and checks.
- An endpoint that left the table lives on in here until its last request is done; it gets no new one.
- Nobody ready: requests wait in a queue of bounded length and time, and go out when an endpoint becomes ready.
"""

from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

from .balance.policy import Policy, make_policy
from .options import ServiceOptions
from .wire import EndpointPlan, PortPlan, ServicePlan

if TYPE_CHECKING:
    from .upstream import Upstream

EJECT_FIRST = 1.0
EJECT_LONGEST = 30.0
LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Endpoint:
    """One replica's port. `open`: requests and connections in progress. `idle`: kept-alive connections, newest last."""

    __slots__ = (
        "address", "backend", "bytes_in", "bytes_out", "codes", "connect_errors", "draining", "ejected_until",
        "failures", "idle", "key", "latency", "latency_sum", "load", "node_id", "open", "port", "present", "retries",
        "since", "task_id", "up", "usable", "version", "weight", "zone",
    )  # fmt: skip

    def __init__(self, plan: EndpointPlan, backend: "Backend") -> None:
        self.backend = backend
        self.key = plan.key
        self.task_id = plan.task_id
        self.node_id = plan.node_id
        self.address = plan.address
        self.port = plan.port
        self.open = 0
        self.idle: list[Upstream] = []
        self.up = True
        self.present = True
        self.failures = 0
        self.ejected_until = 0.0
        self.weight = 1
        self.since = 0.0
        # Moving average of the time to the first byte, seconds; for "least time".
        self.load = 0.0
        self.codes = [0] * 6
        self.latency = [0] * (len(LATENCY_BUCKETS) + 1)
        self.latency_sum = 0.0
        self.bytes_in = self.bytes_out = 0
        self.connect_errors = self.retries = 0
        self.update(plan)

    def update(self, plan: EndpointPlan) -> None:
        self.usable = plan.usable
        self.draining = plan.draining
        self.zone = plan.zone
        self.version = plan.version

    def released(self) -> None:
        """One request or connection less. The last one of a draining endpoint is news for the supervisor."""
        self.open -= 1
        if self.draining:
            self.backend.on_drain()

    def close_idle(self) -> None:
        for connection in self.idle[:]:
            connection.close()

    def failed(self, reason: str, now: float) -> None:
        """A connection could not be made (or broke before it answered)."""
        self.failures += 1
        self.connect_errors += 1
        self.ejected_until = now + min(EJECT_LONGEST, EJECT_FIRST * 2 ** min(self.failures - 1, 10))
        self.backend.on_trouble(self, reason)
        self.backend.refresh(now)


class Waiter(Protocol):
    deadline: float

    def endpoint_ready(self) -> None:
        """An endpoint may be ready: pick again (and wait again if it is not)."""

    def refuse_waiting(self, reason: str) -> None:
        """No more waiting."""


class Backend:
    """The endpoints of one port of a service."""

    def __init__(
        self,
        plan: PortPlan,
        turns: memoryview,
        here: tuple[str, str | None],
        on_trouble: Callable[[Endpoint, str], None],
        on_drain: Callable[[], None],
    ) -> None:
        self.key = plan.key
        self.mode = plan.mode
        self.published_port = plan.published_port
        self.service_id = self.service_name = ""
        self.options = ServiceOptions()
        self.endpoints: dict[str, Endpoint] = {}
        self.ready: list[Endpoint] = []
        self.ejecting = False
        self.on_trouble = on_trouble
        self.on_drain = on_drain
        self.waiting: deque[Waiter] = deque()
        self.policy: Policy[Endpoint] = make_policy("round_robin", turns, plan.turn)
        self._turns, self._turn, self._here = turns, plan.turn, here

    def update(self, service: ServicePlan, plan: PortPlan, verdicts: dict[str, bool], now: float) -> None:
        """Take a new plan over. Open requests are not touched, whatever it says."""
        if service.options.balance != self.options.balance:
            self.policy = make_policy(service.options.balance, self._turns, self._turn)
        self.service_id, self.service_name, self.options = service.id, service.name, service.options
        self.mode = plan.mode
        before, self.endpoints = self.endpoints, {}
        for wanted in plan.endpoints:
            endpoint = before.pop(wanted.key, None)
            if endpoint is None:
                endpoint = Endpoint(wanted, self)
                endpoint.since = now
            else:
                endpoint.update(wanted)
            endpoint.up = verdicts.get(wanted.key, True)
            self.endpoints[wanted.key] = endpoint
            if not endpoint.usable:
                endpoint.close_idle()
        self.retire(before.values())
        self.refresh(now)

    def retire(self, endpoints: Iterable[Endpoint]) -> None:
        for endpoint in endpoints:
            endpoint.usable, endpoint.draining, endpoint.present = False, True, False
            endpoint.close_idle()

    def refresh(self, now: float) -> None:
        """Work out who is ready, after anything that it depends on has changed."""
        candidates = [endpoint for endpoint in self.endpoints.values() if endpoint.usable and endpoint.up]
        ready = [endpoint for endpoint in candidates if endpoint.ejected_until <= now]
        self.ejecting = len(ready) < len(candidates)
        self.ready = ready or candidates
        self.policy.update(self.ready)
        if self.ready and self.waiting:
            waiting, self.waiting = self.waiting, deque()
            for waiter in waiting:
                waiter.endpoint_ready()

    def pick(self, tried: set[Endpoint] | None = None) -> Endpoint | None:
        """The endpoint whose turn it is, none that was tried already."""
        if not self.ready:
            return None
        endpoint = self.policy.pick(0)
        if tried and endpoint in tried:
            for endpoint in self.ready:
                if endpoint not in tried:
                    return endpoint
            return None
        return endpoint

    def wait(self, waiter: Waiter, now: float) -> bool:
        """Queue for an endpoint; False when the queue is full or waiting is switched off."""
        options = self.options
        if len(self.waiting) >= options.queue_limit or options.queue_timeout <= 0:
            return False
        waiter.deadline = now + options.queue_timeout
        self.waiting.append(waiter)
        return True

    def forget(self, waiter: Waiter) -> None:
        if waiter in self.waiting:
            self.waiting.remove(waiter)
