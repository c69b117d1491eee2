"""Go's Sprintf for the verbs that templates use.

Pure: values to text.
"""

import re
from collections.abc import Sequence
from typing import Any

from .json_text import dumps
from .values import inner, kind

VERB = re.compile(r"%([-+ #0]*)(\d+)?(?:\.(\d+))?([a-zA-Z%])")


def sprintf(layout: str, items: Sequence[Any]) -> str:
    """`%v %s %q %d %x %X %o %b %c %t %f %g %e %T %U` with flags, width and precision."""
    rest = list(items)

    def one(match: re.Match[str]) -> str:
        flags, width, precision, verb = match[1], match[2], match[3], match[4]
        if verb == "%":
            return "%"
        if not rest:
            return f"%!{verb}(MISSING)"
        body = verb_text(verb, rest.pop(0), flags, None if precision is None else int(precision))
        return padded(body, flags, int(width or 0), verb)

    done = VERB.sub(one, layout)
    if rest:
        done += "%!(EXTRA " + ", ".join(f"{kind(item)}={inner(item)}" for item in rest) + ")"
    return done


def padded(body: str, flags: str, width: int, verb: str) -> str:
    if "-" in flags:
        return body.ljust(width)
    if "0" in flags and verb in "dxXobfge":
        return body.zfill(width)
    return body.rjust(width)


def verb_text(verb: str, value: Any, flags: str, precision: int | None) -> str:
    if verb in "vs" and not (verb == "s" and isinstance(value, int | float) and not isinstance(value, bool)):
        body = inner(value)
        return body if precision is None else body[:precision]
    if verb == "q" and isinstance(value, str):
        return dumps(value)
    if verb == "T":
        return kind(value)
    if verb == "t" and isinstance(value, bool):
        return inner(value)
    if verb == "x" and isinstance(value, str):
        return value.encode().hex()
    if isinstance(value, int | float) and not isinstance(value, bool):
        number = numeric(verb, value, flags, precision)
        if number is not None:
            return number
    return f"%!{verb}({kind(value)}={inner(value)})"


def numeric(verb: str, value: float, flags: str, precision: int | None) -> str | None:
    sign = "+" if "+" in flags else " " if " " in flags else ""
    if verb in "dxXobcU" and isinstance(value, int):
        if verb == "c":
            return chr(value)
        if verb == "U":
            return f"U+{value:04X}"
        return format(value, sign + verb)
    if verb in "feEgG" and isinstance(value, float):
        return format(
            value, f"{sign}.{6 if precision is None else precision}{verb}" if verb in "feE" else f"{sign}{verb}"
        )
    return None
