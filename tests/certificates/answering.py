"""A server that answers ACME's challenges out of a certificate book, as a gateway does: HTTP-01 and TLS-ALPN-01."""

import asyncio
import ssl
import tempfile
from pathlib import Path

from essaim.cluster.certificates import CertificateBook

PREFIX = "/.well-known/acme-challenge/"


class Answering:
    """Use it as an async context manager; `book` may be changed at any time."""

    def __init__(self, http_port: int, tls_port: int) -> None:
        self.book = CertificateBook()
        self.http_port, self.tls_port = http_port, tls_port
        self.asked: list[str] = []
        self._servers: list[asyncio.Server] = []
        self._folder = tempfile.TemporaryDirectory(prefix="answering-")

    async def __aenter__(self) -> "Answering":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.sni_callback = self._choose
        plain = await asyncio.start_server(self._http, "127.0.0.1", self.http_port)
        secure = await asyncio.start_server(self._tls, "127.0.0.1", self.tls_port, ssl=context)
        self._servers = [plain, secure]
        return self

    async def __aexit__(self, *_: object) -> None:
        for server in self._servers:
            server.close()
            await server.wait_closed()
        self._folder.cleanup()

    async def _http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        path = head.split(b" ", 2)[1].decode()
        self.asked.append(path)
        answers = {PREFIX + one.token: one.answer for one in self.book.http_challenges}
        status, body = ("200 OK", answers[path]) if path in answers else ("404 Not Found", "no such challenge")
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode())
        await writer.drain()
        writer.close()

    async def _tls(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    def _choose(self, connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> int | None:
        self.asked.append(f"tls {name}")
        found = [one for one in self.book.alpn_challenges if one.domain == name]
        if not found:
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        path = Path(self._folder.name) / "shown.pem"
        path.write_text(found[0].chain + found[0].key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        context.set_alpn_protocols(["acme-tls/1"])
        connection.context = context
        return None
