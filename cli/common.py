"""Flags and steps that many commands share."""

from collections.abc import Mapping

from essaim.api.client import encode_filters

from .flags import FILTERS, STRING, SWITCH, Flag

FILTER = Flag("filter", FILTERS, "Show only what matches name=value", "f")
FORMAT = Flag("format", STRING, "Lay out each row: 'table', 'table TEMPLATE', 'json' or a Go template")
QUIET_IDS = Flag("quiet", SWITCH, "Print IDs only", "q")
NO_TRUNC = Flag("no-trunc", SWITCH, "Print everything in full length")
NO_RESOLVE = Flag("no-resolve", SWITCH, "Print IDs instead of names")
DETACH = Flag("detach", SWITCH, "Return at once instead of waiting until the service has converged", "d")
QUIET = Flag("quiet", SWITCH, "Print no progress", "q")
REGISTRY_AUTH = Flag("with-registry-auth", SWITCH, "Hand the registry's credentials to the nodes")
TEMPLATE_DRIVER = Flag("template-driver", STRING, "Driver that fills in templates")


def query(filters: Mapping[str, list[str]] | None = None, **others: str) -> dict[str, str]:
    """Query parameters with the filters, if there are any."""
    found = dict(others)
    if filters:
        found["filters"] = encode_filters(filters)
    return found
