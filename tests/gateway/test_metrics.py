"""What Prometheus reads after known traffic: the numbers of a service and its endpoints, against what passed."""

import asyncio
import contextlib
import socket
from collections.abc import Callable

from prometheus_client.parser import text_string_to_metric_families

from essaim.gateway.control.metrics import TASK_BUCKETS, Checks, Measured, Workers, exposition
from essaim.gateway.control.supervisor import Gateway
from essaim.gateway.protocol.messages import LATENCY_BUCKETS, EndpointCounts, PortCounts
from essaim.gateway.runtime.counters import NOTHING, add
from essaim.gateway.runtime.reset import reset
from tests.ports import free_port

from .conftest import Backends, endpoint, service, table

Samples = dict[tuple[str, ...], float]


def parse(text: str) -> Samples:
    """By name and the labels' values in the order of service, task, code, le."""
    return {
        (sample.name, *(sample.labels[one] for one in ("service", "task", "code", "le") if one in sample.labels)): (
            sample.value
        )
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def metrics(gateway: Gateway, condition: Callable[[Samples], bool] = lambda _: True) -> Samples:
    async with asyncio.timeout(20):
        while not condition(found := parse(await gateway.metrics())):
            await asyncio.sleep(0.01)
    return found


class Replica:
    """Answers with a status and 100 bytes, counts the bytes; `/held` waits until it is let go."""

    def __init__(self, status: int) -> None:
        self.status = status
        self.read = self.written = self.requests = self.connections = 0
        self.let_go = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                self.requests += 1
                self.read += len(head)
                if b" /held " in head:
                    await self.let_go.wait()
                answer = b"HTTP/1.1 %d X\r\nContent-Length: 100\r\n\r\n%b" % (self.status, b"x" * 100)
                self.written += len(answer)
                writer.write(answer)
        writer.close()


async def ask(client: tuple[asyncio.StreamReader, asyncio.StreamWriter], path: str = "/") -> int:
    reader, writer = client
    writer.write(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    await reader.readexactly(int(head.lower().partition("content-length:")[2].split()[0]))
    return int(head.split()[1])


async def test_metrics_say_of_a_service_and_its_endpoints_what_passed(gateway: Gateway, backends: Backends) -> None:
    port, good, bad = free_port(), Replica(200), Replica(500)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        replicas = [
            endpoint("good", await backends.serve(good.serve)),
            endpoint("bad", await backends.serve(bad.serve)),
            endpoint("dead", nobody.getsockname()[1]),
        ]
        labels = {"essaim.eject.5xx": "1", "essaim.healthcheck.mode": "none"}
        await gateway.apply(table(1, service("web", port, replicas, "http", labels)))
        client = await asyncio.open_connection("127.0.0.1", port)
        statuses = [await ask(client) for _ in range(30)]
        holding = asyncio.create_task(ask(client, "/held"))
        during = await metrics(gateway, lambda found: found.get(("essaim_gateway_open", "web", "good")) == 1)
        good.let_go.set()
        statuses.append(await holding)
        after = await metrics(gateway)
    of = lambda name, task: after[f"essaim_gateway_{name}", "web", task]  # noqa: E731

    assert set(statuses) == {200, 500}
    for task, code, replica in (("good", "200", good), ("bad", "500", bad)):
        assert after["essaim_gateway_requests_total", "web", task, code] == statuses.count(int(code))
        assert (of("received_bytes_total", task), of("sent_bytes_total", task)) == (replica.read, replica.written)
        assert of("task_seconds_count", task) == replica.requests
        assert after["essaim_gateway_task_seconds_bucket", "web", task, "+Inf"] == replica.requests
        assert of("task_seconds_sum", task) > 0
    # Every failure ejects here, and what is out gets nothing.
    assert (of("ejections_total", "good"), of("ejections_total", "bad")) == (0, statuses.count(500))
    assert of("connect_errors_total", "dead") >= 1
    assert of("retries_total", "dead") == of("ejections_total", "dead") == of("connect_errors_total", "dead")
    assert [of("open", task) for task in ("good", "bad", "dead")] == [0, 0, 0]
    assert (of("idle", "good"), of("idle", "bad")) == (good.connections, bad.connections)
    assert during["essaim_gateway_idle", "web", "good"] == good.connections - 1
    assert during["essaim_gateway_client_connections", "web"] == after["essaim_gateway_client_connections", "web"] == 1
    assert after["essaim_gateway_request_seconds_count", "web"] == len(statuses)
    assert after["essaim_gateway_waiting", "web"] == after["essaim_gateway_queue_refused_total", "web"] == 0

    await gateway.apply(table(2, service("web", port, [], "http", {**labels, "essaim.queue.timeout": "0s"})))
    assert await ask(client) == 503
    left = await metrics(gateway)
    client[1].close()
    assert left["essaim_gateway_answers_total", "web", "503"] == 1
    assert left["essaim_gateway_queue_refused_total", "web"] == 1
    for name in ("received_bytes_total", "sent_bytes_total", "retries_total", "ejections_total"):
        assert left[f"essaim_gateway_{name}", "web", ""] == sum(of(name, task) for task in ("good", "bad", "dead"))
    assert left["essaim_gateway_request_seconds_count", "web"] == len(statuses)


async def test_metrics_count_what_waits_and_what_the_gateway_answers_itself(gateway: Gateway) -> None:
    port = free_port()
    labels = {"essaim.queue.timeout": "2s"}
    await gateway.apply(table(1, service("web", port, [], "http", labels)))
    clients = [await asyncio.open_connection("127.0.0.1", port) for _ in range(4)]
    clients[3][1].write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    waiting = [asyncio.create_task(ask(client)) for client in clients[:2]]
    during = await metrics(gateway, lambda found: found["essaim_gateway_waiting", "web"] == 3)
    assert during["essaim_gateway_client_connections", "web"] == 4
    reset(clients[3][1].transport)
    assert [await one for one in waiting] == [503, 503]
    clients[2][1].write(b"nonsense\r\n\r\n")
    assert b" 400 " in await clients[2][0].readline()
    after = await metrics(gateway)
    for _, writer in clients:
        writer.close()
    answers = {labels[2]: value for labels, value in after.items() if labels[0] == "essaim_gateway_answers_total"}
    assert answers == {"503": 2, "400": 1, "499": 1}
    assert after["essaim_gateway_waiting", "web"] == 0


def test_metrics_histograms_of_endpoints_add_up_to_that_of_the_port() -> None:
    def counts(task: str, latency: list[int]) -> EndpointCounts:
        return EndpointCounts(
            task_id=task, codes={200: sum(latency)}, latency=latency, seconds=float(sum(latency)), bytes_in=0,
            bytes_out=0, connect_errors=0, retries=0, ejections=0, open=0, ejected=False,
        )  # fmt: skip

    size = len(LATENCY_BUCKETS) + 1
    one, other = counts("a", list(range(size))), counts("b", [0] * (size - 1) + [7])
    port = PortCounts("p", 0, 0, [one, other], NOTHING)
    found = parse(exposition([Measured("web", "80", port, {})], Checks(0, 0, 0), 0, Workers(1, {}, {})))
    for bound in (*TASK_BUCKETS, float("inf")):
        place = next(n for n, upper in enumerate((*LATENCY_BUCKETS, float("inf"))) if upper == bound)
        label = "+Inf" if bound == float("inf") else str(bound)
        assert found["essaim_gateway_task_seconds_bucket", "web", "a", label] == sum(range(place + 1))
        assert found["essaim_gateway_task_seconds_bucket", "web", "b", label] == (7 if label == "+Inf" else 0)
        both = sum(add([one, other]).latency[: place + 1])
        assert found["essaim_gateway_request_seconds_bucket", "web", label] == both
    assert found["essaim_gateway_task_seconds_sum", "web", "a"] == sum(range(size))
    assert not [name for name in found if name[0].startswith("essaim_gateway_") and "" in name[1:]]
