"""Published ports: docker's short syntax (`[ip:][published:]target[/protocol]`, ranges) and its long one.

Beyond docker: an address in the short form and `host_ip=` in the long one publish on that address of each node;
`app_protocol=http` asks the gateway for HTTP routing; `name=` names the port.

Pure: text to PortConfig. What cannot be read raises ValueError with a message for the user.
"""

import ipaddress
import re

from essaim.cluster.service import PortConfig

from .pairs import fields

PROTOCOLS = ("tcp", "udp", "sctp")
APP_PROTOCOLS = ("tcp", "http", "tls")


def parse_publish(text: str) -> list[PortConfig]:
    """One `--publish`; a range gives a port each."""
    return long_form(text) if "=" in text else short_form(text)


def long_form(text: str) -> list[PortConfig]:
    found: dict[str, str] = {}
    for item in fields(text):
        key, separator, value = item.partition("=")
        if not separator:
            raise ValueError(f"invalid field: {item}")
        found[key.lower()] = value
    unknown = sorted(set(found) - {"target", "published", "protocol", "mode", "app_protocol", "host_ip", "name"})
    if unknown:
        raise ValueError(f"invalid field key: {unknown[0]}")
    if not found.get("target"):
        raise ValueError("missing mandatory field 'target'")
    protocol, mode = found.get("protocol", "tcp"), found.get("mode", "ingress")
    if protocol not in PROTOCOLS:
        raise ValueError(f"invalid protocol value '{protocol}'")
    if mode not in ("ingress", "host"):
        raise ValueError(f"invalid publish mode value ({mode}): must be either 'ingress' or 'host'")
    if found.get("app_protocol", "tcp") not in APP_PROTOCOLS:
        raise ValueError(f"invalid app_protocol value '{found['app_protocol']}': must be tcp, http or tls")
    return [
        PortConfig(
            name=found.get("name"),
            protocol=protocol,
            target_port=port_number(found["target"], "target"),
            published_port=port_number(found["published"], "published") if found.get("published") else None,
            publish_mode=mode,
            app_protocol=found.get("app_protocol"),
            host_ip=found.get("host_ip"),
        )
    ]


def port_number(text: str, what: str) -> int:
    if not re.fullmatch(r"\d+", text, re.ASCII) or int(text) > 65535:
        raise ValueError(f"invalid {what} port ({text}): value must be an integer: invalid syntax")
    return int(text)


def short_form(text: str) -> list[PortConfig]:
    body, slash, protocol = text.rpartition("/") if "/" in text else (text, "", "tcp")
    protocol = protocol.lower()
    if slash and protocol not in PROTOCOLS:
        raise ValueError(f"invalid proto: {protocol}")
    address, published, target = split(body)
    check_address(address)
    if not target:
        raise ValueError(f"no port specified: {text}<empty>")
    targets = port_range(target, "containerPort")
    wanted = port_range(published, "hostPort") if published else None
    if wanted and len(wanted) != len(targets) and len(targets) != 1:
        raise ValueError(f"invalid ranges specified for container and host Ports: {target} and {published}")
    pairs: list[tuple[int, int | None]]
    if wanted is None:
        pairs = [(port, None) for port in targets]
    elif len(targets) == 1:
        pairs = [(targets[0], port) for port in wanted]
    else:
        pairs = list(zip(targets, wanted, strict=True))
    return [
        PortConfig(
            protocol=protocol,
            target_port=target_port,
            published_port=published_port or None,
            publish_mode="ingress",
            host_ip=address or None,
        )
        for target_port, published_port in pairs
    ]


def split(body: str) -> tuple[str, str, str]:
    """(address, published, target) of the short form."""
    rest, _, target = body.rpartition(":")
    if rest.startswith("[") and "]" in rest:
        address, _, published = rest[1:].partition("]")
        return address, published.lstrip(":"), target
    address, _, published = rest.rpartition(":")
    return address, published, target


def check_address(text: str) -> None:
    if text:
        try:
            ipaddress.ip_address(text)
        except ValueError:
            raise ValueError(f"invalid IP address: {text}") from None


def parse_target(text: str) -> str:
    """What `--publish-rm` takes: a target port, or a port as it was published."""
    body, _, _ = text.partition("/")
    port_range(body.rpartition(":")[2], "containerPort")
    return text


def port_range(text: str, what: str) -> range:
    first, dash, last = text.partition("-")
    last = last if dash else first
    if not all(re.fullmatch(r"\d+", part, re.ASCII) and int(part) <= 65535 for part in (first, last)):
        raise ValueError(f"invalid {what}: {text}")
    if int(last) < int(first):
        raise ValueError(f"invalid {what}: {text}")
    return range(int(first), int(last) + 1)
