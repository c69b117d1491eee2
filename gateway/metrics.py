"""The gateway's counters as Prometheus reads them.

Labels: `service` (its name), `port` (published), `task`; `code` is the status (`499`: the client went away).

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
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector

from .backend import LATENCY_BUCKETS
from .counting import add
from .health.share import Found
from .wire import PortCounts


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


class _Snapshot(Collector):
    def __init__(self, ports: list[Measured], checks: Checks, refused_handshakes: int) -> None:
        self._ports = ports
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
        refused = CounterMetricFamily("essaim_gateway_queue_refused", "Requests that found no place in it", labels=PORT)
        for one in self._ports:
            refused.add_metric([one.service, one.port], one.counts.refused)
        yield refused
        said = "TLS handshakes that failed, or took too long"
        yield CounterMetricFamily("essaim_gateway_tls_refused_handshakes", said, value=self._refused_handshakes)
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

    def _endpoints(self) -> Iterator[Metric]:
        families: list[tuple[str, CounterMetricFamily]] = [
            (field, CounterMetricFamily(f"essaim_gateway_{name}", text, labels=TASK)) for field, name, text in COUNTERS
        ]
        open_ = GaugeMetricFamily("essaim_gateway_open", "Requests and connections in progress", labels=TASK)
        ejected = GaugeMetricFamily("essaim_gateway_ejected", "1 while traffic's failures keep it out", labels=TASK)
        for one in self._ports:
            for counts in one.counts.endpoints:
                labels = [one.service, one.port, counts.task_id]
                for field, family in families:
                    family.add_metric(labels, getattr(counts, field))
                open_.add_metric(labels, counts.open)
                ejected.add_metric(labels, int(counts.ejected))
        # Buckets for each task would be fourteen series of 50,000: an average is what an endpoint is compared by.
        seconds = SummaryMetricFamily("essaim_gateway_task_seconds", "Time of a replica's requests", labels=TASK)
        for one in self._ports:
            for counts in one.counts.endpoints:
                if any(counts.latency):
                    seconds.add_metric([one.service, one.port, counts.task_id], sum(counts.latency), counts.seconds)
        yield from (family for _, family in families)
        yield from (open_, ejected, seconds)

    def _latency(self) -> Metric:
        family = HistogramMetricFamily(
            "essaim_gateway_request_seconds", "From the request's head to the response's end", labels=PORT
        )
        for one in self._ports:
            total = add((*one.counts.endpoints, one.counts.gone))
            if any(total.latency):
                sums = list(accumulate(total.latency))
                bounds = [*(str(bound) for bound in LATENCY_BUCKETS), "+Inf"]
                family.add_metric([one.service, one.port], list(zip(bounds, sums, strict=True)), total.seconds)
        return family


PORT = ["service", "port"]
TASK = ["service", "port", "task"]
COUNTERS = (
    ("bytes_in", "received_bytes", "Bytes from clients"),
    ("bytes_out", "sent_bytes", "Bytes to clients"),
    ("connect_errors", "connect_errors", "Connections to the replica that failed"),
    ("retries", "retries", "Requests that were sent to another replica after this one"),
    ("ejections", "ejections", "Times that traffic's failures took the replica out"),
)


def exposition(ports: list[Measured], checks: Checks, refused_handshakes: int) -> str:
    """Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Snapshot(ports, checks, refused_handshakes))
    return generate_latest(registry).decode()
