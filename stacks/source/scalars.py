"""What an untyped YAML scalar is, and how a value prints: as Go's YAML library has it, because Docker's tools do.

The rules are YAML 1.2's, with 1.1's old octals and underscores in numbers. PyYAML's own (1.1) would read `22:22`
as a number of base 60 and `on` as true, and so change ports and environment variables.

Pure: no I/O.
"""

import re
from typing import Any

NULLS = frozenset({"", "~", "null", "Null", "NULL"})
BOOLEANS = {
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip
SPECIAL_FLOATS = {".inf": "inf", "+.inf": "inf", "-.inf": "-inf", ".nan": "nan"}
INTEGER = re.compile(r"[-+]?(0b[01_]+|0o[0-7_]+|0x[0-9a-fA-F_]+|[0-9][0-9_]*)\Z")
FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?\Z")
NUMBER_START = frozenset("0123456789+-.")
MAX_DIGITS = 400
"""Longer digit strings stay strings: no Compose value needs them, and parsing them costs quadratic time."""


def resolve(text: str) -> Any:
    """The value of a plain scalar."""
    if text in NULLS:
        return None
    if text in BOOLEANS:
        return BOOLEANS[text]
    if text[0] not in NUMBER_START or len(text) > MAX_DIGITS:
        return text
    if INTEGER.match(text):
        return _integer(text)
    if FLOAT.match(text):
        return float(text.replace("_", ""))
    lowered = text.lower()
    return float(SPECIAL_FLOATS[lowered]) if lowered in SPECIAL_FLOATS else text


def _integer(text: str) -> Any:
    digits = text.replace("_", "")
    sign, digits = (-1, digits[1:]) if digits[0] == "-" else (1, digits.removeprefix("+"))
    try:
        if digits[:2] in ("0b", "0o", "0x"):
            return sign * int(digits, 0)
        if len(digits) > 1 and digits[0] == "0":
            return sign * int(digits, 8) if not set(digits) & set("89") else float(sign * int(digits))
        return sign * int(digits)
    except ValueError:
        return text


def text_of(value: Any) -> str:
    """A scalar as the string that Docker makes of it in environments, labels and options."""
    if value is None:
        return ""
    if value is True or value is False:
        return "true" if value else "false"
    if isinstance(value, float):
        return _float_text(value)
    return str(value)


def _float_text(value: float) -> str:
    """Go's %v: the shortest digits, with an exponent from 1e21 on and below 1e-4."""
    if value != value or value in (float("inf"), float("-inf")):
        return {"inf": "+Inf", "-inf": "-Inf"}.get(str(value), "NaN")
    if value == 0:
        return "0"
    if 1e-4 <= abs(value) < 1e21:
        digits = f"{value:.0f}" if value == int(value) else repr(value)
        return digits if "e" not in digits else f"{value:f}".rstrip("0")
    mantissa, _, exponent = repr(value).partition("e")
    sign, number = ("-", exponent[1:]) if exponent[0] == "-" else ("+", exponent.lstrip("+"))
    return f"{mantissa.removesuffix('.0')}e{sign}{number.zfill(2)}"
