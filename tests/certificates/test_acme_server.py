"""What pebble has not: a server's advice on renewal, and servers that talk nonsense."""

import asyncio
import gc
import threading
import warnings
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from essaim.certificates.acme.challenge_keys import new_key
from essaim.certificates.acme.server import AcmeFailure, AcmeServer
from essaim.certificates.acme.threads import in_thread
from essaim.cluster.acme import Resolver, ResolverSpec
from tests.certificates import made
from tests.scheduler.agents import until

START, END = datetime(2030, 1, 1, tzinfo=UTC), datetime(2030, 1, 3, tzinfo=UTC)


class Scripted:
    """Answers each path as told: a JSON value, or a status."""

    def __init__(self) -> None:
        self.answers: dict[str, object] = {}
        self.asked = 0
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.url = ""

    async def handle(self, request: web.Request) -> web.Response:
        self.asked += 1
        await self.may_answer.wait()
        found = next((answer for path, answer in self.answers.items() if request.path.startswith(path)), 404)
        if isinstance(found, int):
            return web.Response(status=found, text="nonsense")
        return web.json_response(found, headers={"Retry-After": "3600", "Replay-Nonce": "bm9uY2U"})

    def resolver(self) -> Resolver:
        spec = ResolverSpec(name="le", directory=f"{self.url}/dir")
        return Resolver(id="r", spec=spec, account_key=new_key(), account_url=f"{self.url}/account/1")


@pytest.fixture
async def scripted() -> AsyncIterator[Scripted]:
    made_one = Scripted()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made_one.handle)
    async with TestServer(app) as server:
        made_one.url = str(server.make_url("")).rstrip("/")
        paths = {"newNonce": "nonce", "newAccount": "account", "newOrder": "order"}
        made_one.answers = {"/dir": {key: f"{made_one.url}/{path}" for key, path in paths.items()}, "/nonce": {}}
        yield made_one


CHAIN = b"".join(made.issued("a.example.org")[0]).decode()


async def test_advice_is_a_moment_of_the_servers_window(scripted: Scripted) -> None:
    scripted.answers["/dir"] |= {"renewalInfo": f"{scripted.url}/ari"}  # type: ignore[operator]
    window = {"start": START.isoformat(), "end": END.isoformat()}
    scripted.answers["/ari/"] = {"suggestedWindow": window}
    server = AcmeServer(scripted.resolver())
    at, again = await in_thread(server.advice, CHAIN)
    server.close()
    assert START.timestamp() <= at <= END.timestamp()
    assert again == pytest.approx(datetime.now(UTC).timestamp() + 3600, abs=60)


@pytest.mark.parametrize("answer", [None, 500])
async def test_server_without_advice_is_asked_again_later(scripted: Scripted, answer: object) -> None:
    if answer is not None:
        scripted.answers["/dir"] |= {"renewalInfo": f"{scripted.url}/ari"}  # type: ignore[operator]
        scripted.answers["/ari/"] = answer
    server = AcmeServer(scripted.resolver())
    at, again = await in_thread(server.advice, CHAIN)
    server.close()
    assert at == 0
    assert again > datetime.now(UTC).timestamp() + 3000


async def test_call_that_nobody_waits_for_any_more_leaves_no_connection_open(scripted: Scripted) -> None:
    scripted.may_answer.clear()
    server = AcmeServer(scripted.resolver())
    asking = asyncio.create_task(in_thread(server.order, f"{scripted.url}/order/1"))
    await until(lambda: scripted.asked == 1)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    server.close()
    scripted.may_answer.set()
    await until(lambda: not any(thread.name == "acme order" for thread in threading.enumerate()))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        del server, asking
        gc.collect()
    assert [str(one.message) for one in said] == []


async def test_advice_without_a_window_becomes_a_reason(scripted: Scripted) -> None:
    scripted.answers["/dir"] |= {"renewalInfo": f"{scripted.url}/ari"}  # type: ignore[operator]
    scripted.answers["/ari/"] = {"suggestedWindow": {}}
    server = AcmeServer(scripted.resolver())
    with pytest.raises(AcmeFailure, match="cannot be understood"):
        await in_thread(server.advice, CHAIN)
    server.close()


@pytest.mark.parametrize(
    ("path", "answer"),
    [("/dir", 404), ("/dir", []), ("/dir", {"newNonce": 7}), ("/nonce", 500), ("/order/", 500), ("/order/", {"a": 1})],
)
async def test_nonsense_becomes_a_reason(scripted: Scripted, path: str, answer: object) -> None:
    scripted.answers[path] = answer
    server = AcmeServer(scripted.resolver())
    with pytest.raises(AcmeFailure) as refusal:
        await in_thread(server.order, f"{scripted.url}/order/1")
    server.close()
    assert 0 < len(str(refusal.value)) < 600
