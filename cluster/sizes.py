"""Sizes in bytes as Docker's tools read them: `64m`, `1.5GB`, `2gib`, `1024`, `512 k`, `1e6`.

Most of Docker counts a `k` as 1,024 however it is spelt; limits of log files count it as 1,000. One space may stand
before the unit, none elsewhere. Three things differ from Docker, which reckons in float64: numbers are exact, what does
not fit into 63 bits is refused (Docker takes it for any number), and so are hexadecimal floats.

Pure: text in, numbers out.
"""

import re
from decimal import Decimal, InvalidOperation

BINARY, DECIMAL = 1024, 1000
POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
MOST = 2**63 - 1
UNLIMITED = -1
SHOWN = 80

_FORM = re.compile(r"(.*[0-9.]|.* )([^0-9. ]*)", re.DOTALL)
_DIGITS = r"[0-9]+(?:_[0-9]+)*"
_NUMBER = re.compile(rf"[+-]?(?:{_DIGITS}(?:\.(?:{_DIGITS})?)?|\.{_DIGITS})(?:[eE][+-]?{_DIGITS})?")
_UNIT = re.compile(r"b|([kmgtp])(?:i?b)?|", re.IGNORECASE | re.ASCII)
_MOST_DIGITS = 400
_LARGEST_EXPONENT = 30


class BadSize(ValueError):
    """The text is no size; the message is docker's."""


def parse_size(text: str, base: int = BINARY) -> int:
    """Bytes. Raises BadSize."""
    found = _FORM.fullmatch(text)
    if found is None:
        raise BadSize(f"invalid size: '{_shown(text)}'")
    number = _number(found[1].removesuffix(" "))
    if number < 0:
        raise BadSize(f"invalid size: '{_shown(text)}'")
    unit = _UNIT.fullmatch(found[2])
    if unit is None:
        raise BadSize(f"invalid suffix: '{_shown(found[2])}'")
    value = number * base ** POWERS[(unit[1] or "").lower()]
    if value > MOST:
        raise BadSize(f"invalid size: '{_shown(text)}' is more than {MOST} bytes")
    return int(value)


def parse_limit(text: str) -> int:
    """Bytes, or UNLIMITED for `-1`. Raises BadSize."""
    return UNLIMITED if text == "-1" else parse_size(text)


def _number(text: str) -> Decimal:
    """One of no more digits than any size needs: exact arithmetic with `1e999999999` would take for ever."""
    if not _NUMBER.fullmatch(text) or len(text) > _MOST_DIGITS:
        raise BadSize(f'strconv.ParseFloat: parsing "{_shown(text)}": invalid syntax')
    try:
        number = Decimal(text)
    except InvalidOperation:  # of an exponent of 18 digits and more
        number = Decimal("Infinity")
    if (number and number.adjusted() > _LARGEST_EXPONENT) or number.is_infinite():
        raise BadSize(f'strconv.ParseFloat: parsing "{_shown(text)}": value out of range')
    return number if number.adjusted() > -_LARGEST_EXPONENT else Decimal(0)


def _shown(text: str) -> str:
    short = text if len(text) <= SHOWN else text[:SHOWN] + "..."
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in short)
