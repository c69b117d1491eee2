"""What one changed replica costs with a large route table: the leader's CPU, bytes to a node, the agent's and the
supervisor's CPU; beside what the whole table would cost.

python bench/routes.py [--services 5000] [--endpoints 10] [--nodes 100]
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from essaim.agent.keepers.route_file import RouteFile
from essaim.cluster import wire
from essaim.cluster.route_delta import apply_delta
from essaim.cluster.routes import RouteEndpoint, RouteGateway, RoutePort, RouteService, RouteTable
from essaim.gateway.control.plan import Planner, endpoint_key
from essaim.gateway.health.assignment import Assignment
from essaim.scheduler.traffic.route_history import RouteHistory

ROUNDS = 20


def make_table(services: int, endpoints: int, nodes: int) -> RouteTable:
    def endpoint(service: int, number: int) -> RouteEndpoint:
        node = (service * endpoints + number) % nodes
        return RouteEndpoint(
            task_id=f"{service:06x}{number:04x}".rjust(25, "t"),
            task_name=f"service-{service:05}.{number}.{service:06x}",
            node_id=f"{node:04}".rjust(25, "n"),
            address=f"10.0.{node // 250}.{node % 250 + 1}",
            port=30000 + number,
        )

    def service(number: int) -> RouteService:
        replicas = [endpoint(number, replica) for replica in range(endpoints)]
        port = RoutePort(protocol="tcp", target_port=80, published_port=number + 1024, endpoints=replicas)
        return RouteService(id=f"{number:05}".rjust(25, "s"), name=f"service-{number:05}", ports=[port])

    gateways = [
        RouteGateway(node_id=f"{n:04}".rjust(25, "n"), hostname=f"node-{n}", address=f"10.0.{n // 250}.{n % 250 + 1}")
        for n in range(nodes)
    ]
    return RouteTable(version=1, services=[service(number) for number in range(services)], gateways=gateways)


def changed(table: RouteTable, number: int) -> RouteTable:
    """The next version, with one replica of one service draining."""
    services = list(table.services)
    port = services[number].ports[0]
    replicas = [msgspec.structs.replace(port.endpoints[0], state="draining"), *port.endpoints[1:]]
    ports = [msgspec.structs.replace(port, endpoints=replicas)]
    services[number] = msgspec.structs.replace(services[number], ports=ports)
    return msgspec.structs.replace(table, version=table.version + 1, services=services)


def spent(work: Callable[[], object]) -> float:
    """CPU milliseconds."""
    began = time.process_time()
    work()
    return (time.process_time() - began) * 1000


def measure(services: int, endpoints: int, nodes: int) -> dict[str, float]:
    table = make_table(services, endpoints, nodes)
    history = RouteHistory()
    history.publish(table)
    whole = wire.encode(wire.Routes(table))
    figures: dict[str, float] = {"whole: bytes": len(whole)}
    figures["whole: leader, encode ms"] = spent(lambda: wire.encode(wire.Routes(table)))
    figures["whole: agent, decode ms"] = spent(lambda: wire.decode_to_agent(whole))
    rows: dict[str, list[float]] = {}
    planner = Planner("", {})
    planner.plan(table)
    with tempfile.TemporaryDirectory() as folder:
        file = RouteFile(Path(folder) / "routes.msgpack")
        figures["whole: agent, to disk ms"] = spent(lambda: file.save(table, []))
        known = table
        for number in range(ROUNDS):
            table = changed(table, number * (services // ROUNDS))

            def lead(table: RouteTable = table, base: int = known.version) -> None:
                history.publish(table)
                for _ in range(nodes):
                    history.since(base)

            rows.setdefault("change: leader, all nodes ms", []).append(spent(lead))
            news = history.since(known.version)
            assert news is not None
            rows.setdefault("change: bytes", []).append(len(news[1]))
            message = wire.decode_to_agent(news[1])
            assert isinstance(message, wire.RoutesChanged)
            before, delta = known, message.delta
            rows.setdefault("change: agent, apply ms", []).append(spent(lambda b=before, d=delta: apply_delta(b, d)))
            known = apply_delta(before, delta)
            rows.setdefault("change: agent, to disk ms", []).append(spent(lambda k=known, d=delta: file.save(k, [d])))
            rows.setdefault("change: supervisor, plan ms", []).append(spent(lambda k=known: planner.plan(k)))
    figures |= {name: statistics.median(values) for name, values in rows.items()}
    keys = [(endpoint_key(e), e.node_id) for s in table.services for p in s.ports for e in p.endpoints]
    assignment = Assignment(gateway.node_id for gateway in table.gateways)
    me = table.gateways[0].node_id
    figures["gateways change: who checks what ms"] = spent(lambda: [assignment.is_checked_by(me, *key) for key in keys])
    figures["endpoints that a gateway checks"] = sum(assignment.is_checked_by(me, *key) for key in keys)
    return {name: round(value, 2) for name, value in figures.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--services", type=int, default=5000)
    parser.add_argument("--endpoints", type=int, default=10, help="of each service")
    parser.add_argument("--nodes", type=int, default=100)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    result = measure(options.services, options.endpoints, options.nodes)
    if options.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:40} {value:>12,}")


if __name__ == "__main__":
    main()
