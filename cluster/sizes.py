"""Sizes in bytes as Docker's tools read them: `64m`, `1.5GB`, `2gib`, `1024`, `512 k`.

Most of Docker counts a `k` as 1,024 however it is spelt; limits of log files count it as 1,000.

Pure: text in, numbers out.
"""

import re
from decimal import Decimal

BINARY, DECIMAL = 1024, 1000
POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
MOST = 2**63 - 1
SHOWN = 80

_FORM = re.compile(r"([0-9]{1,30}(?:\.[0-9]{0,30})?|\.[0-9]{1,30}) *([A-Za-z]*)")
_UNIT = re.compile(r"([kmgtp]?)(?:i?b)?", re.IGNORECASE)


def parse_size(text: str, base: int = BINARY) -> int:
    """Bytes. Raises ValueError in docker's words."""
    found = _FORM.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"invalid size: '{text[:SHOWN]}'")
    unit = _UNIT.fullmatch(found[2])
    if unit is None or found[2].lower() == "ib":
        raise ValueError(f"invalid suffix: '{found[2][:SHOWN]}'")
    value = int(Decimal(found[1]) * base ** POWERS[unit[1].lower()])
    if value > MOST:
        raise ValueError(f"invalid size: '{text[:SHOWN]}' is more than {MOST} bytes")
    return value
