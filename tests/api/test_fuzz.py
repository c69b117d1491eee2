"""Whatever a client sends, it gets an answer with a message, soon, and nothing breaks inside.

Requests are made by damaging good ones: types swapped, numbers grown, values nested, bytes cut. Each seed is one
sequence of requests against one cluster; a failure names the request.
"""

import asyncio
import contextlib
import io
import json
import os
import random
import urllib.parse
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
import structlog
from yarl import URL

from essaim.api import bodies, context, server
from essaim.api.app import create_app
from essaim.api.context import API
from essaim.api.listen import connections
from tests.api.conftest import Served
from tests.api.fakes import FakeNode, utc_now

REQUESTS = 300
DEADLINE = 30.0
JSON = {"Content-Type": "application/json"}
CREATE = b"POST /services/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
CONTAINER = {
    "Image": "a", "Labels": {"a": "b"}, "Args": ["x"], "Env": ["A=1"], "TTY": True, "StopGracePeriod": 10,
    "Mounts": [{"Type": "volume", "Source": "a", "Target": "/b", "VolumeOptions": {"Labels": {}}}],
    "Healthcheck": {"Test": ["CMD", "x"], "Interval": 10**9}, "DNSConfig": {"Nameservers": ["1.1.1.1"]},
    "Secrets": [{"SecretID": "x", "SecretName": "x", "File": {"Name": "x", "Mode": 292}}],
    "Privileges": {"SELinuxContext": {"Disable": True}}, "Ulimits": [{"Name": "nofile", "Soft": 1}],
}  # fmt: skip
SPEC = {
    "Name": "web", "Labels": {"a": "b"},
    "TaskTemplate": {
        "ContainerSpec": CONTAINER, "Resources": {"Limits": {"NanoCPUs": 10**9, "MemoryBytes": 10**9}},
        "RestartPolicy": {"Condition": "any", "Delay": 5}, "Placement": {"Constraints": ["node.role==manager"]},
        "Networks": [{"Target": "ingress"}], "LogDriver": {"Name": "none", "Options": {}}, "PluginSpec": {"a": [1]},
    },
    "Mode": {"Replicated": {"Replicas": 2}}, "UpdateConfig": {"Parallelism": 1, "MaxFailureRatio": 0.5},
    "EndpointSpec": {"Mode": "vip", "Ports": [{"Protocol": "tcp", "TargetPort": 80, "PublishedPort": 8080}]},
}  # fmt: skip
NETWORK = {"Name": "n", "Driver": "overlay", "IPAM": {"Config": [{"Subnet": "10.1.0.0/24", "Gateway": "10.1.0.1"}]}}
SWARM = {
    "Name": "default",
    "Labels": {},
    "Raft": {"SnapshotInterval": 1},
    "Orchestration": {"TaskHistoryRetentionLimit": 1},
}
GOOD: list[tuple[str, str, Any]] = [
    ("POST", "/services/create", SPEC),
    ("POST", "/services/web/update?version=7", SPEC),
    ("POST", "/services/web/update?version=7&rollback=previous&registryAuthFrom=spec", SPEC),
    ("GET", "/services?filters=F&status=true&insertDefaults=1", None),
    ("GET", "/services/web?insertDefaults=true", None),
    ("GET", "/services/web/logs?stdout=1&tail=5&since=1.5&until=2", None),
    ("DELETE", "/services/web", None),
    ("GET", "/tasks?filters=F", None),
    ("GET", "/tasks/abc", None),
    ("POST", "/secrets/create", {"Name": "s", "Data": "aGk=", "Labels": {"a": "b"}}),
    ("POST", "/secrets/s/update?version=7", {"Name": "s", "Labels": {"a": "b"}}),
    ("GET", "/secrets?filters=F", None),
    ("POST", "/configs/create", {"Name": "c", "Data": "aGk=", "Templating": {"Name": "golang"}}),
    ("DELETE", "/configs/c", None),
    ("POST", "/networks/create", NETWORK),
    ("GET", "/networks?filters=F", None),
    ("DELETE", "/networks/n", None),
    ("POST", "/networks/prune?filters=F", None),
    ("GET", "/nodes?filters=F", None),
    ("POST", "/nodes/vm/update?version=7", {"Name": "x", "Labels": {}, "Role": "manager", "Availability": "drain"}),
    ("DELETE", "/nodes/vm?force=1", None),
    ("POST", "/swarm/update?version=7&rotateWorkerToken=1", SWARM),
    ("POST", "/swarm/init", {"ListenAddr": "0.0.0.0:2377", "Spec": SWARM, "DefaultAddrPool": ["10.0.0.0/8"]}),
    ("POST", "/swarm/join", {"JoinToken": "x", "RemoteAddrs": ["x"], "Availability": "drain"}),
    ("POST", "/swarm/unlock", {"UnlockKey": "x"}),
    ("GET", "/events?since=1&until=2&filters=F", None),
    ("GET", "/distribution/a/b:1/json", None),
    ("GET", "/essaim/v1/lb/config/haproxy", None),
    ("POST", "/containers/create", {"Image": "a"}),
]  # fmt: skip
FILTERS = ['{"name":{"web":true}}', '{"label":["a=b"]}', '{"id":["x"],"service":["web"]}', '{"node":["vm"]}']
ODD: list[Any] = [
    None, True, False, 0, -1, 1, 2**31, 2**63 - 1, 2**63, -(2**63) - 1, 10**40, 0.5, -1e308, "", "x",
    "é\u0000\n", "x" * 5000,
    [], {}, [None], {"": None}, [[]], {"a": {"b": {"c": []}}}, "0", "-1", "10.0.0.0/8", "a==b",
]  # fmt: skip


class Recorder:
    """Stands for the daemon's log; what is logged as an error is a bug found."""

    def __init__(self) -> None:
        self.failures: list[dict[str, Any]] = []

    def error(self, event: str, **fields: Any) -> None:
        self.failures.append(fields)

    def warning(self, event: str, **fields: Any) -> None:
        pass


@pytest.fixture
async def watched(served: Served) -> AsyncIterator[tuple[Served, Recorder]]:
    recorder = Recorder()
    served.app[API].log = recorder
    return served, recorder


def damage(value: Any, chance: random.Random) -> Any:
    """One place of a JSON value made odd."""
    if isinstance(value, dict) and value and chance.random() < 0.85:
        key = chance.choice(list(value))
        changed = dict(value)
        turn = chance.random()
        if turn < 0.1:
            del changed[key]
        elif turn < 0.2:
            changed[key.swapcase()] = changed.pop(key)
        else:
            changed[key] = damage(value[key], chance)
        return changed
    if isinstance(value, list) and value and chance.random() < 0.7:
        return [damage(item, chance) for item in value] * chance.choice([1, 1, 2])
    return chance.choice(ODD)


def damage_text(text: str, chance: random.Random) -> str:
    """One character changed, dropped or repeated."""
    place = chance.randrange(len(text) + 1)
    return (
        text[:place]
        + chance.choice(["", "%", "/", "..", "\u00e9", "{", "9" * 30, "&", "=", "null"])
        + text[place + 1 :]
    )


def make(chance: random.Random) -> tuple[str, str, bytes | None]:
    method, path, body = chance.choice(GOOD)
    path = path.replace("F", urllib.parse.quote(json.dumps(damage(json.loads(chance.choice(FILTERS)), chance))))
    if chance.random() < 0.3:
        path = "/" + damage_text(path, chance).lstrip("/")
    if chance.random() < 0.1:
        path = chance.choice(["/v1.41", "/v1.24", "/v9.9", "/v1.", "/v", "//"]) + path
    if chance.random() < 0.05:
        method = chance.choice(["PUT", "PATCH", "OPTIONS", "HEAD", "DELETE", "GET", "POST"])
    if body is None and chance.random() < 0.9:
        return method, path, None
    for _ in range(chance.choice([0, 1, 1, 2, 5])):
        body = damage(body, chance)
    data = json.dumps(body).encode()
    turn = chance.random()
    if turn < 0.1:
        data = data[: chance.randrange(len(data) + 1)]
    elif turn < 0.15:
        data = chance.randbytes(50)
    elif turn < 0.2:
        data = b'{"a":' * 3000
    return method, path, data


@pytest.mark.long
@pytest.mark.timeout(180)
@pytest.mark.parametrize("seed", range(200 if os.environ.get("ESSAIM_TEST_LONG") else 3))
async def test_damaged_request_gets_an_answer(watched: tuple[Served, Recorder], seed: int) -> None:
    served, recorder = watched
    chance = random.Random(seed)
    await served.create("web")
    for number in range(REQUESTS):
        method, path, data = make(chance)
        async with asyncio.timeout(DEADLINE):
            status, text = await send(served, method, path, data)
        assert not recorder.failures, (seed, number, method, path, data, recorder.failures[0]["trace"])
        if status >= 400 and method != "HEAD":
            assert json.loads(text)["message"], (seed, number, method, path, data)
        if served.node.manager is None:
            served.node.swarm_state = "inactive"
            await served.call("POST", "/swarm/init", {})


async def send(served: Served, method: str, path: str, data: bytes | None) -> tuple[int, str]:
    url = URL("http://essaim" + urllib.parse.quote(path, safe="/?&=%:"), encoded=True)
    async with served.client.request(method, url, data=data, headers=JSON) as reply:
        if "events" in path and reply.status == 200:
            return 200, ""  # without its end in time it goes on for ever, rightly
        return reply.status, (await reply.read()).decode(errors="replace")


async def test_body_beyond_the_limit_is_refused(served: Served) -> None:
    body = b'{"Name":"' + b"x" * (bodies.MAX_BODY + 1) + b'"}'
    async with served.client.post("http://essaim/services/create", data=io.BytesIO(body), headers=JSON) as reply:
        assert reply.status == 413
        assert (await reply.json())["message"]


async def test_request_cut_in_the_middle_leaves_the_server_well(watched: tuple[Served, Recorder]) -> None:
    served, recorder = watched
    for raw in (
        CREATE + b"Content-Length: 100\r\n\r\n{",
        CREATE + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\n" + b"A: " + b"x" * 200_000,
        b"\x16\x03\x01\x00",
    ):
        _, writer = await asyncio.open_unix_connection(str(served.socket))
        writer.write(raw)
        writer.close()
        await writer.wait_closed()
    await served.call("GET", "/services")
    assert not recorder.failures


async def test_malformed_http_is_answered_with_400(served: Served) -> None:
    reader, writer = await asyncio.open_unix_connection(str(served.socket))
    writer.write(b"NONSENSE\r\n\r\n")
    async with asyncio.timeout(DEADLINE):
        answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    assert answer.startswith((b"HTTP/1.0 400", b"HTTP/1.1 400"))


async def test_body_that_does_not_arrive_is_given_up(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context, "BODY_SECONDS", 0.05)
    reader, writer = await asyncio.open_unix_connection(str(served.socket))
    writer.write(CREATE + b"Content-Length: 100\r\n\r\n{")
    async with asyncio.timeout(DEADLINE):
        answer = await reader.readuntil(b"}")
    writer.close()
    await writer.wait_closed()
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"did not arrive" in answer


async def test_head_that_does_not_arrive_is_given_up(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.05)
    node = FakeNode()
    async with server.ApiServer(create_app(node, chance=node.chance, now=utc_now, log=structlog.get_logger())) as other:
        await other.listen_unix(served.socket.with_name("other.sock"))
        for head in (b"", b"GET /_ping HTTP/1.1\r\nHo"):
            reader, writer = await asyncio.open_unix_connection(str(served.socket.with_name("other.sock")))
            writer.write(head)
            async with asyncio.timeout(DEADLINE):
                assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()


async def test_crowd_of_large_bodies_is_read_a_few_at_a_time_while_others_are_served(served: Served) -> None:
    """So many bodies of the largest size, each without its end: the rest stays with the clients."""
    crowd = context.LARGE_BODIES + 8
    head = CREATE + f"Content-Length: {bodies.MAX_BODY}\r\n\r\n".encode()
    writers = [(await asyncio.open_unix_connection(str(served.socket)))[1] for _ in range(crowd)]
    for writer in writers:
        writer.write(head + b" " * (bodies.MAX_BODY - 1))

    def read() -> int:
        return sum(cast("asyncio.Transport", writer.transport).get_write_buffer_size() == 0 for writer in writers)

    async with asyncio.timeout(DEADLINE):
        while read() < context.LARGE_BODIES:
            await served.call("GET", "/services")
    await served.call("POST", "/secrets/create", {"Name": "small", "Data": "aGk="}, 201)
    assert read() == context.LARGE_BODIES
    for writer in writers:
        writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
