"""Questions to auth servers that are no service of the cluster, by name or address, http or https.

aiohttp's client asks them. It costs 11 MiB and 0.15 s of CPU to load, so it is loaded with the first such
question, in a thread; a worker that asks nobody outside never does.
"""

import asyncio
import importlib
import re
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from essaim.gateway.http.held_body import Held
from essaim.gateway.routing.call import Verdict
from essaim.gateway.routing.middlewares.auth_server import AuthServer
from essaim.gateway.routing.middlewares.forward_auth import Question, end_to_end

from .cluster import ANSWER_SECONDS

if TYPE_CHECKING:
    import aiohttp

CONNECTIONS, CONNECTIONS_TO_ONE = 256, 64
CONNECT_SECONDS = 5.0
VALUE = re.compile(rb"[\t -~\x80-\xff]*")


class OutsideRequest:
    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._opening = asyncio.Lock()
        self._contexts: dict[tuple[str, bool], ssl.SSLContext] = {}

    def ask(self, question: Question, held: Held, answered: Callable[[Verdict], None]) -> Callable[[], object]:
        """`answered` is told the verdict once, unless what is returned is called before."""

        async def run() -> None:
            answered(await self._ask(question, held))

        return asyncio.get_running_loop().create_task(run()).cancel

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _ask(self, question: Question, held: Held) -> Verdict:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await self._exchange(await self._opened(), question, held)
        except TimeoutError:
            return Verdict(500, failure="the auth server did not answer in time")
        except Exception as error:
            # Whatever goes wrong, the request that waits gets its answer. What it is concerns operators, not clients.
            return Verdict(500, failure=f"the auth server cannot be asked ({type(error).__name__})")

    async def _exchange(self, session: "aiohttp.ClientSession", question: Question, held: Held) -> Verdict:
        from yarl import URL

        fields = [line.partition(b":") for line in question.fields.split(b"\r\n") if line]
        headers = [("Host", question.server.authority)]
        # Names in one spelling: of a name in two, aiohttp keeps the last line only.
        headers += [(name.decode().title(), value.strip().decode("utf-8", "replace")) for name, _, value in fields]
        asked = session.request(
            question.method.decode("latin-1"),
            URL(question.server.url, encoded=True),
            headers=headers,
            data=question.body or None,
            allow_redirects=False,
            ssl=self._context(question.server),
        )
        async with asked as response:
            body = bytearray()
            async for piece in response.content.iter_any():
                too_long = len(body) + len(piece) > question.limit
                if too_long or not held.take(len(piece)):
                    response.close()
                    return Verdict(401 if too_long else 503, failure="the auth server's answer is too long")
                body += piece
            given = ((name, value) for name, value in response.raw_headers if VALUE.fullmatch(value))
            return Verdict(response.status, end_to_end(given), bytes(body))

    def _context(self, server: AuthServer) -> ssl.SSLContext | bool:
        """How the server's certificate is verified. Raises ValueError (ssl.SSLError among them)."""
        if not server.authorities and not server.unverified:
            return True
        key = (server.authorities, server.unverified)
        if key not in self._contexts:
            context = ssl.create_default_context(cadata=server.authorities or None)
            if server.unverified:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            self._contexts[key] = context
        return self._contexts[key]

    async def _opened(self) -> "aiohttp.ClientSession":
        async with self._opening:
            if self._session is None:
                loop = asyncio.get_running_loop()
                aiohttp: Any = await loop.run_in_executor(None, importlib.import_module, "aiohttp")
                self._session = aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(limit=CONNECTIONS, limit_per_host=CONNECTIONS_TO_ONE),
                    cookie_jar=aiohttp.DummyCookieJar(),
                    auto_decompress=False,
                    timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
                    skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
                )
            assert self._session is not None
            return self._session
