"""Lists of `key=value` and of comma-separated fields: labels, environments, options, host mappings.

Pure: text to data. What cannot be read raises ValueError with a message for the user.
"""

import csv
import ipaddress
import re
from collections.abc import Iterable, Mapping


def fields(text: str) -> list[str]:
    """One line of comma-separated values; quotes protect commas."""
    if "\n" in text:
        raise ValueError("a value cannot span lines")
    try:
        rows = list(csv.reader([text], strict=True))
    except csv.Error as error:
        raise ValueError(f"cannot read {text!r}: {error}") from None
    return rows[0] if rows else []


def to_map(items: Iterable[str]) -> dict[str, str]:
    """`k=v` and `k` (an empty value); the last one counts. Keys are sorted, as Go writes maps."""
    pairs = (item.partition("=") for item in items)
    return dict(sorted({key: value for key, _, value in pairs}.items()))


def check_label(text: str) -> str:
    """A label with a key."""
    if not text.partition("=")[0].strip():
        raise ValueError(f"invalid label '{text}': empty name")
    return text


def check_pair(text: str) -> str:
    if "=" not in text:
        raise ValueError(f"'{text}' is not of the form key=value")
    return text


def check_env(text: str) -> str:
    if not text.partition("=")[0]:
        raise ValueError(f"invalid environment variable: {text}")
    return text


def check_host(text: str) -> str:
    """`name:ip` or `name=ip`."""
    name, separator, address = text.partition("=" if "=" in text else ":")
    if not separator or not name:
        raise ValueError(f'bad format for add-host: "{text}"')
    try:
        ipaddress.ip_address(address.strip("[]"))
    except ValueError:
        if address != "host-gateway":
            raise ValueError(f'invalid IP address in add-host: "{address}"') from None
    return f"{name}:{address.strip('[]')}"


def host_entry(text: str) -> str:
    """`name:ip` as the hosts file (and the API) has it: `ip name`."""
    name, _, address = text.partition(":")
    return f"{address} {name}"


def check_ip(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text.strip()))
    except ValueError:
        raise ValueError(f"IP address is not correctly formatted: {text}") from None


def check_dns_search(text: str) -> str:
    text = text.strip()
    if text == ".":
        return text
    if not re.fullmatch(
        r"[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*\.?", text
    ):
        raise ValueError(f"{text} is not a valid domain")
    return text


def resolve_env(items: Iterable[str], environment: Mapping[str, str]) -> list[str]:
    """A variable without `=` takes its value from the caller's environment; unset there, it is sent bare."""
    result = []
    for item in items:
        if "=" not in item and item in environment:
            item = f"{item}={environment[item]}"
        result.append(item)
    return result


def parse_env_file(text: str, environment: Mapping[str, str], name: str) -> list[str]:
    """Lines of `KEY=value`; blank lines and comments are left out, a bare key is taken from the environment."""
    result = []
    for number, raw in enumerate(text.removeprefix("\ufeff").splitlines(), 1):
        line = raw.lstrip()
        if not line or line.startswith("#"):
            continue
        key, separator, value = line.partition("=")
        if not key.strip():
            raise ValueError(f"invalid env file ({name}), line {number}: no variable name on line '{line}'")
        if re.search(r"\s", key):
            raise ValueError(f"invalid env file ({name}), line {number}: variable '{key}' contains whitespaces")
        if separator:
            result.append(f"{key}={value}")
        elif key in environment:
            result.append(f"{key}={environment[key]}")
    return result


def last_wins(items: Iterable[str]) -> list[str]:
    """Of several settings of one variable the last counts, at its place."""
    chosen: dict[str, str] = {}
    for item in items:
        key = item.partition("=")[0]
        chosen.pop(key, None)
        chosen[key] = item
    return list(chosen.values())
