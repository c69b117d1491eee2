"""Events as lines.

Pure: one JSON object to one line.
"""

import json
from datetime import UTC, datetime
from typing import Any

from essaim.cli.template.evaluate import Template


def event_line(text: str, layout: str) -> str:
    """`TIME TYPE ACTION ID (key=value, ...)`, the JSON as it came, or what the template makes of it."""
    if layout in ("json", "{{json .}}"):
        return text
    event: dict[str, Any] = json.loads(text)
    if layout:
        actor = event.get("Actor") or {}
        return Template(layout).render(
            {"ID": actor.get("ID"), "Time": event.get("time"), "TimeNano": event.get("timeNano"), **event}
        )
    actor = event.get("Actor") or {}
    attributes = ", ".join(f"{key}={value}" for key, value in sorted((actor.get("Attributes") or {}).items()))
    line = f"{stamp(event)} {event.get('Type', '')} {event.get('Action', '')} {actor.get('ID', '')}"
    return f"{line} ({attributes})" if attributes else line


def stamp(event: dict[str, Any]) -> str:
    """RFC 3339 with nanoseconds."""
    nanoseconds = event.get("timeNano") or (event.get("time") or 0) * 10**9
    moment = datetime.fromtimestamp(nanoseconds // 10**9, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{nanoseconds % 10**9:09d}Z"
