"""Query strings: flags, numbers, versions and filters, in every form that the stock clients send.

Pure: text in, values out.
"""

from collections.abc import Collection, Mapping
from ipaddress import ip_address

import msgspec

from essaim.cluster.errors import InvalidArgument
from essaim.cluster.numerals import whole

TRUE = {"1", "true", "yes", "on", "y", "t"}
MAX_FILTERS = 64 << 10

Filters = dict[str, list[str]]


def flag(query: Mapping[str, str], name: str) -> bool:
    """The CLI sends `1`, the SDK `True`."""
    return query.get(name, "").lower() in TRUE


def filters(query: Mapping[str, str], allowed: Collection[str]) -> Filters:
    """`{"name":["x"]}` (SDK) or `{"name":{"x":true}}` (CLI) as `{"name": ["x"]}`. Raises InvalidArgument."""
    text = query.get("filters", "")
    if not text:
        return {}
    if len(text) > MAX_FILTERS:
        raise InvalidArgument("invalid filter: too long")
    try:
        raw = msgspec.json.decode(text, type=dict[str, dict[str, bool] | list[str] | None] | None)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        raise InvalidArgument(f"invalid filter: {error}") from error
    for name in raw or {}:
        if name not in allowed:
            raise InvalidArgument(f"Invalid filter '{name}'")
    # Go's nil, of a map or of a set, asks for nothing.
    return {name: list(values) for name, values in (raw or {}).items() if values}


def version(query: Mapping[str, str], noun: str) -> int:
    """The version that an update was made from. Raises InvalidArgument in an Engine's words."""
    text = query.get("version", "")
    if (found := whole(text, 19)) is not None:
        return found
    raise InvalidArgument(f"invalid {noun} version '{text}': strconv.ParseUint: parsing \"{text}\": invalid syntax")


def number(query: Mapping[str, str], name: str, default: int) -> int:
    """Raises InvalidArgument."""
    text = query.get(name, "")
    if not text:
        return default
    found = whole(text.removeprefix("-"))
    if found is None:
        raise InvalidArgument(f'invalid {name} "{text[:80]}": a whole number is expected')
    return -found if text.startswith("-") else found


def address(query: Mapping[str, str], name: str) -> str:
    """An IP address, "" when absent. Raises InvalidArgument."""
    text = query.get(name, "")
    if not text:
        return ""
    try:
        return str(ip_address(text))
    except ValueError:
        raise InvalidArgument(f'invalid {name} "{text[:80]}": an IP address is expected') from None


def timestamp(query: Mapping[str, str], name: str) -> float:
    """Seconds since 1970 (`1795371280.000000000`), 0 when absent. Raises InvalidArgument."""
    text = query.get(name, "")
    if not text:
        return 0.0
    try:
        value = float(text)
    except ValueError as error:
        raise InvalidArgument(f'invalid {name} "{text[:80]}": seconds since 1970 are expected') from error
    if not -1e12 < value < 1e12:
        raise InvalidArgument(f'invalid {name} "{text[:80]}": out of range')
    return value


def labels_match(labels: Mapping[str, str] | None, wanted: list[str]) -> bool:
    """Every wanted `key` or `key=value` is there."""
    labels = labels or {}
    for want in wanted:
        key, equals, value = want.partition("=")
        if key not in labels or (equals and labels[key] != value):
            return False
    return True


def any_prefix(values: list[str], wanted: list[str]) -> bool:
    """Nothing is wanted, or one of the values starts with one of the wanted."""
    return not wanted or any(value.startswith(want) for value in values for want in wanted)
