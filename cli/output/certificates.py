"""Rows of `essaim certificate ls` and `essaim certificate resolver ls`.

Pure: what the native API answers to rows.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from .listing import Listing, Row

CERTIFICATES = Listing(
    "{{.ID}}\t{{.Name}}\t{{.Source}}\t{{.State}}\t{{.Expires}}\t{{.Renewal}}\t{{.Services}}\t{{.Reason}}",
    {
        "ID": "ID",
        "Name": "NAME",
        "Names": "NAMES",
        "Source": "SOURCE",
        "State": "STATE",
        "Expires": "EXPIRES",
        "Renewal": "RENEWAL",
        "Services": "SERVICES",
        "Reason": "REASON",
    },
)
RESOLVERS = Listing(
    "{{.ID}}\t{{.Name}}\t{{.Directory}}\t{{.Challenge}}\t{{.State}}\t{{.Certificates}}\t{{.Reason}}",
    {
        "ID": "ID",
        "Name": "NAME",
        "Directory": "DIRECTORY",
        "Email": "EMAIL",
        "Challenge": "CHALLENGE",
        "State": "STATE",
        "Certificates": "CERTIFICATES",
        "Reason": "REASON",
    },
)


def certificate_rows(found: Iterable[Mapping[str, Any]]) -> list[Row]:
    return [
        {
            "ID": one["ID"],
            "Name": one["Name"],
            "Names": ", ".join(one["Names"]),
            "Source": f"acme {one['Resolver']}" if one["Source"] == "acme" else one["Source"],
            "State": one["State"],
            "Expires": day(one["NotAfter"]),
            "Renewal": day(one["RenewAt"]),
            "Services": ", ".join(one["Services"]),
            "Reason": _reason(one),
        }
        for one in found
    ]


def resolver_rows(found: Iterable[Mapping[str, Any]]) -> list[Row]:
    return [
        {
            "ID": one["ID"],
            "Name": one["Name"],
            "Directory": one["Directory"],
            "Email": one["Email"],
            "Challenge": one["Challenge"],
            "State": one["State"],
            "Certificates": str(one["Certificates"]),
            "Reason": _reason(one),
        }
        for one in found
    ]


def _reason(one: Mapping[str, Any]) -> str:
    again = f" (again at {_moment(one['RetryAt'], '%Y-%m-%d %H:%M:%S UTC')})" if one["RetryAt"] else ""
    return f"{one['Reason']}{again}" if one["Reason"] else ""


def day(seconds: float) -> str:
    return _moment(seconds, "%Y-%m-%d") if seconds else ""


def _moment(seconds: float, form: str) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime(form)
