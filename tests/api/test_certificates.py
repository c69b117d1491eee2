"""Resolvers and certificates by the native API: made, shown without keys, renewed, removed, refused."""

from typing import Any

import pytest
from msgspec.structs import replace

from essaim.cluster.acme import Failure, OrderedCertificate, certificate_id
from essaim.cluster.changes import put
from tests.api.conftest import Served
from tests.api.test_native import check
from tests.certificates import made

RESOLVERS, CERTIFICATES = "/essaim/v1/resolvers", "/essaim/v1/certificates"
GOOD = {"Name": "le", "Directory": "https://acme.example.org/dir", "Challenge": "http", "Email": "ops@example.org"}
EAB = {"EabKid": "kid-1", "EabKey": "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"}
ROUTER = {
    "traefik.http.routers.web.rule": "Host(`a.example.org`)",
    "traefik.http.routers.web.tls.certresolver": "le",
}


async def resolver(served: Served, **more: Any) -> str:
    made_one = await served.call("POST", f"{RESOLVERS}/create", {**GOOD, **more}, 201)
    return str(made_one["ID"])


async def store_row(served: Served, resolver_id: str, **fields: Any) -> OrderedCertificate:
    manager = served.node.manager
    assert manager is not None
    row_id = certificate_id(resolver_id, ["a.example.org"])
    row = OrderedCertificate(id=row_id, resolver_id=resolver_id, domains=["a.example.org"], **fields)
    await manager.writer.commit([put("certificates", row, force=True)])
    return row


async def test_resolver_is_made_shown_without_keys_and_removed(served: Served) -> None:
    ca = made.root().cert_pem.bytes().decode()
    made_id = await resolver(served, CACertificate=ca, **EAB)
    for reference in (made_id, "le", made_id[:6]):
        shown = await check(served, f"{RESOLVERS}/{reference}")
        assert (shown["Name"], shown["State"], shown["Challenge"]) == ("le", "registering", "http")
        assert shown["EabKid"] == "kid-1"
        assert not any("PRIVATE" in str(value) or value == EAB["EabKey"] for value in shown.values())
    assert [one["ID"] for one in await check(served, RESOLVERS)] == [made_id]
    stored = served.node.manager.store.resolvers.get(made_id)  # type: ignore[union-attr]
    assert stored is not None
    assert "PRIVATE KEY" in stored.account_key
    await served.call("DELETE", f"{RESOLVERS}/le", status=204)
    assert await check(served, RESOLVERS) == []
    assert (await served.error("DELETE", f"{RESOLVERS}/le")) == (404, "certificate resolver le not found")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"Name": ""}, "name must be provided"),
        ({"Name": "a b"}, "invalid name"),
        ({"Directory": "acme.example.org"}, "must be the ACME server's URL"),
        ({"Directory": "ftp://acme.example.org"}, "must be the ACME server's URL"),
        ({"Challenge": "dns"}, "must be one of http, tls-alpn"),
        ({"Email": "ops"}, "not an e-mail address"),
        ({"CACertificate": "words"}, "the CA file cannot be used"),
        ({"EabKid": "kid-1"}, "needs both"),
        ({"EabKid": "kid-1", "EabKey": "///"}, "base64url"),
    ],
)
async def test_resolver_that_cannot_work_is_refused(served: Served, change: dict[str, str], words: str) -> None:
    status, message = await served.error("POST", f"{RESOLVERS}/create", {**GOOD, **change})
    assert status == 400
    assert words in message


async def test_resolver_is_changed_and_registered_anew_only_where_it_must(served: Served) -> None:
    made_id = await resolver(served)
    manager = served.node.manager
    assert manager is not None
    (stored,) = manager.store.resolvers
    failure = Failure(reason="no", attempts=1, at=1, retry_at=5e9)
    await manager.writer.commit([put("resolvers", replace(stored, account_url="https://a/1", failure=failure))])
    path = f"{RESOLVERS}/le/update"
    await served.call("POST", path, {"Email": "", "Challenge": "tls-alpn"}, 202)
    shown = await check(served, f"{RESOLVERS}/{made_id}")
    assert (shown["Email"], shown["Challenge"], shown["State"]) == ("", "tls-alpn", "ready")
    assert shown["Directory"] == GOOD["Directory"]
    await served.call("POST", path, {"Directory": "https://other.example.org/dir"}, 202)
    assert (await check(served, f"{RESOLVERS}/le"))["State"] == "registering"
    status, message = await served.error("POST", path, {"EabKid": "kid-1"})
    assert status == 400
    assert "needs both" in message
    assert (await served.error("POST", f"{RESOLVERS}/nosuch/update"))[0] == 404


async def test_second_resolver_of_a_name_is_refused(served: Served) -> None:
    await resolver(served)
    assert await served.error("POST", f"{RESOLVERS}/create", GOOD) == (409, "certificate resolver le already exists")


async def test_resolver_in_use_stays_and_takes_its_certificates_along_when_it_goes(served: Served) -> None:
    made_id = await resolver(served)
    service = await served.create("web", Labels=ROUTER)
    status, message = await served.error("DELETE", f"{RESOLVERS}/le")
    assert (status, message) == (400, "certificate resolver 'le' is in use by the following service: web")
    await store_row(served, made_id)
    await served.call("DELETE", f"/services/{service}")
    await served.call("DELETE", f"{RESOLVERS}/le", status=204)
    assert len(served.node.manager.store.certificates) == 0  # type: ignore[union-attr]


async def test_certificates_of_both_kinds_are_listed_with_state_and_reason(served: Served) -> None:
    made_id = await resolver(served)
    for name, data in (("good", made.self_signed("x", "x.example.org", until=made.FAR)), ("broken", b"words")):
        labels = {"essaim.certificate": "true"}
        await served.call(
            "POST", "/secrets/create", {"Name": name, "Data": made.base64_of(data), "Labels": labels}, 201
        )
    await served.create("web", Labels=ROUTER)
    failure = Failure(reason="the server says no", attempts=2, at=1, retry_at=5e9)
    row = await store_row(served, made_id, failure=failure)
    found = {one["Name"]: one for one in await check(served, CERTIFICATES)}
    assert found["a.example.org"]["State"] == "failed"
    assert found["a.example.org"]["Reason"] == "the server says no"
    assert found["a.example.org"]["Services"] == ["web"]
    assert found["good"]["State"] == "issued"
    assert found["broken"]["State"] == "broken"
    assert "no certificate in PEM" in found["broken"]["Reason"]
    shown = await check(served, f"{CERTIFICATES}/good")
    assert shown["Chain"].startswith("-----BEGIN CERTIFICATE")
    assert "PRIVATE" not in str(shown)
    chain, _ = made.issued("a.example.org")
    issued = replace(row, chain=b"".join(chain).decode(), key="PRIVATE", not_before=1, not_after=4e9, failure=None)
    await store_row(served, made_id, **{k: getattr(issued, k) for k in ("chain", "key", "not_before", "not_after")})
    shown = await check(served, f"{CERTIFICATES}/a.example.org")
    assert shown["State"] == "issued"
    assert shown["RenewAt"] > 0
    assert "PRIVATE" not in str(shown)
    assert (await served.error("GET", f"{CERTIFICATES}/nosuch"))[0] == 404


async def test_certificate_of_a_resolver_without_account_shows_why(served: Served) -> None:
    made_id = await resolver(served)
    await served.create("web", Labels=ROUTER)
    await store_row(served, made_id)
    shown = await check(served, f"{CERTIFICATES}/a.example.org")
    assert (shown["State"], shown["Reason"]) == ("waiting", "the resolver has no account yet")
    manager = served.node.manager
    assert manager is not None
    (stored,) = manager.store.resolvers
    failure = Failure(reason="no answer", attempts=1, at=1, retry_at=5e9)
    await manager.writer.commit([put("resolvers", replace(stored, failure=failure))])
    shown = await check(served, f"{CERTIFICATES}/a.example.org")
    assert (shown["State"], shown["Reason"]) == ("failed", "the resolver has no account: no answer")
    assert shown["RetryAt"] == 5e9


async def test_renewal_is_asked_for_by_name_and_forgets_failures(served: Served) -> None:
    made_id = await resolver(served)
    failure = Failure(reason="no", attempts=9, at=1, retry_at=5e9)
    row = await store_row(served, made_id, failure=failure)
    assert await served.call_raw("POST", f"{CERTIFICATES}/a.example.org/renew", None) == 202
    stored = served.node.manager.store.certificates.get(row.id)  # type: ignore[union-attr]
    assert stored is not None
    assert stored.is_forced
    assert stored.failure is None
    status, message = await served.error("POST", f"{CERTIFICATES}/nosuch/renew")
    assert status == 404
    assert "those of secrets are replaced by hand" in message


async def test_worker_refuses_in_the_usual_words(outside: Served) -> None:
    outside.node.become_worker()
    for method, path in (("GET", RESOLVERS), ("GET", CERTIFICATES), ("POST", f"{RESOLVERS}/create")):
        assert (await outside.error(method, path))[0] == 503
