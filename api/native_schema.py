"""The OpenAPI description of the native API, made from the types that are really sent.

Pure: data only.
"""

from typing import Any

import msgspec

from essaim.cluster.routes import RouteTable
from essaim.cluster.shape import Shape

from .certificate_schema import SHAPES
from .certificate_schema import paths as certificate_paths
from .routing import NATIVE


class ErrorBody(msgspec.Struct):
    """What every error looks like."""

    message: str


class Health(Shape):
    """`status` is ok or failing, `state` the node's part in a swarm (inactive, pending, active, error or locked)."""

    status: str
    reason: str
    state: str
    node_id: str
    manager: bool
    leader: bool


OUTCOMES = {
    "200": "As asked.",
    "400": "It cannot be done to this one; the reason is told.",
    "404": "There is no such thing.",
    "503": "It cannot; the reason is told.",
}
TARGET = {
    "name": "target",
    "in": "path",
    "required": True,
    "description": "Which load balancer: haproxy, nginx, traefik, or traefik-static for the other of its two files.",
    "schema": {"type": "string"},
    "example": "haproxy",
}
SERVICE = {
    "name": "id",
    "in": "path",
    "required": True,
    "description": "The service's ID, name, or the beginning of its ID.",
    "schema": {"type": "string"},
    "example": "web",
}
BIND = {
    "name": "bind",
    "in": "query",
    "required": False,
    "description": "The one address that it is to listen at; all by default.",
    "schema": {"type": "string"},
    "example": "192.0.2.10",
}
LB_STATUS = {
    "type": "object",
    "additionalProperties": True,
    "properties": {
        "services": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": True,
                "properties": {
                    "fault": {
                        "type": ["string", "null"],
                        "description": "Why the gateway does not serve the service, or not all of it.",
                    },
                    "warnings": {"type": "array", "items": {"type": "string"}},
                },
            },
        },
    },
}
PRETTY = {"name": "pretty", "in": "query", "required": False, "schema": {"type": "string"}}


def document() -> dict[str, Any]:
    """OpenAPI 3.1."""
    (table, error, health, *shapes), parts = msgspec.json.schema_components(
        [RouteTable, ErrorBody, Health, *SHAPES], ref_template="#/components/schemas/{name}"
    )
    anything = _json({"type": "object", "additionalProperties": True})
    text = _content("text/plain", {"type": "string"})
    operations = {
        "routes": _get("routes", "The route table that this node's gateway serves by.", {"200": _json(table)}),
        "lb/config/{target}": _get(
            "lbConfig",
            "The configuration of an external load balancer in front of the gateways.",
            {"200": text, "400": _json(error), "404": _json(error)},
            [TARGET, BIND],
        ),
        "lb/status": _get("lbStatus", "This node's listeners and end-points with verdicts.", {"200": _json(LB_STATUS)}),
        "health": _get("health", "Whether this node can do its part.", dict.fromkeys(("200", "503"), _json(health))),
        "metrics": _get("metrics", "The cluster's numbers for Prometheus.", {"200": text}),
        "openapi.json": _get("openapi", "This document.", {"200": anything}, [PRETTY]),
    }
    paths = {f"{NATIVE}/{path}": {"get": operation} for path, operation in operations.items()}
    refusals = {status: {"description": OUTCOMES[status], "content": _json(error)} for status in ("400", "404", "503")}
    paths[f"{NATIVE}/services/{{id}}/rebalance"] = {
        "post": {
            "operationId": "rebalance",
            "summary": "Spread a service's replicas over the nodes that there are now.",
            "parameters": [SERVICE],
            "responses": {"202": {"description": "It has begun."}} | refusals,
        }
    }
    paths |= certificate_paths(shapes, error)
    return {
        "openapi": "3.1.0",
        "info": {"title": "essaim's native API", "version": "1", "license": {"name": "Apache-2.0"}},
        "paths": paths,
        "components": {"schemas": parts},
    }


def _get(name: str, summary: str, contents: dict[str, Any], parameters: list[Any] | None = None) -> dict[str, Any]:
    """`contents` by status."""
    responses = {status: {"description": OUTCOMES[status], "content": content} for status, content in contents.items()}
    described: dict[str, Any] = {"operationId": name, "summary": summary, "responses": responses}
    return described | ({"parameters": parameters} if parameters else {})


def _json(schema: Any) -> dict[str, Any]:
    return _content("application/json", schema)


def _content(kind: str, schema: Any) -> dict[str, Any]:
    return {kind: {"schema": schema}}
