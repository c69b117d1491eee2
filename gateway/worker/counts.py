"""What a worker tells of its endpoints and ports: their counters as they are now.

Pure: numbers in, numbers out.
"""

import msgspec

from essaim.gateway.protocol.messages import EndpointCounts, PortCounts
from essaim.gateway.runtime.counters import add
from essaim.gateway.upstream.backend import Backend, Endpoint


def of_endpoint(endpoint: Endpoint, now: float) -> EndpointCounts:
    return EndpointCounts(
        task_id=endpoint.task_id,
        codes=dict(endpoint.codes),
        latency=list(endpoint.latency),
        seconds=endpoint.latency_sum,
        bytes_in=endpoint.bytes_in,
        bytes_out=endpoint.bytes_out,
        connect_errors=endpoint.connect_errors,
        retries=endpoint.retries,
        ejections=endpoint.ejections,
        open=endpoint.open,
        ejected=endpoint.ejected_until > now,
        ejection=endpoint.ejection if endpoint.ejected_until > now else "",
        idle=len(endpoint.idle),
    )


def of_port(backend: Backend, now: float, clients: int) -> PortCounts:
    """Endpoints that never had traffic are left out. `clients`: their connections at layer 7, where the port has it."""
    counted = [of_endpoint(endpoint, now) for endpoint in backend.endpoints.values()]
    gone = msgspec.structs.replace(add(of_endpoint(endpoint, now) for endpoint in backend.gone), task_id="")
    joined = sum(one.open for one in counted) + gone.open
    return PortCounts(
        port_key=backend.key,
        waiting=len(backend.waiting),
        refused=backend.refused,
        endpoints=[one for one in counted if one.codes or one.open or one.connect_errors],
        gone=gone,
        answers=dict(backend.answers),
        clients=clients if backend.mode == "http" else joined,
        lost_flows=dict(backend.lost_flows),
    )
