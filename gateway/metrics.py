"""The gateway's counters as Prometheus reads them.

Labels: `service` (its name), `port` (published), `task`; `code` is a class such as 2xx (`499`: the client went away,
counted with 4xx).

Pure: numbers in, text out.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from .backend import LATENCY_BUCKETS
from .counting import add
from .wire import PortCounts


@dataclass(frozen=True, slots=True)
class Measured:
    """One published port of a service, with the verdict on each of its tasks (1 up, 0 down)."""

    service: str
    port: str
    counts: PortCounts
    verdicts: dict[str, bool]


class _Snapshot(Collector):
    def __init__(self, ports: list[Measured]) -> None:
        self._ports = ports

    def collect(self) -> Iterator[Metric]:
        yield from self._requests()
        yield from self._endpoints()
        yield self._latency()
        waiting = GaugeMetricFamily("essaim_gateway_waiting", "Requests that wait for a replica", labels=PORT)
        for one in self._ports:
            waiting.add_metric([one.service, one.port], one.counts.waiting)
        yield waiting

    def _requests(self) -> Iterator[Metric]:
        requests = CounterMetricFamily("essaim_gateway_requests", "Requests by class of status", labels=[*TASK, "code"])
        connections = CounterMetricFamily(
            "essaim_gateway_connections", "Finished TCP connections, UDP flows", labels=TASK
        )
        for one in self._ports:
            for counts in (*one.counts.endpoints, one.counts.gone):
                labels = [one.service, one.port, counts.task_id]
                if counts.codes[0]:
                    connections.add_metric(labels, counts.codes[0])
                for digit in range(1, 6):
                    if counts.codes[digit]:
                        requests.add_metric([*labels, f"{digit}xx"], counts.codes[digit])
        yield requests
        yield connections

    def _endpoints(self) -> Iterator[Metric]:
        families: list[tuple[str, CounterMetricFamily]] = [
            (field, CounterMetricFamily(f"essaim_gateway_{name}", text, labels=TASK)) for field, name, text in COUNTERS
        ]
        open_ = GaugeMetricFamily("essaim_gateway_open", "Requests and connections in progress", labels=TASK)
        ejected = GaugeMetricFamily("essaim_gateway_ejected", "1 while traffic's failures keep it out", labels=TASK)
        up = GaugeMetricFamily("essaim_gateway_up", "The active checks' verdict", labels=TASK)
        for one in self._ports:
            for counts in one.counts.endpoints:
                labels = [one.service, one.port, counts.task_id]
                for field, family in families:
                    family.add_metric(labels, getattr(counts, field))
                open_.add_metric(labels, counts.open)
                ejected.add_metric(labels, int(counts.ejected))
            for task_id, verdict in sorted(one.verdicts.items()):
                up.add_metric([one.service, one.port, task_id], int(verdict))
        yield from (family for _, family in families)
        yield from (open_, ejected, up)

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


def exposition(ports: list[Measured]) -> str:
    """Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Snapshot(ports))
    return generate_latest(registry).decode()
