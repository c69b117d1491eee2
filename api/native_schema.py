"""The OpenAPI description of the native API, made from the types that are really sent.

Pure: data only.
"""

from typing import Any

import msgspec

from essaim.cluster.routes import RouteTable
from essaim.cluster.shape import Shape

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


def document() -> dict[str, Any]:
    """OpenAPI 3.1."""
    (table, error, health), parts = msgspec.json.schema_components(
        [RouteTable, ErrorBody, Health], ref_template="#/components/schemas/{name}"
    )
    anything = {"type": "object", "additionalProperties": True}
    target = {
        "name": "target",
        "in": "path",
        "required": True,
        "description": "Which load balancer: haproxy, nginx or traefik.",
        "schema": {"type": "string"},
    }
    pretty = {"name": "pretty", "in": "query", "required": False, "schema": {"type": "string"}}
    unknown = {"404": _answer("There is no such load balancer.", error)}
    return {
        "openapi": "3.1.0",
        "info": {"title": "essaim's native API", "version": "1", "license": {"name": "Apache-2.0"}},
        "paths": {
            f"{NATIVE}/routes": _get("routes", "The route table that this node's gateway serves by.", table),
            f"{NATIVE}/lb/config/{{target}}": {
                "get": {
                    "operationId": "lbConfig",
                    "summary": "The configuration of an external load balancer in front of the gateways.",
                    "parameters": [target],
                    "responses": {
                        "200": _text("The configuration's text."),
                        **unknown,
                    },
                }
            },
            f"{NATIVE}/lb/status": _get("lbStatus", "This node's listeners and end-points with verdicts.", anything),
            f"{NATIVE}/health": {
                "get": {
                    "operationId": "health",
                    "summary": "Whether this node can do its part.",
                    "responses": {"200": _answer("It can.", health), "503": _answer("It cannot; see Reason.", health)},
                }
            },
            f"{NATIVE}/metrics": {
                "get": {
                    "operationId": "metrics",
                    "summary": "The cluster's numbers for Prometheus.",
                    "responses": {"200": _text("Prometheus' text format.")},
                }
            },
            f"{NATIVE}/openapi.json": _get("openapi", "This document.", anything, [pretty]),
        },
        "components": {"schemas": parts},
    }


def _get(name: str, summary: str, schema: Any, parameters: list[Any] | None = None) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": name,
        "summary": summary,
        "responses": {"200": _answer(summary, schema)},
    }
    if parameters:
        described["parameters"] = parameters
    return {"get": described}


def _text(description: str) -> dict[str, Any]:
    return {"description": description, "content": {"text/plain": {"schema": {"type": "string"}}}}


def _answer(description: str, schema: Any) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}
