"""Durations: Go's notation to nanoseconds and back, and how long ago something was in words.

Pure: text to numbers and back.
"""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal

UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
SECOND = 10**9
PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)


def parse_duration(text: str) -> int:
    """`1h2m3.5s` in nanoseconds; a sign is allowed, `0` needs no unit."""
    body = text[1:] if text[:1] in ("+", "-") else text
    if body == "0":
        return 0
    total, position = Decimal(0), 0
    while position < len(body):
        match = PART.match(body, position)
        if match is None:
            raise ValueError(explain(text, body[position:]))
        total += Decimal(match[1]) * UNITS[match[2]]
        position = match.end()
    if not body:
        raise ValueError(f'time: invalid duration "{text}"')
    nanoseconds = int(total)
    if nanoseconds >= 2**63:
        raise ValueError(f'time: invalid duration "{text}"')
    return -nanoseconds if text.startswith("-") else nanoseconds


def explain(text: str, rest: str) -> str:
    number = re.match(r"\d+\.?\d*|\.\d+", rest, re.ASCII)
    if number is None:
        return f'time: invalid duration "{text}"'
    unit = re.match(r"[^\d.]*", rest[number.end() :])
    if unit is None or not unit[0]:
        return f'time: missing unit in duration "{text}"'
    return f'time: unknown unit "{unit[0]}" in duration "{text}"'


def parse_positive(text: str) -> int:
    value = parse_duration(text)
    if value < 0:
        raise ValueError("duration cannot be negative")
    return value


def format_duration(nanoseconds: int) -> str:
    """As Go prints it: `1h0m5s`, `1.5s`, `200ms`."""
    if nanoseconds == 0:
        return "0s"
    sign, left = ("-", -nanoseconds) if nanoseconds < 0 else ("", nanoseconds)
    if left < SECOND:
        for unit, size in (("ms", 10**6), ("µs", 10**3), ("ns", 1)):
            if left >= size:
                return f"{sign}{decimal(left, size)}{unit}"
    hours, left = divmod(left, 3600 * SECOND)
    minutes, left = divmod(left, 60 * SECOND)
    text = f"{decimal(left, SECOND)}s"
    if hours or minutes:
        text = f"{minutes}m{text}"
    if hours:
        text = f"{hours}h{text}"
    return sign + text


def decimal(value: int, size: int) -> str:
    whole, part = divmod(value, size)
    if not part:
        return str(whole)
    digits = str(part).rjust(len(str(size)) - 1, "0").rstrip("0")
    return f"{whole}.{digits}"


def human_duration(seconds: float) -> str:  # one table of ranges
    """How long something lasted, roughly, in the words of `docker ps`."""
    minutes, hours = int(seconds / 60), int(seconds / 3600 + 0.5)
    table: tuple[tuple[bool, str], ...] = (
        (seconds < 1, "Less than a second"),
        (int(seconds) == 1, "1 second"),
        (seconds < 60, f"{int(seconds)} seconds"),
        (minutes == 1, "About a minute"),
        (minutes < 60, f"{minutes} minutes"),
        (hours == 1, "About an hour"),
        (hours < 48, f"{hours} hours"),
        (hours < 24 * 7 * 2, f"{hours // 24} days"),
        (hours < 24 * 30 * 2, f"{hours // 24 // 7} weeks"),
        (hours < 24 * 365 * 2, f"{hours // 24 // 30} months"),
    )
    for holds, words in table:
        if holds:
            return words
    return f"{int(seconds / 3600) // 24 // 365} years"


def parse_time(text: str) -> datetime:
    """An API time stamp (RFC 3339, up to nanoseconds), rounded down to microseconds."""
    match = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)", text)
    if match is None:
        raise ValueError(f"{text} is no time stamp")
    zone = "+00:00" if match[3] == "Z" else match[3]
    return datetime.fromisoformat(match[1] + (match[2] or "")[:7].ljust(7, "0").replace("0000000", "") + zone)


def go_time(stamp: str | None) -> str:
    """`2024-01-31 12:00:00.5 +0000 UTC`, as Go prints a time."""
    if not stamp:
        return ""
    moment = parse_time(stamp)
    fraction = re.sub(r"(Z|[+-]\d\d:\d\d)$", "", stamp).partition(".")[2].rstrip("0")
    zone = "+0000 UTC" if moment.utcoffset() == timedelta() else f"{moment:%z} {moment:%z}"
    return f"{moment:%Y-%m-%d %H:%M:%S}{'.' + fraction if fraction else ''} {zone}"


def time_ago(stamp: str | None, now: datetime) -> str:
    """`5 minutes ago`; empty for a time that was never set."""
    if not stamp:
        return ""
    then = parse_time(stamp)
    if then.year <= 1:
        return ""
    return human_duration((now - then).total_seconds()) + " ago"


def since_parameter(text: str, now: datetime) -> str:
    """`--since`/`--until`: a duration before now, a Unix time or a date, as the API's seconds.nanoseconds."""
    if not text:
        return ""
    try:
        before = parse_duration(text)
    except ValueError:
        pass
    else:
        moment = int(now.timestamp() * 10**6) * 1000 - before
        return f"{moment // SECOND}.{moment % SECOND:09d}"
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return text
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f'failed to parse value as time or duration: "{text}"') from None
    if when.tzinfo is None:
        when = when.replace(tzinfo=now.tzinfo or UTC)
    return f"{int(when.timestamp())}.{when.microsecond * 1000:09d}"
