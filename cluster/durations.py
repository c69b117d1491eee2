"""Durations as Go writes and reads them (`1h30m`, `1.5s`, `500ms`), which Docker, Compose and Traefik all do.

Read as Go's time.ParseDuration reads them, to the nanosecond. Two dialects go beyond it: Compose has days and weeks,
and labels take a bare number for seconds.

Pure: text to numbers and back.
"""

import re

SECOND = 10**9
UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": SECOND, "m": 60 * SECOND, "h": 3600 * SECOND}
LONG_UNITS = UNITS | {"d": 24 * 3600 * SECOND, "w": 7 * 24 * 3600 * SECOND}
"""Compose's."""
MOST = 2**63 - 1
"""Nanoseconds that Go's type holds."""
MOST_DIGITS = 19
LONGEST = 366 * 24 * 3600.0
"""Seconds of a label's duration: no clock has to carry more, and nobody means it."""
SHOWN = 80

_PART = re.compile(r"([0-9]*)(?:\.([0-9]*))?([^0-9.]*)")
_BARE = re.compile(r"[0-9]{1,15}(?:\.[0-9]{0,15})?|\.[0-9]{1,15}")
A_YEAR = "a duration is a year at most"
_LIKE = "write it like 500ms, 2s or 1m30s"


class BadDuration(ValueError):
    """The text is no duration; the message is Go's."""


class TooLong(BadDuration):
    """Longer than Go's type holds, some 292 years."""


def nanoseconds(text: str, units: dict[str, int] = UNITS) -> int:
    """`1m30s` is 90 * 10**9. A sign is allowed, `0` needs no unit. Raises BadDuration."""
    negative, rest = text[:1] == "-", text[1:] if text[:1] in ("+", "-") else text
    if rest == "0":
        return 0
    if not rest:
        raise BadDuration(f"time: invalid duration {_quoted(text)}")
    total, end = 0, 0
    while end < len(rest):
        part = _PART.match(rest, end)
        assert part is not None
        whole, fraction, unit = part.groups()
        if not whole and not fraction:
            raise BadDuration(f"time: invalid duration {_quoted(text)}")
        if not unit:
            raise BadDuration(f"time: missing unit in duration {_quoted(text)}")
        if unit not in units:
            raise BadDuration(f"time: unknown unit {_quoted(unit)} in duration {_quoted(text)}")
        if len(whole.lstrip("0")) > MOST_DIGITS:
            raise TooLong(f"time: invalid duration {_quoted(text)}")
        total += _amount(whole, fraction or "", units[unit])
        if total > MOST + negative:
            raise TooLong(f"time: invalid duration {_quoted(text)}")
        end = part.end()
    return -total if negative else total


def _amount(whole: str, fraction: str, unit: int) -> int:
    """As Go reckons it: digits of a fraction beyond what 63 bits hold are dropped, the rest is a float64."""
    found, scale = 0, 1.0
    for digit in fraction:
        if found > MOST // 10 or found * 10 + int(digit) > MOST:
            break
        found, scale = found * 10 + int(digit), scale * 10
    return int(whole.lstrip("0") or "0") * unit + int(float(found) * (float(unit) / scale))


def seconds(text: str) -> float:
    """A label's duration: `1m30s` is 90.0, and so is `90`. Raises ValueError for anything else, for what is negative,
    and for what is longer than a year."""
    text = text.strip(" ")
    if _BARE.fullmatch(text):
        found = float(text)
    else:
        try:
            found = nanoseconds(text) / SECOND
        except TooLong:
            raise ValueError(A_YEAR) from None
        except BadDuration:
            raise ValueError(f"{_quoted(text)} is not a duration; {_LIKE}") from None
    if found < 0 or text.startswith("-"):
        raise ValueError(f"{_quoted(text)} is negative; {_LIKE}")
    if found > LONGEST:
        raise ValueError(A_YEAR)
    return found


def format_duration(value: int) -> str:
    """Nanoseconds as Go prints them: `1h0m5s`, `1.5s`, `200ms`."""
    if value == 0:
        return "0s"
    sign, left = ("-", -value) if value < 0 else ("", value)
    if left < SECOND:
        unit = "ns" if left < 10**3 else "µs" if left < 10**6 else "ms"
        return f"{sign}{_decimal(left, UNITS[unit])}{unit}"
    minutes, rest = divmod(left, 60 * SECOND)
    hours, minutes = divmod(minutes, 60)
    text = f"{_decimal(rest, SECOND)}s"
    if hours:
        return f"{sign}{hours}h{minutes}m{text}"
    return f"{sign}{minutes}m{text}" if minutes else sign + text


def _decimal(value: int, unit: int) -> str:
    whole, rest = divmod(value, unit)
    digits = str(rest).zfill(len(str(unit)) - 1).rstrip("0") if rest else ""
    return f"{whole}.{digits}" if digits else str(whole)


def _quoted(text: str) -> str:
    """As Go's time package quotes: all but printable ASCII byte by byte."""
    shown = (text if len(text) <= SHOWN else text[:SHOWN] + "...").encode("utf-8", "surrogatepass")
    return '"' + "".join(_byte(one) for one in shown) + '"'


def _byte(one: int) -> str:
    if chr(one) in '"\\':
        return "\\" + chr(one)
    return chr(one) if 0x20 <= one < 0x7F else f"\\x{one:02x}"
