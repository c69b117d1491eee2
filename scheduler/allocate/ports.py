"""Published ports: a service that asks for "some port" gets one from the dynamic range, and keeps it.

- `Service.endpoint` is the outcome: its `spec` is the specification it was made for, `ports` the ports as published.
- Ingress ports are cluster-wide: a number is taken once per protocol. Host-mode ports belong to nodes; a host-mode
  port without a number is chosen by the node.
- A fixed port that another service has (two requests raced past the API's check) leaves the younger service without
  tasks until it is changed or the port becomes free.

Pure: services in, changed services out.
"""

from collections.abc import Iterable

import msgspec

from essaim.cluster.service import Endpoint, EndpointSpec, PortConfig, Service

FIRST, LAST = 30000, 32767

Taken = set[tuple[str, int]]


def is_allocated(service: Service) -> bool:
    """Whether tasks can be made from it."""
    wanted = service.spec.endpoint_spec
    if service.endpoint is not None:
        return service.endpoint.spec == wanted
    return wanted is None or not wanted.ports


def taken_ports(services: Iterable[Service]) -> Taken:
    """(protocol, port) of every ingress port in use."""
    return {
        (port.protocol or "tcp", port.published_port)
        for service in services
        for port in ((service.endpoint.ports if service.endpoint else None) or [])
        if is_ingress(port) and port.published_port
    }


def is_ingress(port: PortConfig) -> bool:
    return (port.publish_mode or "ingress") == "ingress"


def allocate(service: Service, taken: Taken) -> Service | str:
    """The service with its ports allocated, or why it cannot be. `taken` holds what all services have."""
    spec = service.spec.endpoint_spec or EndpointSpec()
    before = (service.endpoint.ports if service.endpoint else None) or []
    others = taken - {(p.protocol or "tcp", p.published_port or 0) for p in before if is_ingress(p)}
    fixed = {(p.protocol or "tcp", p.published_port) for p in spec.ports or [] if is_ingress(p) and p.published_port}
    for protocol, wanted in sorted((p, n) for p, n in fixed if n):
        if (protocol, wanted) in others:
            return f"port {wanted}/{protocol} is already in use by another service as an ingress port"
    used = others | {(protocol, wanted) for protocol, wanted in fixed if wanted}
    ports: list[PortConfig] = []
    for port in spec.ports or []:
        number = port.published_port or _chosen(port, before, used)
        if number is None:
            return f"no free port is left in {FIRST}-{LAST} for target port {port.target_port}"
        if is_ingress(port):
            used.add((port.protocol or "tcp", number))
        ports.append(
            msgspec.structs.replace(
                port,
                protocol=port.protocol or "tcp",
                publish_mode=port.publish_mode or "ingress",
                published_port=number or None,
            )
        )
    virtual_ips = service.endpoint.virtual_ips if service.endpoint else None
    endpoint = Endpoint(spec=service.spec.endpoint_spec, ports=ports or None, virtual_ips=virtual_ips)
    return msgspec.structs.replace(service, endpoint=endpoint)


def _chosen(port: PortConfig, before: list[PortConfig], used: Taken) -> int | None:
    """The port it had, else the lowest free one; 0 leaves it to the node."""
    if not is_ingress(port):
        return 0
    protocol = port.protocol or "tcp"
    for old in before:
        same = (old.protocol or "tcp", old.target_port) == (protocol, port.target_port) and is_ingress(old)
        if same and old.published_port and (protocol, old.published_port) not in used:
            return old.published_port
    return next((n for n in range(FIRST, LAST + 1) if (protocol, n) not in used), None)
