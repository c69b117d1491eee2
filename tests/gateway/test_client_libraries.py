"""Client libraries of other protocols through a real worker: gRPC over layer 4, WebSockets over layer 7."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import websockets
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from essaim.gateway.control.supervisor import Gateway
from tests.ports import free_port

from .conftest import endpoint, service, table


def upper(request: bytes, context: Any) -> bytes:
    return request.upper()


def numbered(requests: Iterable[bytes], context: Any) -> Iterator[bytes]:
    for number, request in enumerate(requests):
        yield b"%d:" % number + request


def grpc_server() -> tuple[grpc.Server, int]:
    """A unary and a bidirectional streaming method, on bytes."""
    server = grpc.server(ThreadPoolExecutor(4))
    methods = {
        "Upper": grpc.unary_unary_rpc_method_handler(upper),
        "Numbered": grpc.stream_stream_rpc_method_handler(numbered),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("essaim.Echo", methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, port


def talk(port: int) -> tuple[bytes, int, list[bytes]]:
    """One small and one big call, and a stream of 100 messages."""
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.enable_http_proxy", 0)]) as channel:
        unary, stream = channel.unary_unary("/essaim.Echo/Upper"), channel.stream_stream("/essaim.Echo/Numbered")
        small = unary(b"hello", timeout=20)
        big = unary(b"x" * 3_000_000, timeout=20)
        said = list(stream(iter([b"message"] * 100), timeout=20))
    return small, len(big), said


async def test_grpc_unary_and_streaming_calls_go_through_layer_4(gateway: Gateway) -> None:
    server, replica = await asyncio.to_thread(grpc_server)
    port = free_port()
    await gateway.apply(table(1, service("x", port, [endpoint("t", replica)])))
    try:
        small, big, said = await asyncio.to_thread(talk, port)
    finally:
        await asyncio.to_thread(server.stop(None).wait)
    assert (small, big) == (b"HELLO", 3_000_000)
    assert said == [b"%d:message" % number for number in range(100)]


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


async def messages() -> AsyncIterator[str]:
    for part in ("in ", "several ", "frames"):
        yield part


async def test_websockets_library_talks_through_layer_7(gateway: Gateway) -> None:
    port = free_port()
    async with serve(echo, "127.0.0.1", 0, subprotocols=[websockets.Subprotocol("chat")]) as server:
        replica = next(iter(server.sockets)).getsockname()[1]
        await gateway.apply(table(1, service("x", port, [endpoint("t", replica)], "http")))
        uri = f"ws://127.0.0.1:{port}/"
        async with connect(uri, subprotocols=[websockets.Subprotocol("chat")], proxy=None) as client:
            assert client.subprotocol == "chat"
            for message in ("text", b"\x00\xff" * 400_000):
                await client.send(message)
                assert await client.recv() == message
            await client.send(messages())
            assert await client.recv() == "in several frames"
            async with asyncio.timeout(10):
                await (await client.ping())
        assert client.close_code == 1000
