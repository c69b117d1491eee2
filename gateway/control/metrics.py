"""The gateway's counters as Prometheus reads them.

Labels: `service` (its name), `port` (published), `task`; `code` is the status (`499`: the client went away). An empty
`task` is the sum over replicas that are no more, so that a service's sums never fall.

Pure: numbers in, text out.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from essaim.gateway.health.share import Found
from essaim.gateway.protocol.messages import LATENCY_BUCKETS, PortCounts
from essaim.gateway.runtime.counters import NOTHING, add


@dataclass(frozen=True, slots=True)
class Measured:
    """One published port of a service, with the verdict on each of its tasks that is checked."""

    service: str
    port: str
    counts: PortCounts
    verdicts: dict[str, Found]


@dataclass(frozen=True, slots=True)
class Checks:
    """Active checks that this gateway made, and how many endpoints it checks: assigned to it, and beyond that."""

    made: int
    assigned: int
    extra: int


@dataclass(frozen=True, slots=True)
class Workers:
    """Worker processes: how many serve, how many were replaced, and which connections they did not take, by the
    reason."""

    serving: int
    replaced: dict[str, int]
    refused: dict[str, int]


class _Snapshot(Collector):
    def __init__(self, ports: list[Measured], checks: Checks, refused_handshakes: int, workers: Workers) -> None:
        self._ports = ports
        self._workers = workers
        self._refused_handshakes = refused_handshakes
        self._checks = checks

    def collect(self) -> Iterator[Metric]:
        yield from self._requests()
        yield from self._endpoints()
        yield self._latency()
        waiting = GaugeMetricFamily("essaim_gateway_waiting", "Requests that wait for a replica", labels=PORT)
        for one in self._ports:
            waiting.add_metric([one.service, one.port], one.counts.waiting)
        yield waiting
        refused = CounterMetricFamily(
            "essaim_gateway_queue_refused", "Requests rejected because the queue was full", labels=PORT
        )
        for one in self._ports:
            refused.add_metric([one.service, one.port], one.counts.refused)
        yield refused
        clients = GaugeMetricFamily("essaim_gateway_client_connections", "Connections of clients", labels=PORT)
        for one in self._ports:
            clients.add_metric([one.service, one.port], one.counts.clients)
        yield clients
        lost = CounterMetricFamily(
            "essaim_gateway_flows_lost", "UDP flows that were refused, or ended to make room", labels=[*PORT, "why"]
        )
        for one in self._ports:
            for why, count in sorted(one.counts.lost_flows.items()):
                lost.add_metric([one.service, one.port, why], count)
        yield lost
        said = "TLS handshakes that failed, or took too long"
        yield CounterMetricFamily("essaim_gateway_tls_refused_handshakes", said, value=self._refused_handshakes)
        yield GaugeMetricFamily("essaim_gateway_workers", "Worker processes that serve", value=self._workers.serving)
        replaced = CounterMetricFamily(
            "essaim_gateway_workers_replaced", "Worker processes that ended or hung, and were replaced", labels=["why"]
        )
        for why in ("ended", "hung"):
            replaced.add_metric([why], self._workers.replaced.get(why, 0))
        yield replaced
        refused = CounterMetricFamily(
            "essaim_gateway_refused_connections", "Connections that were refused, or ended to make room", labels=["why"]
        )
        for why in ("full", "evicted", "source"):
            refused.add_metric([why], self._workers.refused.get(why, 0))
        yield refused
        yield from self._health()

    def _health(self) -> Iterator[Metric]:
        yield CounterMetricFamily("essaim_gateway_checks", "Active checks made", value=self._checks.made)
        targets = GaugeMetricFamily(
            "essaim_gateway_check_targets", "Endpoints that this gateway checks", labels=["why"]
        )
        targets.add_metric(["assigned"], self._checks.assigned)
        targets.add_metric(["doubt"], self._checks.extra)
        yield targets
        up = GaugeMetricFamily("essaim_gateway_up", "The active checks' verdict", labels=TASK)
        down = GaugeMetricFamily(
            "essaim_gateway_down_info",
            "Why an endpoint is down, and whose check found it",
            labels=[*TASK, "reason", "by"],
        )
        for one in self._ports:
            for task_id, found in sorted(one.verdicts.items()):
                labels = [one.service, one.port, task_id]
                up.add_metric(labels, int(found.up))
                if not found.up:
                    down.add_metric([*labels, found.reason, found.by], 1)
        yield from (up, down)

    def _requests(self) -> Iterator[Metric]:
        requests = CounterMetricFamily("essaim_gateway_requests", "Requests by status", labels=[*TASK, "code"])
        connections = CounterMetricFamily(
            "essaim_gateway_connections", "Finished TCP connections, UDP flows", labels=TASK
        )
        for one in self._ports:
            for counts in (*one.counts.endpoints, one.counts.gone):
                labels = [one.service, one.port, counts.task_id]
                for code, count in sorted(counts.codes.items()):
                    if code:
                        requests.add_metric([*labels, str(code)], count)
                    else:
                        connections.add_metric(labels, count)
        yield requests
        yield connections
        answers = CounterMetricFamily(
            "essaim_gateway_answers", "Requests that the gateway answered itself, by status", labels=[*PORT, "code"]
        )
        for one in self._ports:
            for code, count in sorted(one.counts.answers.items()):
                answers.add_metric([one.service, one.port, str(code)], count)
        yield answers

    def _endpoints(self) -> Iterator[Metric]:
        families: list[tuple[str, CounterMetricFamily]] = [
            (field, CounterMetricFamily(f"essaim_gateway_{name}", text, labels=TASK)) for field, name, text in COUNTERS
        ]
        open_ = GaugeMetricFamily("essaim_gateway_open", "Requests and connections in progress", labels=TASK)
        idle = GaugeMetricFamily("essaim_gateway_idle", "Kept-alive connections that carry no request", labels=TASK)
        ejected = GaugeMetricFamily("essaim_gateway_ejected", "1 while traffic's failures keep it out", labels=TASK)
        seconds = HistogramMetricFamily("essaim_gateway_task_seconds", "Time of a replica's requests", labels=TASK)
        for one in self._ports:
            gone = [one.counts.gone] if one.counts.gone != NOTHING else []
            for counts in (*one.counts.endpoints, *gone):
                labels = [one.service, one.port, counts.task_id]
                for field, family in families:
                    family.add_metric(labels, getattr(counts, field))
                open_.add_metric(labels, counts.open)
                idle.add_metric(labels, counts.idle)
                if any(counts.latency):
                    seconds.add_metric(labels, _cumulated(counts.latency, TASK_BUCKETS), counts.seconds)
            for counts in one.counts.endpoints:
                ejected.add_metric([one.service, one.port, counts.task_id], int(counts.ejected))
        yield from (family for _, family in families)
        yield from (open_, idle, ejected, seconds)

    def _latency(self) -> Metric:
        family = HistogramMetricFamily(
            "essaim_gateway_request_seconds", "From the request's head to the response's end", labels=PORT
        )
        for one in self._ports:
            total = add((*one.counts.endpoints, one.counts.gone))
            if any(total.latency):
                family.add_metric([one.service, one.port], _cumulated(total.latency, LATENCY_BUCKETS), total.seconds)
        return family


def _cumulated(latency: list[int], bounds: tuple[float, ...]) -> list[tuple[str, float]]:
    """Requests up to each of `bounds`, which are among LATENCY_BUCKETS."""
    sums = list(accumulate(latency))
    return [*((str(bound), sums[LATENCY_BUCKETS.index(bound)]) for bound in bounds), ("+Inf", sums[-1])]


TASK_BUCKETS = (0.005, 0.025, 0.1, 0.5, 2.5)
"""Fewer than a port has: with 50,000 replicas each bound is as many series more. Counted are all of them."""
PORT = ["service", "port"]
TASK = ["service", "port", "task"]
COUNTERS = (
    ("bytes_in", "received_bytes", "Bytes from clients"),
    ("bytes_out", "sent_bytes", "Bytes to clients"),
    ("connect_errors", "connect_errors", "Connections to the replica that failed"),
    ("retries", "retries", "Requests that were sent to another replica after this one"),
    ("ejections", "ejections", "Times that traffic's failures took the replica out"),
)


def exposition(ports: list[Measured], checks: Checks, refused_handshakes: int, workers: Workers) -> str:
    """Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Snapshot(ports, checks, refused_handshakes, workers))
    return generate_latest(registry).decode()
