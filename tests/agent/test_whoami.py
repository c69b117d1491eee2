"""essaim/whoami: what it tells, how it waits, and that its end cuts nobody off."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from essaim.agent.runtime.whoami import WAIT_MOST, Whoami, parse_request, seconds
from essaim.cluster import durations

IDENTITY = {"ESSAIM_SERVICE_NAME": "web", "ESSAIM_TASK_NAME": "web.1.x", "ESSAIM_NODE_HOSTNAME": "n1"}


class Server:
    def __init__(self) -> None:
        self.whoami = Whoami(IDENTITY)
        self.port = 0

    async def ask(self, *requests: str) -> str:
        """Everything that comes back on one connection, until the server closes it."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write("".join(requests).encode())
        async with asyncio.timeout(20):
            answer = (await reader.read()).decode()
        writer.close()
        return answer


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    listener = await asyncio.start_server(server.whoami.serve, "127.0.0.1", 0)
    server.port = listener.sockets[0].getsockname()[1]
    yield server
    listener.close()
    await server.whoami.finish()


def get(target: str, *headers: str, method: str = "GET") -> str:
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: h", *headers]) + "\r\n\r\n"


CLOSE = "Connection: close"


async def test_root_tells_the_task_and_what_it_saw(server: Server) -> None:
    head, _, body = (await server.ask(get("/x?y=1", "X-Mine: 1", CLOSE))).partition("\r\n\r\n")
    lines = body.splitlines()
    told = dict(line.partition(": ")[::2] for line in lines if ": " in line)
    assert head.startswith("HTTP/1.1 200 OK")
    assert (told["Service"], told["Task"], told["Node"], told["X-Mine"]) == ("web", "web.1.x", "n1", "1")
    assert told["Hostname"]
    assert told["RemoteAddr"].startswith("127.0.0.1:")
    assert "GET /x?y=1 HTTP/1.1" in lines


async def test_api_tells_the_same_as_json(server: Server) -> None:
    told = json.loads((await server.ask(get("/api", CLOSE))).partition("\r\n\r\n")[2])
    assert (told["Service"], told["Request"], told["Headers"]["Host"]) == ("web", "GET /api HTTP/1.1", "h")


async def test_connection_is_kept_for_several_requests_with_bodies(server: Server) -> None:
    post = get("/health", "Content-Length: 5", method="POST") + "hello"
    answers = await server.ask(post, get("/health", method="HEAD"), get("/health", CLOSE))
    assert answers.count("HTTP/1.1 200 OK") == 3
    assert answers.count("OK\n") == 2


@pytest.mark.parametrize(
    ("request_", "status"),
    [(get("/missing", CLOSE), "404"), (get("/", CLOSE, method="BREW"), "405"), ("nonsense\r\n\r\n", "400")],
)
async def test_errors_have_their_status(server: Server, request_: str, status: str) -> None:
    assert (await server.ask(request_)).startswith(f"HTTP/1.1 {status} ")


async def test_wait_delays_the_answer(server: Server) -> None:
    began = time.monotonic()
    await server.ask(get("/?wait=50ms", CLOSE))
    assert time.monotonic() - began >= 0.05


async def test_end_closes_idle_connections_and_lets_busy_ones_finish(server: Server) -> None:
    busy = asyncio.create_task(server.ask(get("/?wait=100ms")))
    idle = asyncio.create_task(server.ask())
    async with asyncio.timeout(20):
        while (len(server.whoami._busy), len(server.whoami._idle)) != (2, 1):
            await asyncio.sleep(0)
        await server.whoami.finish()
    assert "Connection: close" in await busy
    assert await idle == ""


@pytest.mark.parametrize(
    ("text", "number"),
    [("200ms", 0.2), ("1.5s", 1.5), ("2", 2), ("5us", 5e-6), ("1m", 60), ("1m30s", 90), ("999999", 300), ("9h", 300)],
)
def test_seconds_of_a_wait(text: str, number: float) -> None:
    assert seconds(text) == pytest.approx(number)


@given(st.text(alphabet="0123456789.+-hmsnuµμ² e_\u0665", max_size=12) | st.sampled_from(["nan", "inf", "", "x", "+0"]))
def test_seconds_of_a_wait_are_those_of_a_label(text: str) -> None:
    assert read(seconds, text) == pytest.approx(read(lambda one: min(durations.seconds(one), WAIT_MOST), text))


def read(reader: Callable[[str], float], text: str) -> float | None:
    try:
        return reader(text)
    except ValueError as error:
        return WAIT_MOST if str(error) == durations.A_YEAR else None


@pytest.mark.parametrize("wait", ["soon", "-1s", "nan", "1e3", "", "1x%0d%0aX-B:%201", "%ff"])
async def test_wait_that_is_no_duration_is_answered_with_what_to_write(wait: str, server: Server) -> None:
    head, _, body = (await server.ask(get(f"/?x=1&wait={wait}&wait=0", CLOSE))).partition("\r\n\r\n")
    if wait:  # an empty one is none, as everywhere in a query
        assert head.startswith("HTTP/1.1 400 Bad Request")
        assert "is not a duration; write it like 200ms" in body
    else:
        assert head.startswith("HTTP/1.1 200 OK")
    assert "X-B" not in head


def test_request_line_and_headers_are_read_or_refused() -> None:
    request = parse_request(b"GET / HTTP/1.0\r\nA: b\r\nConnection: Keep-Alive")
    assert request is not None
    assert (request.header("a"), request.keeps_alive) == ("b", True)
    assert parse_request(b"GET /") is None
    assert parse_request(b"GET / HTTP/1.1\r\nno colon") is None
