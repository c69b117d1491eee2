"""Auth servers that look like services of the cluster and cannot be reached as such: who wrote the labels should know.

Pure: plans in, warnings out.
"""

from collections.abc import Iterator, Mapping

from essaim.gateway.protocol.messages import RouterPlan, ServicePlan

from .auth_server import AuthServer, read_server


def auth_warnings(plans: Mapping[str, ServicePlan]) -> dict[str, list[str]]:
    """Warnings by the id of the service whose routers ask."""
    asked = [(key, server) for key, plan in plans.items() for router in plan.routers for server in _servers(router)]
    if not asked:
        return {}
    ports = {
        plan.name.lower(): {port.target_port for port in plan.ports if port.mode != "udp"} for plan in plans.values()
    }
    found: dict[str, list[str]] = {}
    for key, server in asked:
        said = _warning(server, ports)
        if said and said not in found.setdefault(key, []):
            found[key].append(said)
    return {key: said for key, said in found.items() if said}


def _servers(router: RouterPlan) -> Iterator[AuthServer]:
    for one in router.chain:
        if one.kind == "forwardauth":
            yield read_server(one.options["address"], one.options.get("stack", ""))


def _warning(server: AuthServer, ports: Mapping[str, set[int]]) -> str | None:
    named = [name for name in server.names if name in ports]
    if server.scheme == "https" and named:
        return (
            f"auth server {server.url}: the service {named[0]} is asked by http only; this is taken for a host outside"
        )
    if any(server.port in ports[name] for name in named):
        return None
    if named:
        label = f"traefik.http.services.auth.loadbalancer.server.port={server.port}"
        return (
            f"auth server {server.url}: gateways do not reach port {server.port} of the service {named[0]}; "
            f"give that service the label {label}, or publish the port"
        )
    if server.names and "." not in server.host and server.host != "localhost":
        return f"auth server {server.url}: no service is called so, it is taken for a host outside the cluster"
    return None
