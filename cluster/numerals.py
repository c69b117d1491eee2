"""Whole numbers in text that somebody else wrote: ASCII digits, and no more of them than make sense.

`str.isdigit` takes "²", which `int` does not; `str.isdecimal` and `\\d` take the digits of every script, which no other
reader of the same text does; and `int` refuses more than 4,300 digits with words about Python.

Pure: text in, numbers out.
"""

import re

_DIGITS = re.compile(r"[0-9]+")


def whole(text: str, digits: int = 18) -> int | None:
    """The number, or None for anything but 1 to `digits` ASCII digits."""
    return int(text) if len(text) <= digits and _DIGITS.fullmatch(text) else None


def port(text: str) -> int | None:
    """A number of a port, 1 to 65535."""
    number = whole(text, 5)
    return number if number is not None and 0 < number < 65536 else None
