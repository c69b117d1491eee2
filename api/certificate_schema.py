"""Certificates and their resolvers in the native API: what is sent, and its OpenAPI description.

Pure: data only. Times of certificates are in seconds since 1970, 0 for none.
"""

from datetime import datetime
from typing import Any

from essaim.cluster.shape import Shape, always

from .routing import NATIVE

RESOLVERS, CERTIFICATES = NATIVE + "/resolvers", NATIVE + "/certificates"


class CreateResolver(Shape):
    """`directory` is the ACME server's URL, `challenge` http or tls-alpn. `ca_certificate` in PEM."""

    name: str = always("")
    directory: str = always("")
    challenge: str = always("")
    email: str = ""
    ca_certificate: str = ""
    eab_kid: str = ""
    eab_key: str = ""


class UpdateResolver(Shape):
    """What is absent stays as it is; an empty text takes a value away."""

    directory: str | None = None
    challenge: str | None = None
    email: str | None = None
    ca_certificate: str | None = None
    eab_kid: str | None = None
    eab_key: str | None = None


class ResolverShown(Shape, omit_defaults=False):
    """`state` is registering, ready or failed."""

    id: str
    name: str
    email: str
    directory: str
    challenge: str
    ca_certificate: str
    eab_kid: str
    account_url: str
    state: str
    reason: str
    retry_at: float
    certificates: int
    created_at: datetime


class CertificateShown(Shape, omit_defaults=False):
    """`source` is acme or secret. `state`: waiting, ordering, issued, failed, expired, unused or broken.

    `chain` (PEM) comes when one is asked for alone.
    """

    id: str
    name: str
    source: str
    names: list[str]
    state: str
    reason: str
    resolver: str = ""
    retry_at: float = 0
    not_before: float = 0
    not_after: float = 0
    renew_at: float = 0
    services: list[str] = []
    chain: str = ""


class CreatedBody(Shape):
    id: str


SHAPES: list[Any] = [CreateResolver, UpdateResolver, ResolverShown, CertificateShown, CreatedBody]


def _parameter(of: str) -> dict[str, Any]:
    return {"name": "id", "in": "path", "required": True, "description": of, "schema": {"type": "string"}}


def paths(parts: list[Any], error: Any) -> dict[str, Any]:
    """The operations by path; `parts` are the schemas of `SHAPES`."""
    create, update, resolver, certificate, created = parts
    resolver_id = [_parameter("The resolver's ID, name, or the beginning of its ID.")]
    certificate_id = [_parameter("The certificate's ID, a name that it is for, or the secret that it is from.")]

    def refusals(*statuses: str) -> dict[str, Any]:
        return {status: _answer("It cannot be done; the reason is told.", error) for status in statuses}

    def operation(name: str, summary: str, answers: dict[str, Any], **more: Any) -> dict[str, Any]:
        return {"operationId": name, "summary": summary, "responses": answers, **more}

    return {
        RESOLVERS: {
            "get": operation(
                "resolvers",
                "The certificate resolvers.",
                {"200": _answer("As asked.", _list(resolver)), **refusals("503")},
            )
        },
        RESOLVERS + "/create": {
            "post": operation(
                "createResolver",
                "Make a certificate resolver; its account is registered after the answer.",
                {"201": _answer("It was made.", created), **refusals("400", "409", "503")},
                requestBody={"required": True, "content": {"application/json": {"schema": create}}},
            )
        },
        RESOLVERS + "/{id}": {
            "get": operation(
                "resolver",
                "One certificate resolver.",
                {"200": _answer("As asked.", resolver), **refusals("404", "503")},
                parameters=resolver_id,
            ),
            "delete": operation(
                "removeResolver",
                "Remove a resolver that no service uses, and its certificates.",
                {"204": {"description": "It is gone."}, **refusals("400", "404", "503")},
                parameters=resolver_id,
            ),
        },
        RESOLVERS + "/{id}/update": {
            "post": operation(
                "updateResolver",
                "Change a resolver; at another server, or of another external account, it is registered anew.",
                {"202": {"description": "It was changed."}, **refusals("400", "404", "503")},
                parameters=resolver_id,
                requestBody={"required": True, "content": {"application/json": {"schema": update}}},
            )
        },
        CERTIFICATES: {
            "get": operation(
                "certificates",
                "The certificates of services: ordered ones, and those of secrets.",
                {"200": _answer("As asked.", _list(certificate)), **refusals("503")},
            )
        },
        CERTIFICATES + "/{id}": {
            "get": operation(
                "certificate",
                "One certificate with its chain.",
                {"200": _answer("As asked.", certificate), **refusals("400", "404", "503")},
                parameters=certificate_id,
            )
        },
        CERTIFICATES + "/{id}/renew": {
            "post": operation(
                "renewCertificate",
                "Order an ordered certificate anew, now.",
                {"202": {"description": "It has begun."}, **refusals("400", "404", "503")},
                parameters=certificate_id,
            )
        },
    }


def _list(schema: Any) -> Any:
    return {"type": "array", "items": schema}


def _answer(text: str, schema: Any) -> dict[str, Any]:
    return {"description": text, "content": {"application/json": {"schema": schema}}}
