"""How template values print, compare and count as true: Go's rules on JSON data.

Pure: values in, text and truth out.
"""

from collections.abc import Mapping, Sequence
from typing import Any


def show(value: Any) -> str:
    """Go's `%v` of a pipeline's value: nil is that of a typed field, which prints as `<nil>`."""
    return inner(value)


def inner(value: Any) -> str:
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return float_text(value)
    if isinstance(value, Mapping):
        return "map[" + " ".join(f"{key}:{inner(value[key])}" for key in sorted(value)) + "]"
    if isinstance(value, list | tuple):
        return "[" + " ".join(inner(item) for item in value) + "]"
    return str(value)


def float_text(value: float) -> str:
    """Go's %v of a float64: shortest, exponents from 21 digits on."""
    if value.is_integer() and abs(value) < 1e21:
        return str(int(value))
    return repr(value)


def truth(value: Any) -> bool:
    """Empty strings and containers, zero, false and nil are false."""
    if isinstance(value, str | Mapping | Sequence):
        return len(value) > 0
    return bool(value)


def kind(value: Any) -> str:
    """The type's name in error messages."""
    if value is None:
        return "nil"
    if isinstance(value, bool):
        return "bool"
    for python, go in ((str, "string"), (int, "int"), (float, "float64"), (Mapping, "map"), (Sequence, "slice")):
        if isinstance(value, python):
            return go
    return type(value).__name__
