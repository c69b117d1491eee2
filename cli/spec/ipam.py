"""Address ranges of a network: each range, gateway and reserved address goes to the subnet that contains it.

Pure: text to the API's IPAM object. What fits no subnet raises ValueError.
"""

import ipaddress
from collections.abc import Mapping
from typing import Any

Subnet = ipaddress.IPv4Network | ipaddress.IPv6Network


def ipam(
    driver: str,
    subnets: list[str],
    ranges: list[str],
    gateways: list[str],
    reserved: Mapping[str, str],
    options: Mapping[str, str],
) -> dict[str, Any]:
    if len(subnets) < len(ranges) or len(subnets) < len(gateways):
        raise ValueError("every ip-range or gateway must have a corresponding subnet")
    known = [network(text) for text in subnets]
    for place, one in enumerate(known):
        for other in known[place + 1 :]:
            if one.version == other.version and one.overlaps(other):
                raise ValueError("multiple overlapping subnet configuration is not supported")
    config: list[dict[str, Any]] = [{"Subnet": text} for text in subnets]
    for text in ranges:
        config[home(known, network(text).network_address, f"no matching subnet for range {text}")]["IPRange"] = text
    for text in gateways:
        config[home(known, address(text), f"no matching subnet for gateway {text}")]["Gateway"] = text
    for name, text in reserved.items():
        place = home(known, address(text), f"no matching subnet for aux-address {text}")
        config[place].setdefault("AuxiliaryAddresses", {})[name] = text
    return {"Driver": driver, "Options": dict(options), "Config": config}


def network(text: str) -> Subnet:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"invalid CIDR address: {text}") from None


def address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        raise ValueError(f"invalid IP address: {text}") from None


def home(subnets: list[Subnet], wanted: ipaddress.IPv4Address | ipaddress.IPv6Address, problem: str) -> int:
    """The place of the subnet that holds an address."""
    for place, subnet in enumerate(subnets):
        if wanted.version == subnet.version and wanted in subnet:
            return place
    raise ValueError(problem)
