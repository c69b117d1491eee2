"""Published ports: the short forms, ranges, and the entries that both forms become.

An entry is a mapping with target and published (integers), protocol, mode, and as given name, host_ip, app_protocol.
Short: `[[IP:][PUBLISHED[-END]]:]TARGET[-END][/PROTOCOL]`, IPv6 addresses in brackets. PROTOCOL is tcp, udp, sctp, or
http (essaim's own: tcp, and the gateway routes by request instead of by connection).

Pure: no I/O.
"""

import ipaddress
import re
from typing import Any

from essaim.stacks.source.tree import Node, Path, Problems

SHORT = re.compile(
    r"(?:(?:\[(?P<ip6>[0-9a-fA-F:.%]+)\]|(?P<ip>[^\[\]/]*?)):)??"
    r"(?:(?P<published>[0-9]+(?:-[0-9]+)?)?:)?(?P<target>[0-9]+(?:-[0-9]+)?)(?:/(?P<protocol>[A-Za-z0-9]+))?\Z"
)
ADDRESS_AND_PORT = re.compile(r"(?:\[([0-9a-fA-F:.%]+)\]|([^\[\]:]+)):([0-9]+(?:-[0-9]+)?)\Z")
PROTOCOLS = ("tcp", "udp", "sctp")
MODES = ("ingress", "host")
MAX_PORT = 65535
MAX_RANGE = 4096
SHORT_FORM = '[[IP:]PUBLISHED[-END]:]TARGET[-END][/tcp|udp|sctp|http], such as "8080:80"'


class PortError(ValueError):
    """Says what is wrong with the text of a port."""


def parse_short(text: str) -> list[dict[str, Any]]:
    """The entries of a short form. Raises PortError."""
    match = SHORT.match(text)
    if match is None:
        raise PortError(f'"{text}" is no port; allowed: {SHORT_FORM}')
    entry: dict[str, Any] = {"mode": "ingress", **_protocol(match["protocol"] or "tcp")}
    if match["ip6"] or match["ip"]:
        entry["host_ip"] = _address(match["ip6"] or match["ip"])
    return expand(entry, match["target"], match["published"])


def _protocol(text: str) -> dict[str, str]:
    name = text.lower()
    if name == "http":
        return {"protocol": "tcp", "app_protocol": "http"}
    if name not in PROTOCOLS:
        raise PortError(f'"{text}" is no protocol of a port; allowed: {", ".join(PROTOCOLS)}, http')
    return {"protocol": name}


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise PortError(f'"{text}" is not an IP address') from None


def expand(entry: dict[str, Any], target: str, published: str | None) -> list[dict[str, Any]]:
    """One entry a port of the ranges. As in Docker, one target may be published on a range."""
    targets = _range(target)
    if published is None:
        return [entry | {"target": port} for port in targets]
    outer = _range(published)
    if len(targets) == 1:
        targets = targets * len(outer)
    if len(targets) != len(outer):
        raise PortError(f"the ranges {published} and {target} differ in length")
    return [
        entry | ({"target": inner, "published": port} if port else {"target": inner})
        for inner, port in zip(targets, outer, strict=True)
    ]


def _range(text: str) -> list[int]:
    first, _, last = text.partition("-")
    if len(text) > 11 or int(first) > MAX_PORT or int(last or first) > MAX_PORT:
        raise PortError(f"{text} is not within 0-{MAX_PORT}")
    start, end = int(first), int(last or first)
    if end < start:
        raise PortError(f"the range {text} ends before it starts")
    if end - start >= MAX_RANGE:
        raise PortError(f"the range {text} holds more than {MAX_RANGE} ports")
    return list(range(start, end + 1))


def canonical_ports(node: Node, path: Path, problems: Problems) -> Node:
    """The list with every port in long form."""
    found: list[Node] = []
    for index, item in enumerate(node.value or ()):
        try:
            entries = parse_long(item) if isinstance(item.value, dict) else parse_short(_text(item.value))
        except PortError as error:
            problems.add(item.place, (path, index), str(error))
            continue
        for entry in entries:
            if entry["target"] == 0:
                problems.add(item.place, (path, index), "the target port 0 does not exist; allowed: 1-65535")
            found.append(item.like({key: item.like(value) for key, value in entry.items()}))
    return node.like(found)


def _text(value: Any) -> str:
    if isinstance(value, float):
        raise PortError(f"{value} is no port; allowed: {SHORT_FORM}")
    return str(value)


def parse_long(node: Node) -> list[dict[str, Any]]:
    """The entries of a long form; `published` may be a range and may start with an address (`10.0.0.5:443`)."""
    given = {key: child.value for key, child in node.value.items() if child.value is not None}
    if "target" not in given:
        raise PortError('"target" is missing')
    entry: dict[str, Any] = {"mode": given.get("mode", "ingress"), **_protocol(str(given.get("protocol", "tcp")))}
    if entry["mode"] not in MODES:
        raise PortError(f'the mode "{entry["mode"]}" does not exist; allowed: {", ".join(MODES)}')
    entry |= {key: str(given[key]) for key in ("name", "app_protocol") if key in given}
    published = str(given["published"]) if "published" in given else None
    address = given.get("host_ip")
    if published is not None and (match := ADDRESS_AND_PORT.match(published)):
        if address is not None:
            raise PortError("host_ip and an address in published exclude each other")
        address, published = match[1] or match[2], match[3]
    if address:
        entry["host_ip"] = _address(str(address))
    for name, text in (("target", str(given["target"])), ("published", published)):
        if text is not None and not re.fullmatch(r"[0-9]+(-[0-9]+)?", text):
            raise PortError(f'{name} must be a port or a range of ports, found "{text}"')
    entry |= {key: plain_extension for key, plain_extension in given.items() if key.startswith("x-")}
    return expand(entry, str(given["target"]), published or None)
