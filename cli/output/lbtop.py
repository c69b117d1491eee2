"""`essaim lb top`: what each endpoint does now, out of two looks at the gateway's status.

Counters that a gateway reports for an endpoint (`open`: connections, `requests` and `failures`: totals) become numbers
and rates; where it reports none the cells stay empty.

Pure: two statuses to rows.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .lbstatus import port_text

Status = Mapping[str, Any]
COLUMNS = ("SERVICE", "PORT", "TASK", "ADDRESS", "VERDICT", "OPEN", "REQ/S", "FAIL/S", "REASON")
GIVEN_UP = ("REASON", "ADDRESS", "PORT", "SERVICE", "FAIL/S", "OPEN")
"""Columns that a narrow terminal goes without, the first one first. A task's name begins with its service's."""
GAP = 2


@dataclass(frozen=True, slots=True)
class Place:
    """One endpoint in a status."""

    service: str
    port: str
    endpoint: Mapping[str, Any]

    @property
    def key(self) -> tuple[str, str, str]:
        return self.service, self.port, str(self.endpoint.get("task_id"))


def places(status: Status) -> Iterator[Place]:
    for service in status.get("services") or []:
        for port in service.get("ports") or []:
            for endpoint in port.get("endpoints") or []:
                yield Place(str(service.get("name") or ""), port_text(port), endpoint)


def top_rows(before: Status, now: Status, seconds: float, only: str = "") -> list[tuple[str, ...]]:
    """Rows under COLUMNS, busiest first, then by name."""
    old = {place.key: place.endpoint for place in places(before)}
    found = []
    for place in places(now):
        if only and place.service != only:
            continue
        last = old.get(place.key, {})
        rate = rate_of(last, place.endpoint, "requests", seconds)
        found.append((-(rate or 0.0), place, rate, rate_of(last, place.endpoint, "failures", seconds)))
    found.sort(key=lambda item: (item[0], item[1].key))
    return [row(place, rate, failures) for _, place, rate, failures in found]


def rate_of(before: Mapping[str, Any], now: Mapping[str, Any], name: str, seconds: float) -> float | None:
    """Per second; a counter that went back began anew."""
    if name not in now or seconds <= 0:
        return None
    grown = now[name] - before.get(name, now[name])
    return max(0.0, float(grown)) / seconds


def row(place: Place, rate: float | None, failures: float | None) -> tuple[str, ...]:
    endpoint = place.endpoint
    return (
        place.service,
        place.port,
        str(endpoint.get("task_name") or endpoint.get("task_id") or ""),
        f"{endpoint.get('address')}:{endpoint.get('port')}",
        str(endpoint.get("verdict") or ""),
        str(endpoint["open"]) if "open" in endpoint else "",
        "" if rate is None else f"{rate:.1f}",
        "" if failures is None else f"{failures:.1f}",
        str(endpoint.get("reason") or ""),
    )


def fitting(rows: Sequence[tuple[str, ...]], width: int) -> list[int]:
    """The columns that there is room for in `width` cells, so that none of them is cut; at least the tasks and what
    they do."""
    sizes = [max(len(cell) for cell in cells) for cells in zip(COLUMNS, *rows, strict=True)]
    kept = list(range(len(COLUMNS)))
    for name in GIVEN_UP:
        if sum(sizes[place] + GAP for place in kept) - GAP <= width:
            break
        kept.remove(COLUMNS.index(name))
    return kept
