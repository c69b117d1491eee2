"""A daemon that cannot be asked: the message says what happened, where, and what to do."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import structlog
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from essaim.api.app import create_app
from essaim.api.client import Client, Unreachable
from essaim.api.explain import Peer, explain
from essaim.api.listen.tls import server_context
from essaim.api.server import ApiServer
from essaim.cli.main import run
from tests.api.certificates import Certificates
from tests.api.fakes import FakeNode, utc_now
from tests.ports import free_port

pytestmark = pytest.mark.blocking_allowed


@pytest.fixture
def files(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path)


@pytest.fixture
async def daemon(files: Certificates) -> AsyncIterator[str]:
    """An API that wants client certificates, at `127.0.0.1:PORT`."""
    node = FakeNode()
    async with ApiServer(create_app(node, chance=node.chance, now=utc_now, log=structlog.get_logger())) as server:
        context = server_context(files.server, files.server_key, files.ca)
        yield f"127.0.0.1:{await server.listen_tls('127.0.0.1', 0, context)}"


Ask = Callable[..., Awaitable[str]]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Ask:
    """`await said("--tls", ...)` is what `essaim --tls ... node ls` complains of."""
    for name in ("ESSAIM_HOST", "ESSAIM_TLS_VERIFY", "ESSAIM_CERT_PATH"):
        monkeypatch.delenv(name, raising=False)

    async def ask(*arguments: str) -> str:
        assert await asyncio.to_thread(run, [*arguments, "node", "ls"]) == 1
        return capsys.readouterr().err.strip()

    return ask


async def test_tls_port_asked_in_plain_tells_to_ask_by_tls(said: Ask, daemon: str) -> None:
    answer = await said("-H", f"tcp://{daemon}")
    assert "HTTP request to an HTTPS server" in answer
    assert "--tlsverify" in answer


async def test_port_that_closes_at_once_tells_to_ask_by_tls(said: Ask) -> None:
    def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(close, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    answer = await said("-H", f"tcp://127.0.0.1:{port}")
    server.close()
    await server.wait_closed()
    assert "If it is a TLS port" in answer


async def test_missing_client_certificate_is_named(said: Ask, daemon: str, files: Certificates) -> None:
    answer = await said("-H", f"tcp://{daemon}", "--tlsverify", "--tlscacert", str(files.ca))
    assert answer.endswith("it wants a client certificate. Give one by --tlscert and --tlskey, or by ESSAIM_CERT_PATH")


async def test_client_certificate_of_another_authority_is_named(
    said: Ask, daemon: str, files: Certificates, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = Certificates(tmp_path_factory.mktemp("other"))
    flags = ("--tlsverify", "--tlscacert", str(files.ca), "--tlscert", str(other.client), "--tlskey")
    assert "does not accept this client certificate" in await said(
        "-H", f"tcp://{daemon}", *flags, str(other.client_key)
    )


async def test_authority_that_is_not_given_is_asked_for(said: Ask, daemon: str) -> None:
    assert "Name the authority's file by --tlscacert" in await said("-H", f"tcp://{daemon}", "--tlsverify")


async def test_plain_port_asked_by_tls_tells_to_ask_in_plain(said: Ask) -> None:
    node = FakeNode()
    async with ApiServer(create_app(node, chance=node.chance, now=utc_now, log=structlog.get_logger())) as server:
        port = await server.listen_plain("127.0.0.1", 0)
        assert "does not speak TLS there" in await said("-H", f"tcp://127.0.0.1:{port}", "--tls")


async def test_files_that_cannot_be_used_are_named(said: Ask, files: Certificates, tmp_path: Path) -> None:
    host, missing, wrong = ("-H", "tcp://127.0.0.1:1"), tmp_path / "missing.pem", tmp_path / "wrong.pem"
    wrong.write_text("no PEM")
    pair = ("--tlscert", str(files.client), "--tlskey")
    assert await said(*host, "--tlscacert", str(missing)) == (
        f"cannot read {missing} (--tlscacert): No such file or directory"
    )
    assert await said(*host, "--tlscacert", str(wrong)) == (f"{wrong} (--tlscacert) holds no certificate in PEM format")
    assert "--tlscert needs --tlskey beside it" in await said(*host, "--tlscert", str(files.client))
    assert "does not belong to the certificate" in await said(*host, *pair, str(files.server_key))
    assert "are not a certificate and its private key" in await said(*host, *pair, str(wrong))


async def test_encrypted_key_is_refused_without_asking_for_its_password(
    said: Ask, files: Certificates, tmp_path: Path
) -> None:
    key = load_pem_private_key(files.client_key.read_bytes(), None)
    locked = tmp_path / "locked.pem"
    locked.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")))
    flags = ("-H", "tcp://127.0.0.1:1", "--tlscert", str(files.client), "--tlskey", str(locked))
    assert "openssl pkey" in await said(*flags)


async def test_address_where_nobody_listens_asks_whether_essaimd_runs() -> None:
    host = f"tcp://127.0.0.1:{free_port('127.0.0.1')}"
    async with Client(host) as client:
        with pytest.raises(Unreachable, match=r"Is essaimd running\?$"):
            await client.get("/_ping")


async def test_host_without_an_address_is_named() -> None:
    async with Client("tcp://no-such-host.invalid:2376") as client:
        with pytest.raises(Unreachable, match=r"no host named no-such-host\.invalid"):
            await client.get("/_ping")


def test_host_that_does_not_answer_is_told_from_one_that_refuses() -> None:
    peer = Peer("tcp://10.0.0.1:2376", "10.0.0.1")
    assert "firewall" in explain(TimeoutError(), peer)
    assert "firewall" in explain(OSError(113, "No route to host"), peer)
    assert explain(ConnectionRefusedError(111, "Connection refused"), peer).endswith("Is essaimd running?")


def test_other_tls_errors_are_quoted_without_their_place_in_the_library() -> None:
    error = ssl.SSLError(1, "[SSL: NO_SHARED_CIPHER] no shared cipher (_ssl.c:1000)")
    error.reason = "NO_SHARED_CIPHER"
    assert explain(error, Peer("tcp://a:1", "a", True)).endswith("[SSL: NO_SHARED_CIPHER] no shared cipher")
