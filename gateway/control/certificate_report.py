"""What a gateway tells of its certificates: in `essaim lb status`, and to Prometheus.

Pure: a book in, JSON's types and text out. Keys and chains stay inside.
"""

from collections.abc import Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from essaim.cluster.certificates import CertificateBook


def with_certificates(status: Mapping[str, Any], book: CertificateBook) -> dict[str, Any]:
    """The gateway's status with its certificates, and with what is wrong with them: a service's problems are warnings
    of that service, others (also those of services that no gateway serves) are the gateway's own."""
    served = {service["id"] for service in status.get("services", [])}
    said: dict[str, list[str]] = {}
    for problem in book.problems:
        if problem.service_id in served or not problem.service:
            said.setdefault(problem.service_id, []).append(problem.text)
        else:
            said.setdefault("", []).append(f"service {problem.service}: {problem.text}")
    services = [
        {**service, "warnings": [*service.get("warnings", []), *said.get(service["id"], [])]}
        for service in status.get("services", [])
    ]
    certificates = [{"name": one.name, "names": one.names, "not_after": one.not_after} for one in book.certificates]
    return {
        **status,
        "services": services,
        "certificate_version": book.version,
        "certificates": certificates,
        "warnings": [*status.get("warnings", []), *said.get("", [])],
    }


def exposition(book: CertificateBook) -> str:
    """Prometheus' text format; empty without certificates."""
    if not book.certificates and not book.problems:
        return ""
    registry = CollectorRegistry()
    ends = Gauge(
        "essaim_gateway_certificate_not_after_seconds",
        "When a certificate of the gateway ends, in seconds since 1970.",
        ["name"],
        registry=registry,
    )
    for one in book.certificates:
        ends.labels(one.name).set(one.not_after)
    Gauge("essaim_gateway_certificate_problems", "Certificates that are missing or at risk.", registry=registry).set(
        len(book.problems)
    )
    return generate_latest(registry).decode()
