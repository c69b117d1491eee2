"""`essaim certificate` against the real API of a manager."""

import io
import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from essaim.cli.app import App
from essaim.cli.main import execute
from essaim.cluster.acme import Failure, OrderedCertificate, certificate_id
from essaim.cluster.changes import put
from tests.api.conftest import Served, outside, served
from tests.certificates import made
from tests.cli.conftest import Input, Result, no_wait

__all__ = ["outside", "served"]

Run = Callable[..., Awaitable[Result]]


@pytest.fixture
def run(served: Served) -> Run:
    async def command(*arguments: str) -> Result:
        out, err = io.StringIO(), io.StringIO()
        app = App(f"unix://{served.socket}", out=out, err=err, stdin=Input(None), environment={}, sleep=no_wait)
        code = await execute(arguments, app)
        return Result(code, out.getvalue(), err.getvalue())

    return command


async def test_resolver_is_made_listed_inspected_and_removed(run: Run, tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_bytes(made.root().cert_pem.bytes())
    line = ["certificate", "resolver", "create", "le", "--email", "ops@example.org", "--challenge", "tls-alpn"]
    done = await run(*line, "--directory", "https://acme.example.org/dir", "--ca-file", str(ca))
    assert done.code == 0, done.err
    listed = await run("certificate", "resolver", "ls", "--format", "{{.ID}} {{.Name}} {{.Challenge}} {{.State}}")
    assert listed.out == f"{done.out.strip()} le tls-alpn registering\n"
    assert (await run("certificate", "resolver", "ls", "-q")).out == done.out
    (shown,) = json.loads((await run("certificate", "resolver", "inspect", "le")).out)
    assert shown["CACertificate"] == ca.read_text()
    assert (await run("certificate", "resolver", "update", "le", "--email", "root@example.org")).out == "le\n"
    (changed,) = json.loads((await run("certificate", "resolver", "inspect", "le")).out)
    assert changed == {**shown, "Email": "root@example.org"}
    assert (await run("certificate", "resolver", "rm", "le")).out == "le\n"
    gone = await run("certificate", "resolver", "inspect", "le")
    assert (gone.code, gone.err) == (1, "Error response from daemon: certificate resolver le not found\n")


async def test_resolver_by_default_is_lets_encrypts_over_http(run: Run) -> None:
    assert (await run("certificate", "resolver", "create", "le")).code == 0
    (shown,) = json.loads((await run("certificate", "resolver", "inspect", "le")).out)
    assert shown["Directory"] == "https://acme-v02.api.letsencrypt.org/directory"
    assert shown["Challenge"] == "http"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--challenge", "dns"], "must be one of http, tls-alpn"),
        (["--ca-file", "/nosuch/ca.pem"], "open /nosuch/ca.pem: no such file or directory"),
        (["--eab-kid", "kid-1"], "needs both its key ID and its key"),
    ],
)
async def test_wrong_flags_are_told(run: Run, flags: list[str], words: str) -> None:
    done = await run("certificate", "resolver", "create", "le", *flags)
    assert done.code == 1
    assert words in done.err


async def test_certificates_are_listed_inspected_and_renewed(run: Run, served: Served) -> None:
    assert (await run("certificate", "resolver", "create", "le")).code == 0
    labels = {
        "traefik.http.routers.web.rule": "Host(`a.example.org`)",
        "traefik.http.routers.web.tls.certresolver": "le",
    }
    await served.create("web", Labels=labels)
    manager = served.node.manager
    assert manager is not None
    (resolver,) = manager.store.resolvers
    failure = Failure(reason="the server says no", attempts=1, at=1, retry_at=1_800_000_000)
    row_id = certificate_id(resolver.id, ["a.example.org"])
    row = OrderedCertificate(id=row_id, resolver_id=resolver.id, domains=["a.example.org"], failure=failure)
    await manager.writer.commit([put("certificates", row, force=True)])
    listed = (await run("certificate", "ls")).out
    assert re.sub(" +", " ", listed.splitlines()[0]) == "ID NAME SOURCE STATE EXPIRES RENEWAL SERVICES REASON"
    assert "the server says no (again at 2027-01-15 08:00:00 UTC)" in listed
    (shown,) = json.loads((await run("certificate", "inspect", "a.example.org")).out)
    assert shown["ID"] == row_id
    assert (await run("certificate", "renew", "a.example.org")).out == "a.example.org\n"
    stored = manager.store.certificates.get(row_id)
    assert stored is not None
    assert stored.is_forced
    refused = await run("certificate", "renew", "nosuch")
    assert refused.code == 1
    assert "there is no ordered certificate 'nosuch'" in refused.err
