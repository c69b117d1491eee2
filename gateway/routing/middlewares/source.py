"""Whom a request is taken to come from: Traefik's `sourceCriterion` and `ipStrategy`.

- `ipStrategy.depth`: so many places from the end of X-Forwarded-For; nobody ("") where there are fewer.
- `ipStrategy.excludedIPs`: the last address there that is not one of these; nobody if all are.
- `ipStrategy.ipv6Subnet`: addresses of one IPv6 network of so many bits are one source.
- Unlike Traefik's, both read the field only where `essaim.trusted` believes the connection's peer (its address is the
  source otherwise): a client must not choose its own address.

Pure: a call in, a source out.
"""

import ipaddress
from collections.abc import Callable

from essaim.gateway.protocol.addresses import Networks
from essaim.gateway.routing.call import Call, Options, flag, get_field, listed, number, subnet

Source = Callable[[Call], str]


def address_strategy(options: Options, prefix: str = "ipstrategy.") -> Source:
    """Raises ValueError when the options contradict each other."""
    depth = number(options, prefix + "depth")
    bits = number(options, prefix + "ipv6subnet")
    excluded = Networks(listed(options.get(prefix + "excludedips", "")))
    if depth and excluded:
        raise ValueError("ipStrategy is either depth or excludedIPs")
    if bits > 128:
        raise ValueError("ipv6Subnet is a number of bits up to 128")

    def address(call: Call) -> str:
        if not (depth or excluded) or not call.trusted:
            return call.address
        hops = call.hops
        if depth:
            return _valid(hops[-depth]) if len(hops) >= depth else ""
        return next((hop for hop in map(_valid, reversed(hops)) if hop not in excluded), "")

    return (lambda call: subnet(address(call), bits)) if bits else address


def _valid(hop: str) -> str:
    try:
        return str(ipaddress.ip_address(hop))
    except ValueError:
        return ""


def source_criterion(options: Options) -> Callable[[Call], bytes]:
    """What requests are counted by. Raises ValueError when the options name two."""
    prefix = "sourcecriterion."
    field = options.get(prefix + "requestheadername", "").encode()
    host = flag(options, prefix + "requesthost")
    strategy = any(name.startswith(prefix + "ipstrategy.") for name in options)
    if bool(field) + host + strategy > 1:
        raise ValueError("sourceCriterion is one of ipStrategy, requestHeaderName and requestHost")
    if field:
        return lambda call: get_field(call.fields, field) or b""
    if host:
        return lambda call: call.request.host.lower()
    address = address_strategy(options, prefix + "ipstrategy.")
    return lambda call: address(call).encode()
