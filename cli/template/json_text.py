"""JSON text re-indented without touching its tokens, and JSON as Go writes it.

Numbers and strings of `inspect` stay exactly as the daemon sent them; decoding and encoding again would change
large numbers, escapes and the order of nothing but still too much.

Pure: text in, text out.
"""

import json
import re
from typing import Any

WHOLE = re.compile(r"(-?\d+)\.0")
"""Go prints a whole float without a fraction."""
PART = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{},:]|[^\s\[\]{},:"]+')


def indent(text: str, prefix: str = "", step: str = "    ") -> str:
    """Indent like Go's json.Indent: empty containers stay on one line. The first line gets no prefix."""
    out: list[str] = []
    depth = 0
    parts = PART.findall(text)
    for place, part in enumerate(parts):
        before = parts[place - 1] if place else ""
        if part in "}]":
            depth -= 1
            if before not in ("{", "["):
                out.append("\n" + prefix + step * depth)
        elif before in ("{", "["):
            out.append("\n" + prefix + step * depth)
        if part == ":":
            out.append(": ")
        elif part == ",":
            out.append(",\n" + prefix + step * depth)
        else:
            out.append(whole[1] if (whole := WHOLE.fullmatch(part)) else part)
        if part in "{[":
            depth += 1
    return "".join(out)


def number(text: str) -> float:
    """A JSON float; a whole one is an integer, as Go prints it."""
    value = float(text)
    return int(value) if value.is_integer() else value


def loads(text: str) -> Any:
    """JSON whose numbers print as Go prints them."""
    return json.loads(text, parse_float=number)


def dumps(value: Any, *, escape_html: bool = False) -> str:
    """Compact JSON in Go's spelling."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    text = text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    if escape_html:
        text = text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
    return text
