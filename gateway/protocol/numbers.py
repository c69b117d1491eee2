"""Numbers as users write them in labels and options: ASCII digits and nothing else.

`int()` and `float()` take more than that: digits of other scripts, `1_000`, `inf`, `nan`, and any length; `isdigit()`
is true of characters such as `²` that `int()` refuses. A number of no bound also fits neither a message nor a clock.

Pure: text in, numbers out.
"""

import re

from essaim.cluster.booleans import parse_bool

WHOLE = re.compile(r"[0-9]{1,15}")
DECIMAL = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,15})?|\.[0-9]{1,15}")
MOST = 10**15 - 1
MOST_PORT = 65535
SHOWN = 80
"""Characters of a value that a message repeats."""


def whole(text: str, least: int = 0, most: int = MOST) -> int:
    """A whole number within these bounds. Raises ValueError."""
    text = text.strip(" ")
    number = int(text) if WHOLE.fullmatch(text) else -1
    if not least <= number <= most:
        bounds = f"from {least} to {most}" if most < MOST else f"of at least {least}"
        raise ValueError(f"must be a whole number {bounds}")
    return number


def port(text: str) -> int:
    """Raises ValueError."""
    return whole(text, 1, MOST_PORT)


def is_port(text: str) -> bool:
    text = text.strip(" ")
    return WHOLE.fullmatch(text) is not None and 0 < int(text) <= MOST_PORT


def decimal(text: str) -> float:
    """A number such as 0.25. Raises ValueError."""
    if not DECIMAL.fullmatch(text.strip(" ")):
        raise ValueError("must be a number such as 0.25")
    return float(text)


def shown(value: str) -> str:
    """A value for a message: quoted, in one line, not at any length."""
    return repr(value if len(value) <= SHOWN else value[:SHOWN] + "...")


def flag(text: str) -> bool:
    """As Go reads it, and in any case; empty is false. Raises ValueError."""
    found = parse_bool(text.strip(" ").lower() or "false")
    if found is None:
        raise ValueError("must be true or false")
    return found
