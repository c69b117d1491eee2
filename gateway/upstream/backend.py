"""What a worker knows about the replicas behind a port: which may get traffic, whose turn it is, who waits.

Rules:
- An endpoint is ready when the cluster wants traffic on it (`usable`), the active checks have not failed it (`up`) and
  it is not ejected. If ejection alone would leave nobody, ejection is ignored: trying beats refusing.
- Panic: with a smaller share of the usable ready than `essaim.balance.panic` says, all usable ones are: checks that
  fail nearly everybody are more likely wrong, and the few that are left would be overrun.
- A connection that fails (refused, timed out) ejects its endpoint at once, for a time that doubles from 1 s to 30 s
  with each failure in a row; the supervisor is told, and checks.
- Answers that fail (server errors, and responses that do not come in time) eject it by number in a row or by rate, as
  far as the service asks for it and the share of those that are out allows. The time doubles in the same way, unless
  it did well for EJECT_LONGEST in between. That it accepts connections says nothing of this. What is answered while it
  is out was sent before, and is not counted.
- An endpoint that left the table lives on in here until its last request is done; it gets no new one.
- Nobody ready: requests wait in a queue of bounded length and time, and go out when an endpoint becomes ready.
"""

import asyncio
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable
from itertools import zip_longest
from random import random
from typing import Protocol

from essaim.gateway.protocol.messages import LATENCY_BUCKETS, EndpointPlan, PortPlan, ServicePlan
from essaim.gateway.protocol.options import ServiceOptions
from essaim.gateway.runtime.counters import add_codes
from essaim.gateway.runtime.hashing import hash_key
from essaim.gateway.runtime.sources import Sources
from essaim.gateway.upstream.balance.choose import make_policy
from essaim.gateway.upstream.balance.policy import Policy
from essaim.gateway.upstream.balance.weights import by_version, weigh

from .connection import Upstream
from .failure_rate import FailureRate
from .shared_limit import ALONE, SharedLimit

EJECT_FIRST = 1.0
EJECT_LONGEST = 30.0
MAX_GONE = 16
"""Endpoints that left are kept apart so long (they may still finish requests), then only as a sum."""
SMOOTHING = 0.1
"""How much one response time moves its endpoint's average."""
CLIENT_LEFT = 499
"""Counted, but neither for nor against the replica."""


class Endpoint:
    """One replica's port. `open`: requests and connections in progress. `idle`: kept-alive connections, newest last."""

    __slots__ = (
        "address", "backend", "bytes_in", "bytes_out", "codes", "connect_errors", "draining", "ejected_until",
        "ejection", "ejections", "errors", "failures", "idle", "key", "latency", "latency_sum", "load", "node_id",
        "open", "port", "present", "rate", "relapses", "retries", "since", "tag", "task_id", "up", "usable", "version",
        "watched", "weight", "zone",
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
        # Connections that failed in a row; ejections by answers in close succession.
        self.failures = self.relapses = 0
        self.ejected_until = 0.0
        # Why it was ejected last.
        self.ejection = ""
        self.weight = 1
        self.since = 0.0
        # Moving average of the time to the first byte, seconds; for "least time".
        self.load = 0.0
        # Requests by status; 0: connections of layer 4.
        self.codes: dict[int, int] = {}
        self.latency = [0] * (len(LATENCY_BUCKETS) + 1)
        self.latency_sum = 0.0
        self.bytes_in = self.bytes_out = 0
        self.connect_errors = self.retries = self.ejections = 0
        # 5xx answers in a row.
        self.errors = 0
        self.rate: FailureRate | None = None
        # Whether good answers matter, too: so that requests pay for it only then.
        self.watched = False
        # What a sticky cookie calls it.
        self.tag = b"%016x" % hash_key(plan.task_id.encode())
        self.update(plan)

    def update(self, plan: EndpointPlan) -> None:
        self.usable = plan.usable
        self.draining = plan.draining
        self.zone = plan.zone
        self.version = plan.version
        options = self.backend.options
        if not options.eject_rate:
            self.rate = None
        elif self.rate is None or self.rate.seconds != options.eject_window:
            self.rate = FailureRate(options.eject_window)
            self.watched = True

    def released(self) -> None:
        """One request or connection less: news for the supervisor if it drains, and for who waits for a place."""
        self.open -= 1
        if self.backend.options.max_service:
            self.backend.publish()
        if self.draining:
            self.backend.on_drain()
        elif self.backend.waiting:
            self.backend.wake()

    def count(self, status: int, seconds: float, now: float) -> None:
        """A request to it is over."""
        codes = self.codes
        codes[status] = codes.get(status, 0) + 1
        self.latency[bisect_left(LATENCY_BUCKETS, seconds)] += 1
        self.latency_sum += seconds
        self.load += (seconds - self.load) * SMOOTHING
        if status >= 500:
            self.server_error(now)
        elif self.watched and status != CLIENT_LEFT:
            self.answered(now)

    def close_idle(self) -> None:
        for connection in self.idle[:]:
            connection.close()

    def failed(self, reason: str, now: float) -> None:
        """A connection could not be made (or broke before it answered)."""
        self.connect_errors += 1
        self.failures += 1
        self._eject(reason, self.failures, now)

    def server_error(self, now: float) -> None:
        """A 5xx answer, or none in time (504)."""
        if now < self.ejected_until:
            return
        options, rate = self.backend.options, self.rate
        self.errors += 1
        self.watched = True
        reason = ""
        if rate is not None:
            rate.add(True, now)
            if rate.reaches(options.eject_rate, options.eject_least):
                reason = rate.explain()
        if options.eject_5xx and self.errors >= options.eject_5xx:
            reason = f"{options.eject_5xx} server errors in a row"
        if not reason or not self.backend.may_eject(now):
            return
        self.errors = 0
        if rate is not None:
            rate.clear()
        self.relapses = 1 if now - self.ejected_until > EJECT_LONGEST else self.relapses + 1
        self._eject(reason, self.relapses, now)

    def answered(self, now: float) -> None:
        """A good answer, while `watched`. It never ejects: the next failure decides."""
        self.errors = 0
        if self.rate is None:
            self.watched = False
        elif now >= self.ejected_until:
            self.rate.add(False, now)

    def forgive(self) -> None:
        """A check has found it up again: whatever traffic met there is past."""
        self.failures = self.relapses = self.errors = 0
        self.ejected_until = 0.0
        if self.rate is not None:
            self.rate.clear()

    def _eject(self, reason: str, times: int, now: float) -> None:
        self.ejections += 1
        self.ejection = reason
        until = now + min(EJECT_LONGEST, EJECT_FIRST * 2 ** min(times - 1, 10))
        self.ejected_until = max(self.ejected_until, until)
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
        shared_limit: SharedLimit = ALONE,
    ) -> None:
        self.key = plan.key
        self.mode = plan.mode
        self.tls = plan.tls
        self.published_port, self.target_port = plan.published_port, plan.target_port
        self.service_id = self.service_name = ""
        self.options = ServiceOptions()
        self.endpoints: dict[str, Endpoint] = {}
        self.ready: list[Endpoint] = []
        # The other ready ones where the service prefers near ones, nearer first: for when those are full, or failed.
        self.farther: list[list[Endpoint]] = []
        # Whether time alone changes who is ready: ejections end, new endpoints gain weight.
        self.changing = False
        self.on_trouble = on_trouble
        self.on_drain = on_drain
        self.waiting: deque[Waiter] = deque()
        # Requests that found no place in the queue; endpoints that left, for the sum of their counters.
        self.refused = 0
        # Requests that no replica answered, by the status that the gateway gave them.
        self.answers: dict[int, int] = {}
        # UDP flows that were refused, or ended to make room, by the reason.
        self.lost_flows: dict[str, int] = {}
        self.gone: list[Endpoint] = []
        # Who has requests in progress that came by a router, for `essaim.limit.source`.
        self.callers = Sources()
        self._turns, self._turn, self._here = turns, plan.turn, here
        self._shared_limit = shared_limit
        self.policy: Policy[Endpoint] = self._policy("round_robin")

    def count_flow(self, why: str) -> None:
        """A UDP flow was refused, or ended to make room."""
        self.lost_flows[why] = self.lost_flows.get(why, 0) + 1

    def _policy(self, name: str) -> Policy[Endpoint]:
        return make_policy(name, self._turns, self._turn, random)

    def update(self, service: ServicePlan, plan: PortPlan, verdicts: dict[str, bool], now: float) -> None:
        """Take a new plan over. Open requests are not touched, whatever it says."""
        if service.options.balance != self.options.balance:
            self.policy = self._policy(service.options.balance)
        self.service_id, self.service_name, self.options = service.id, service.name, service.options
        self.mode, self.tls = plan.mode, plan.tls
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
            self.gone.append(endpoint)
        while len(self.gone) > MAX_GONE:
            self._absorb(self.gone.pop(1))

    def _absorb(self, old: Endpoint) -> None:
        """Add an old endpoint's counters to the oldest one's, so that their number is bounded."""
        total = self.gone[0]
        total.codes = add_codes(total.codes, old.codes)
        total.latency = [a + b for a, b in zip(total.latency, old.latency, strict=True)]
        for name in ("latency_sum", "bytes_in", "bytes_out", "connect_errors", "retries", "ejections"):
            setattr(total, name, getattr(total, name) + getattr(old, name))

    def refresh(self, now: float) -> None:
        """Work out who is ready and how they weigh, after anything that it depends on has changed."""
        usable = [endpoint for endpoint in self.endpoints.values() if endpoint.usable]
        candidates = [endpoint for endpoint in usable if endpoint.up]
        ready = [endpoint for endpoint in candidates if endpoint.ejected_until <= now]
        self.changing = len(ready) < len(candidates)
        if len(ready) * 100 < len(usable) * self.options.panic:
            ready = usable
        options = self.options
        ready, *self.farther = self._near(ready or candidates)
        if options.version_weights or options.slow_start:
            weights, ramping = weigh(ready, options.version_weights, options.slow_start, now)
            self.changing = self.changing or ramping
            for endpoint, weight in zip(ready, weights, strict=True):
                endpoint.weight = weight
            ready = [endpoint for endpoint in ready if endpoint.weight]
        self.ready = ready
        self.policy.update(ready)
        if ready and self.waiting:
            self.wake()

    def _near(self, ready: list[Endpoint]) -> list[list[Endpoint]]:
        """The tiers; each version with a share has its own, or a node with the new one alone would use no other."""
        if not (self.options.near and self.options.version_weights):
            return self._tiers(ready)
        tiers = [self._tiers(group) for group in by_version(ready, self.options.version_weights)]
        return [[one for tier in row for one in tier] for row in zip_longest(*tiers, fillvalue=())] or [[]]

    def _tiers(self, ready: list[Endpoint]) -> list[list[Endpoint]]:
        """Those on this node, in its zone, and elsewhere, if the service asks for it; only the first may be empty."""
        near, (node_id, zone) = self.options.near, self._here
        if not near:
            return [ready]
        here = [endpoint for endpoint in ready if near == "node" and endpoint.node_id == node_id]
        rest = [endpoint for endpoint in ready if endpoint not in here]
        around = [endpoint for endpoint in rest if zone is not None and endpoint.zone == zone]
        return [tier for tier in (here, around, [one for one in rest if one not in around]) if tier] or [[]]

    def may_eject(self, now: float) -> bool:
        """Whether the share of ejected endpoints allows for one more."""
        known = [endpoint for endpoint in self.endpoints.values() if endpoint.usable and endpoint.up]
        out = sum(endpoint.ejected_until > now for endpoint in known)
        return (out + 1) * 100 <= len(known) * self.options.eject_share

    def pick(self, key: int = 0, tried: set[Endpoint] | None = None) -> Endpoint | None:
        """The endpoint whose turn it is, none that was tried already or is full. `key`: the request's hash."""
        if not self.ready or (self.options.max_service and not self._enter()):
            return None
        endpoint = self.policy.pick(key)
        limit = self.options.max_connections
        if (tried and endpoint in tried) or (limit and endpoint.open >= limit):
            others = (self._other(tier, tried, limit) for tier in (self.ready, *self.farther))
            return next((other for other in others if other is not None), None)
        return endpoint

    @staticmethod
    def _other(among: list[Endpoint], tried: set[Endpoint] | None, limit: int) -> Endpoint | None:
        """The one with the fewest in progress of those that were not tried and are not full."""
        free = [
            endpoint
            for endpoint in among
            if not (tried and endpoint in tried) and not (limit and endpoint.open >= limit)
        ]
        return min(free, key=lambda endpoint: endpoint.open, default=None)

    def tagged(self, tag: bytes) -> Endpoint | None:
        """The ready endpoint that a sticky cookie names; that goes before a preference for near ones, or a client that
        comes in by another node each time would be somewhere else each time."""
        if self.options.max_service and not self._enter():
            return None
        for tier in (self.ready, *self.farther):
            for endpoint in tier:
                if endpoint.tag == tag:
                    return endpoint
        return None

    def publish(self, more: int = 0) -> None:
        """Tell the other workers what is in progress here, and `more` that is about to begin."""
        known = sum(endpoint.open for endpoint in self.endpoints.values())
        self._shared_limit.publish(self._turn, known + sum(endpoint.open for endpoint in self.gone) + more)

    def _enter(self) -> bool:
        """Whether the service as a whole may have one more in progress on this node; the count includes it then."""
        self.publish()
        if self._shared_limit.total(self._turn) >= self.options.max_service:
            return False
        self.publish(1)
        return True

    def wake(self) -> None:
        """Let who waits try again, in order; who finds no place waits on."""
        waiting, self.waiting = self.waiting, deque()
        while waiting:
            waiter = waiting.popleft()
            deadline = waiter.deadline
            try:
                waiter.endpoint_ready()
            except Exception as error:
                # The others wait for the same replica, not for this one.
                asyncio.get_running_loop().call_exception_handler({"message": "a waiter failed", "exception": error})
            if self.waiting and self.waiting[-1] is waiter:
                # Still no place: the others keep theirs in the queue, and it keeps its time.
                waiter.deadline = deadline
                self.waiting.extend(waiting)
                return

    def wait(self, waiter: Waiter, now: float) -> bool:
        """Queue for an endpoint; False when the queue is full or waiting is switched off."""
        options = self.options
        if len(self.waiting) >= options.queue_limit or options.queue_timeout <= 0:
            self.refused += 1
            return False
        waiter.deadline = now + options.queue_timeout
        self.waiting.append(waiter)
        return True

    def forget(self, waiter: Waiter) -> None:
        if waiter in self.waiting:
            self.waiting.remove(waiter)
