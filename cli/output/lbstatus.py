"""Rows of `essaim lb status`: the gateway's listeners and endpoints with their verdicts.

Pure: the gateway's status to rows.
"""

import textwrap
from collections.abc import Mapping
from typing import Any

from .listing import Listing, Row
from .tasks import shorten

STATUS_PATH = "/essaim/v1/lb/status"
NARROWEST = 40
"""Characters of a terminal that lines are folded for."""
SHORTEST = 16
"""Characters of a reason that are always shown."""
STATUS = Listing(
    "{{.Service}}\t{{.Port}}\t{{.Task}}\t{{.Address}}\t{{.Verdict}}\t{{.Reason}}\t{{.FoundBy}}",
    {
        "Service": "SERVICE",
        "Port": "PORT",
        "Task": "TASK",
        "Node": "NODE",
        "Address": "ADDRESS",
        "Verdict": "VERDICT",
        "Reason": "REASON",
        "FoundBy": "FOUND BY",
    },
)


SAID = ("warning", "faulty", "idle")
"""Verdicts of rows that are a sentence about a service, or about all of the gateway."""


def status_text(rows: list[Row], width: int | None) -> str:
    """The table of listeners and endpoints, and below it what is said of services, folded to `width` characters.

    Reasons in the table are cut so that its lines fit, if they can."""
    listed = [row for row in rows if row["Verdict"] not in SAID]
    table = STATUS.render(listed, "")
    excess = max(map(len, table.splitlines())) - width if width is not None and width >= NARROWEST else 0
    if excess > 0 and listed:
        room = max(SHORTEST, max(len(row["Reason"]) for row in listed) - excess)
        table = STATUS.render([{**row, "Reason": shorten(row["Reason"], room)} for row in listed], "")
    return table + "".join(sentence(row, width) for row in rows if row["Verdict"] in SAID)


def unknown(name: str) -> str:
    return f"the gateway has nothing of a service {name}: there is none, or it publishes no port (essaim service ls)"


def sentence(row: Row, width: int | None) -> str:
    about = f"{row['Service']}: " if row["Service"] else ""
    text = f"{about}{row['Verdict']}: {row['Reason']}"
    if width is None or width < NARROWEST:
        return text + "\n"
    return textwrap.fill(text, width, subsequent_indent="    ", break_on_hyphens=False) + "\n"


def status_rows(status: Mapping[str, Any], only: str = "") -> list[Row]:
    """One row for each endpoint, one for a port without any, one for what is wrong with a service, and one for a
    listener that could not be opened."""
    rows: list[Row] = []
    for service in status.get("services") or []:
        if only and only not in (service.get("name"), service.get("id")):
            continue
        for port in service.get("ports") or []:
            found = [endpoint_row(service, port, endpoint) for endpoint in port.get("endpoints") or []]
            rows += found or [blank(service, port, "none", "no replica serves this port")]
        if service.get("fault"):
            rows.append({**blank(service, {}, "faulty", str(service["fault"])), "Port": ""})
        rows += [
            {**blank(service, {}, "warning", str(warning)), "Port": ""} for warning in service.get("warnings") or []
        ]
    for listener in status.get("listeners") or []:
        if listener.get("error") and (not only or only == listener.get("service")):
            place = f"{listener.get('address')}:{listener.get('port')}"
            port = f"{listener.get('port')}/{listener.get('protocol')}"
            row = {
                **blank({"name": listener.get("service")}, {}, "not listening", str(listener["error"])),
                "Port": port,
            }
            rows.append({**row, "Address": place})
    if not only and status.get("serves") is False:
        said = "this node's gateway serves nothing, as the node's label essaim.gateway says"
        rows.append({**blank({}, {}, "idle", said), "Port": ""})
    if not only:
        rows += [{**blank({}, {}, "warning", str(warning)), "Port": ""} for warning in status.get("warnings") or []]
    return rows


def port_text(port: Mapping[str, Any]) -> str:
    text = f"{port.get('published')}->{port.get('target')}/{port.get('protocol')}"
    application = port.get("app_protocol")
    return text if application in (None, "", "tcp") else f"{text} {application}"


def blank(service: Mapping[str, Any], port: Mapping[str, Any], verdict: str, reason: str) -> dict[str, Any]:
    return {
        "Service": service.get("name") or "",
        "Port": port_text(port),
        "Task": "",
        "Node": "",
        "Address": "",
        "Verdict": verdict,
        "Reason": reason,
        "FoundBy": "",
    }


def endpoint_row(service: Mapping[str, Any], port: Mapping[str, Any], endpoint: Mapping[str, Any]) -> Row:
    return {
        **blank(service, port, str(endpoint.get("verdict") or ""), str(endpoint.get("reason") or "")),
        "Task": endpoint.get("task_name") or endpoint.get("task_id") or "",
        "Node": endpoint.get("node_id") or "",
        "Address": f"{endpoint.get('address')}:{endpoint.get('port')}",
        "FoundBy": endpoint.get("found_by") or "",
    }
