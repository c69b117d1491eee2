"""schemathesis explores the native API over a real connection: every answer is one that the description names.

Seeded; with `--long`, at random and for longer.
"""

import asyncio
import os
import threading
from collections.abc import Iterator

import pytest
import requests
import schemathesis
import structlog
from hypothesis import HealthCheck, settings
from schemathesis.checks import CHECKS, load_all_checks

from essaim.api.app import create_app
from essaim.api.native_schema import document
from essaim.api.node import InitRequest
from essaim.api.server import ApiServer
from essaim.cluster.swarm import default_spec
from tests.api.fakes import FakeNode, utc_now

LONG = bool(os.environ.get("ESSAIM_TEST_LONG"))
MORE_THAN_SHAPE = {"createResolver"}
"""Operations whose bodies have rules that a schema cannot say (PEM, URLs, keys): not all that fits it is accepted."""
load_all_checks()
schema = schemathesis.openapi.from_dict(document())


class Server(threading.Thread):
    """A manager's API on a port of loopback, on an event loop of its own."""

    def __init__(self) -> None:
        super().__init__(name="api server", daemon=True)
        self.port = 0
        self.ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._ended = asyncio.Event()

    def run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        node = FakeNode()
        await node.init(InitRequest(advertise_addr="127.0.0.1", spec=default_spec()))
        renderers = {"haproxy": lambda table, bind: f"global {bind}\n"}
        app = create_app(node, chance=node.chance, now=utc_now, log=structlog.get_logger(), renderers=renderers)
        async with ApiServer(app) as server:
            self.port = await server.listen_plain("127.0.0.1", 0)
            self.ready.set()
            await self._ended.wait()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self.join(20)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    server = Server()
    server.start()
    assert server.ready.wait(20)
    url = f"http://127.0.0.1:{server.port}"
    body = {"Name": "web", "TaskTemplate": {"ContainerSpec": {"Image": "essaim/whoami"}}}
    assert requests.post(f"{url}/services/create", json=body, timeout=20).status_code == 201
    yield url
    server.stop()


@schema.parametrize()
@settings(max_examples=300 if LONG else 15, derandomize=not LONG, suppress_health_check=list(HealthCheck))
def test_any_request_is_answered_as_described(case: schemathesis.Case, address: str) -> None:
    checks = CHECKS.get_all()
    if case.operation.definition.raw["operationId"] in MORE_THAN_SHAPE:
        checks = [check for check in checks if check.__name__ != "positive_data_acceptance"]
    case.call_and_validate(base_url=address, checks=checks)
