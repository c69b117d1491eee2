"""What a gateway tells of its certificates."""

import json

from essaim.cluster.certificates import Certificate, CertificateBook, CertificateProblem
from essaim.gateway.control.certificate_report import exposition, with_certificates

BOOK = CertificateBook(
    version=4,
    certificates=[Certificate(name="secret shop", chain="CHAIN", key="KEY", names=["a.example.org"], not_after=99.0)],
    problems=[
        CertificateProblem(service_id="s1", text="broken", service="web"),
        CertificateProblem(service_id="s9", text="broken too", service="unserved"),
        CertificateProblem(service_id="", text="offered and broken"),
    ],
)


def test_problems_are_warnings_of_the_service_or_of_the_gateway() -> None:
    status = {"services": [{"id": "s1", "warnings": ["before"]}, {"id": "s2", "warnings": []}]}
    found = with_certificates(status, BOOK)
    assert [service["warnings"] for service in found["services"]] == [["before", "broken"], []]
    assert found["warnings"] == ["service unserved: broken too", "offered and broken"]
    assert found["certificates"] == [{"name": "secret shop", "names": ["a.example.org"], "not_after": 99.0}]
    assert "KEY" not in json.dumps(found)


def test_ends_of_certificates_are_metrics() -> None:
    text = exposition(BOOK)
    assert 'essaim_gateway_certificate_not_after_seconds{name="secret shop"} 99.0' in text
    assert "essaim_gateway_certificate_problems 3.0" in text
    assert exposition(CertificateBook()) == ""
