"""The order in which the services of a stack are created: dependencies first, else as in the file.

Pure: no I/O.
"""

from collections.abc import Mapping
from typing import Any


def start_order(services: Mapping[str, Any]) -> list[str]:
    """Names so that each stands after all it depends on. Circles were refused before; none can hang this."""
    found: dict[str, None] = {}
    for root in services:
        stack = [(root, iter(_needs(services, root)))]
        entered = {root}
        while stack:
            name, needs = stack[-1]
            needed = next((n for n in needs if n not in found and n not in entered), None)
            if needed is None:
                found[name] = None
                stack.pop()
            else:
                entered.add(needed)
                stack.append((needed, iter(_needs(services, needed))))
    return list(found)


def _needs(services: Mapping[str, Any], name: str) -> list[str]:
    return [needed for needed in (services[name].get("depends_on") or {}) if needed in services]
