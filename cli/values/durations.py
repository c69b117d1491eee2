"""Durations of flags, and how long ago something was in words.

Pure: text to numbers and back.
"""

import re
from datetime import UTC, datetime, timedelta

from essaim.cluster.durations import SECOND, nanoseconds


def parse_positive(text: str) -> int:
    value = nanoseconds(text)
    if value < 0:
        raise ValueError("duration cannot be negative")
    return value


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
        before = nanoseconds(text)
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
