"""The nftables rules by which a container reaches virtual addresses: one table a network, in the container's own
network namespace.

- A new flow to a virtual address is sent to the next replica in turn, TCP, UDP and all else, at every port; connection
  tracking keeps it there. The turn begins at another replica in each container, so that their first flows spread.
- A flow to an address for which no replica is up is refused at once, and so is what follows of a flow whose replica
  has ended: a client learns of it and can begin anew.
- Loading a text replaces the table in one transaction; flows outlive it. Rules need nobody to tend them: traffic goes
  on without the daemon.

Rejected: IPVS, which many kernels lack and which needs masquerading, or the address on each replica's loopback; one
balancer a node, which hides the client's address and goes with its node.

Pure: services in, text out.
"""

import ipaddress
from collections.abc import Iterable, Sequence

from essaim.cluster.overlay import VirtualService


def table_name(network_id: str) -> str:
    return f"essaim_{network_id[:12]}"


def ruleset(network_id: str, services: Sequence[VirtualService], turn: int) -> str:
    """What `nft -f` takes. `turn` says with which replica to begin."""
    table = table_name(network_id)
    # An absent table cannot be deleted: it is declared first.
    lines = [f"table ip {table}", f"delete table ip {table}"]
    if not services:
        return "\n".join(lines) + "\n"
    lines.append(f"table ip {table} {{")
    reached = [(number, service) for number, service in enumerate(services) if service.up]
    for number, service in reached:
        lines += _chain(f"service{number}", [_choice(_addresses(service.up), turn)])
    balance = ["type nat hook output priority -100; policy accept;"]
    if reached:
        targets = ", ".join(f"{_address(service.vip)} : goto service{number}" for number, service in reached)
        balance.append(f"ip daddr vmap {{ {targets} }}")
    lines += _chain("refuse", ["meta l4proto tcp reject with tcp reset", "reject with icmp type port-unreachable"])
    vips = _set(service.vip for service in services)
    living = [address for service in services for address in (*service.up, *service.leaving)]
    but_the_living = f" ip daddr != {_set(living)}" if living else ""
    check = [
        "type filter hook output priority 0; policy accept;",
        f"ct direction original ct status dnat ct original ip daddr {vips}{but_the_living} jump refuse",
        f"ip daddr {vips} jump refuse",
    ]
    lines += [*_chain("balance", balance), *_chain("check", check), "}"]
    return "\n".join(lines) + "\n"


def sample() -> str:
    """Every kind of rule, for a kernel to be asked about."""
    return ruleset("sample", [VirtualService("192.0.2.1", ["192.0.2.2", "192.0.2.3"], ["192.0.2.4"])], 0)


def ended(before: Iterable[VirtualService], after: Iterable[VirtualService]) -> set[str]:
    """Replicas' addresses that had flows and have none any more."""
    return _living(before) - _living(after)


def _living(services: Iterable[VirtualService]) -> set[str]:
    return {address for service in services for address in (*service.up, *service.leaving)}


def _choice(addresses: list[str], turn: int) -> str:
    if len(addresses) == 1:
        return f"dnat to {addresses[0]}"
    first = turn % len(addresses)
    turned = ", ".join(f"{i} : {address}" for i, address in enumerate(addresses[first:] + addresses[:first]))
    return f"dnat to numgen inc mod {len(addresses)} map {{ {turned} }}"


def _chain(name: str, rules: Iterable[str]) -> list[str]:
    return [f"  chain {name} {{", *(f"    {rule}" for rule in rules), "  }"]


def _set(addresses: Iterable[str]) -> str:
    return f"{{ {', '.join(sorted(set(_addresses(addresses)), key=ipaddress.IPv4Address))} }}"


def _addresses(addresses: Iterable[str]) -> list[str]:
    return [_address(address) for address in addresses]


def _address(text: str) -> str:
    """Nothing but an address gets into the text. Raises ValueError."""
    return str(ipaddress.IPv4Address(text))
