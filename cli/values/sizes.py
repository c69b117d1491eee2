"""Numbers as the docker CLI reads and prints them: bytes, CPUs, whole numbers, booleans.

Pure: text to numbers and back. What cannot be read raises ValueError with a message for the user.
"""

import math
import re

from essaim.cluster import booleans


def parse_uint(text: str) -> int:
    if not re.fullmatch(r"\d+", text, re.ASCII):
        raise ValueError(f'strconv.ParseUint: parsing "{text}": invalid syntax')
    value = int(text[:40])  # more digits are out of range anyway, and cost the square of their number
    if value >= 2**64:
        raise ValueError(f'strconv.ParseUint: parsing "{text}": value out of range')
    return value


def parse_int(text: str) -> int:
    if not re.fullmatch(r"[+-]?\d+", text, re.ASCII):
        raise ValueError(f'strconv.ParseInt: parsing "{text}": invalid syntax')
    value = int(text[:40])
    if not -(2**63) <= value < 2**63:
        raise ValueError(f'strconv.ParseInt: parsing "{text}": value out of range')
    return value


def parse_float(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f'strconv.ParseFloat: parsing "{text}": invalid syntax') from None
    if not math.isfinite(value):
        raise ValueError(f'strconv.ParseFloat: parsing "{text}": not a finite number')
    return value


def parse_bool(text: str) -> bool:
    found = booleans.parse_bool(text)
    if found is not None:
        return found
    raise ValueError(f'strconv.ParseBool: parsing "{text}": invalid syntax')


def significant(value: float, digits: int = 4) -> str:
    """Like C's `%.4g` without exponents: how the docker CLI prints sizes."""
    return f"{value:.{digits}g}"


def binary_size(value: int) -> str:
    """`64MiB`, `1.5GiB`, `512B`."""
    size, units = float(value), ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
    for unit in units[:-1]:
        if size < 1024:
            return significant(size) + unit
        size /= 1024
    return significant(size) + units[-1]
