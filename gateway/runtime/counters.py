"""Counters of endpoints, ports and services, summed: in a worker, and by the supervisor over all workers.

Pure: numbers in, numbers out.
"""

from collections import Counter
from collections.abc import Iterable

import msgspec

from essaim.gateway.protocol.messages import EndpointCounts, PortCounts

NOTHING = EndpointCounts(
    task_id="", codes={}, latency=[0] * 14, seconds=0.0, bytes_in=0, bytes_out=0, connect_errors=0, retries=0,
    ejections=0, open=0, ejected=False,
)  # fmt: skip


def add_codes(one: dict[int, int], other: dict[int, int]) -> dict[int, int]:
    """Requests by status, of two together."""
    return {code: one.get(code, 0) + other.get(code, 0) for code in one.keys() | other.keys()}


def add(counts: Iterable[EndpointCounts]) -> EndpointCounts:
    """The sum, under the first one's task."""
    total: EndpointCounts | None = None
    for one in counts:
        total = one if total is None else _sum(total, one)
    return total or NOTHING


def _sum(a: EndpointCounts, b: EndpointCounts) -> EndpointCounts:
    return EndpointCounts(
        task_id=a.task_id,
        codes=add_codes(a.codes, b.codes),
        latency=[x + y for x, y in zip(a.latency, b.latency, strict=True)],
        seconds=a.seconds + b.seconds,
        bytes_in=a.bytes_in + b.bytes_in,
        bytes_out=a.bytes_out + b.bytes_out,
        connect_errors=a.connect_errors + b.connect_errors,
        retries=a.retries + b.retries,
        ejections=a.ejections + b.ejections,
        open=a.open + b.open,
        ejected=a.ejected or b.ejected,
        ejection=a.ejection or b.ejection,
        idle=a.idle + b.idle,
    )


def merge(reports: Iterable[PortCounts]) -> dict[str, PortCounts]:
    """Several workers' counters of the same ports, by port key and in it by task."""
    ports: dict[str, PortCounts] = {}
    for report in reports:
        known = ports.get(report.port_key)
        if known is None:
            ports[report.port_key] = report
            continue
        tasks = {one.task_id: one for one in known.endpoints}
        for one in report.endpoints:
            tasks[one.task_id] = _sum(tasks[one.task_id], one) if one.task_id in tasks else one
        ports[report.port_key] = PortCounts(
            port_key=report.port_key,
            waiting=known.waiting + report.waiting,
            refused=known.refused + report.refused,
            endpoints=sorted(tasks.values(), key=lambda one: one.task_id),
            gone=_sum(known.gone, report.gone),
            answers=add_codes(known.answers, report.answers),
            clients=known.clients + report.clients,
            lost_flows=dict(Counter(known.lost_flows) + Counter(report.lost_flows)),
        )
    return ports


def settled(port: PortCounts) -> PortCounts:
    """A dead worker's last word: its totals stay, what was open is not."""

    def settle(one: EndpointCounts) -> EndpointCounts:
        return msgspec.structs.replace(one, open=0, idle=0, ejected=False, ejection="")

    endpoints = [settle(one) for one in port.endpoints]
    return msgspec.structs.replace(port, waiting=0, clients=0, endpoints=endpoints, gone=settle(port.gone))
