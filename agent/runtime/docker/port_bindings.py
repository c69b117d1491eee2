"""Published ports: what is asked of the Engine, and where the tasks' ports came out.

A port of ingress mode is bound to a port of the Engine's choice on the node's data address: the gateways of all nodes
send traffic there. A port of host mode is bound as its user asked.

Pure: no I/O, no clock.
"""

from collections.abc import Iterable
from typing import Any

from essaim.cluster.service import PortConfig
from essaim.cluster.task import TaskEndpoint


def key_of(port: PortConfig) -> str:
    """`80/tcp`, as the Engine names a container's port."""
    return f"{port.target_port}/{port.protocol or 'tcp'}"


def exposed_ports(ports: Iterable[PortConfig], more: Iterable[str]) -> dict[str, Any]:
    """`more` are ports as `80`, `80/udp` or `8000-8010`, to be exposed without being published."""
    keys = [key_of(port) for port in ports if port.target_port]
    for entry in more:
        numbers, _, protocol = entry.partition("/")
        first, _, last = numbers.partition("-")
        keys += [f"{number}/{protocol or 'tcp'}" for number in range(int(first), int(last or first) + 1)]
    return {key: {} for key in keys}


def port_bindings(ports: Iterable[PortConfig], data_addr: str) -> dict[str, list[dict[str, str]]]:
    bindings: dict[str, list[dict[str, str]]] = {}
    for port in ports:
        if not port.target_port:
            continue
        if port.publish_mode == "host":
            binding = {"HostIp": port.host_ip or "", "HostPort": str(port.published_port or "")}
        else:
            binding = {"HostIp": data_addr, "HostPort": ""}
        asked = bindings.setdefault(key_of(port), [])
        if binding not in asked:
            asked.append(binding)
    return bindings


def endpoints(inspected: dict[str, Any], data_addr: str) -> tuple[tuple[TaskEndpoint, ...], tuple[PortConfig, ...]]:
    """The endpoints of a running container, and its host-mode ports as they came out, both sorted by target port."""
    asked = inspected["HostConfig"].get("PortBindings") or {}
    got = (inspected.get("NetworkSettings") or {}).get("Ports") or {}
    if inspected["HostConfig"].get("NetworkMode") == "host":
        return _of_the_host_itself(inspected, data_addr), ()
    found: list[TaskEndpoint] = []
    host_ports: list[PortConfig] = []
    for key in sorted(asked, key=_by_number):
        number, _, protocol = key.partition("/")
        bound = got.get(key) or []
        for binding in bound:
            if _is_ours(binding, data_addr):
                here = _endpoint(protocol, int(number), data_addr, int(binding["HostPort"]))
                found += [here] if here not in found else []
        if any(binding.get("HostPort") or binding.get("HostIp") != data_addr for binding in asked[key]) and bound:
            published = int(bound[0]["HostPort"])
            host_ports.append(
                PortConfig(protocol=protocol, target_port=int(number), published_port=published, publish_mode="host")
            )
    return tuple(found), tuple(host_ports)


def _is_ours(binding: dict[str, str], data_addr: str) -> bool:
    """It can be reached at the data address: bound to it, or to all addresses of its family."""
    return binding.get("HostIp", "") in (data_addr, "", "::" if ":" in data_addr else "0.0.0.0")


def _of_the_host_itself(inspected: dict[str, Any], data_addr: str) -> tuple[TaskEndpoint, ...]:
    """In the host's network, a target port is a port of the node."""
    asked = inspected["HostConfig"].get("PortBindings") or {}
    parts = [key.partition("/") for key in sorted(asked, key=_by_number)]
    return tuple(_endpoint(protocol, int(number), data_addr, int(number)) for number, _, protocol in parts)


def _endpoint(protocol: str, target: int, address: str, port: int) -> TaskEndpoint:
    return TaskEndpoint(protocol=protocol, target_port=target, address=address, port=port)


def _by_number(key: str) -> tuple[int, str]:
    number, _, protocol = key.partition("/")
    return int(number), protocol
