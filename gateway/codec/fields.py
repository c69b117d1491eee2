"""Single fields and cookies in a block of field lines.

Pure: bytes in, bytes out.
"""

import re
from functools import lru_cache


@lru_cache(maxsize=256)
def _field_pattern(name: str) -> re.Pattern[bytes]:
    return re.compile(rb"(?:^|\r\n)" + re.escape(name.encode()) + rb":[\t ]*([^\r]*)", re.IGNORECASE)


@lru_cache(maxsize=256)
def _cookie_pattern(name: str) -> re.Pattern[bytes]:
    return re.compile(rb"(?:^|;)[ ]*" + re.escape(name.encode()) + rb"=([^;]*)")


def field(fields: bytes, name: str) -> bytes | None:
    """The first value of a field in a block of lines."""
    found = _field_pattern(name).search(fields)
    return found[1].rstrip(b" \t") if found else None


def values(fields: bytes, name: str) -> list[bytes]:
    """All of a field's values, line by line."""
    return [value.rstrip(b" \t") for value in _field_pattern(name).findall(fields)]


def cookie(fields: bytes, name: str) -> bytes | None:
    """The value of a cookie in a block of lines."""
    cookies = field(fields, "cookie")
    found = _cookie_pattern(name).search(cookies) if cookies else None
    return found[1].strip() if found else None
