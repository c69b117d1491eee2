"""Acknowledged writes per second and latency: three members of ours against three of etcd, in one run.

    python bench/raft.py [--seconds 8] [--clients 1 64 256] [--secure]

Both are three processes on this machine with fsync on. A client is a closed loop: one write at a time, of a value of
256 bytes to the client's own key, to the leader, over TCP; up to 32 clients share a connection. etcd is spoken to in
its own protocol (gRPC), by a minimal HTTP/2 client written for the purpose: the load generator costs 1.7 us of CPU a
write with us and 8 with etcd, whose members need 80.
"""

import argparse
import asyncio
import json
import statistics
import struct
import tempfile
import time
from pathlib import Path
from typing import cast

import uvloop
from raft_cluster import Cluster, Etcd
from raft_member import LENGTH, Frames, encode

VALUE = b"v" * 256
PER_CONNECTION = 32
WARM_UP = 1.0  # seconds


class Load(asyncio.Protocol):
    """Some closed-loop clients on one connection; `latencies` collects seconds per acknowledged write."""

    def __init__(self, clients: int, first: int) -> None:
        self.clients, self.first = clients, first
        self.latencies: list[float] = []
        self.errors = 0
        self.began: dict[int, float] = {}
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's are none by class
        self.begin()

    def begin(self) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        if self.transport is not None:
            self.transport.abort()


class OurLoad(Load):
    def begin(self) -> None:
        self.frames = Frames()
        self._send(range(self.clients))

    def _send(self, clients: "range | list[int]") -> None:
        now, out = time.perf_counter(), []
        for client in clients:
            self.began[client] = now
            body = encode([client, "write", b"bench/%d\0" % (self.first + client) + VALUE])
            out.append(LENGTH.pack(len(body)) + body)
        assert self.transport is not None
        self.transport.write(b"".join(out))

    def data_received(self, data: bytes) -> None:
        now, done = time.perf_counter(), []
        for client, ok, _ in self.frames.feed(data):
            self.errors += not ok
            self.latencies.append(now - self.began[client])
            done.append(client)
        if done:
            self._send(done)


def _bytes_field(number: int, value: bytes) -> bytes:
    size, length = len(value), bytearray()
    while size > 127:
        length.append(size & 127 | 128)
        size >>= 7
    return bytes([number << 3 | 2]) + bytes([*length, size]) + value


def _literal(name: bytes, value: bytes) -> bytes:
    """A header for HPACK, neither indexed nor compressed (RFC 7541, 6.2.2)."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


class EtcdLoad(Load):
    """etcdserverpb.KV/Put over HTTP/2 (RFC 9113): a stream per write, a client per slot."""

    HEADERS = (
        _literal(b":method", b"POST") + _literal(b":scheme", b"http") + _literal(b":path", b"/etcdserverpb.KV/Put")
        + _literal(b":authority", b"etcd") + _literal(b"content-type", b"application/grpc")
        + _literal(b"te", b"trailers")
    )  # fmt: skip

    def begin(self) -> None:
        assert self.transport is not None
        self.buffer = bytearray()
        self.slot: dict[int, int] = {}  # stream -> client
        self.next_stream = 1
        self.credit = 0  # bytes received since the last window update
        window = struct.pack(">HI", 4, 1 << 30)
        self.transport.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + self._frame(4, 0, 0, window) + self._update(1 << 29))
        self._send(list(range(self.clients)))

    @staticmethod
    def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        return struct.pack(">IBI", len(payload) << 8 | kind, flags, stream) + payload

    def _update(self, size: int) -> bytes:
        return self._frame(8, 0, 0, struct.pack(">I", size))

    def _send(self, clients: list[int]) -> None:
        assert self.transport is not None
        now, out = time.perf_counter(), []
        for client in clients:
            stream, self.next_stream = self.next_stream, self.next_stream + 2
            self.slot[stream] = client
            self.began[client] = now
            put = _bytes_field(1, b"bench/%d" % (self.first + client)) + _bytes_field(2, VALUE)
            out.append(self._frame(1, 4, stream, self.HEADERS))
            out.append(self._frame(0, 1, stream, struct.pack(">BI", 0, len(put)) + put))
        self.transport.write(b"".join(out))

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        now, done, at = time.perf_counter(), [], 0
        while len(self.buffer) - at >= 9:
            head, flags, stream = struct.unpack_from(">IBI", self.buffer, at)
            size, kind = head >> 8, head & 255
            if len(self.buffer) - at < 9 + size:
                break
            payload = bytes(self.buffer[at + 9 : at + 9 + size])
            at += 9 + size
            self._control(kind, flags, payload)
            if stream and ((kind in (0, 1) and flags & 1) or kind == 3):
                client = self.slot.pop(stream)
                self.errors += kind == 3
                self.latencies.append(now - self.began[client])
                done.append(client)
        del self.buffer[:at]
        if done:
            self._send(done)

    def _control(self, kind: int, flags: int, payload: bytes) -> None:
        assert self.transport is not None
        if kind == 4 and not flags & 1:
            self.transport.write(self._frame(4, 1, 0, b""))
        elif kind == 6 and not flags & 1:
            self.transport.write(self._frame(6, 1, 0, payload))
        elif kind == 7:
            raise ConnectionError(f"etcd closes the connection: {payload!r}")
        elif kind == 0:
            self.credit += len(payload)
            if self.credit > 1 << 20:
                self.transport.write(self._update(self.credit))
                self.credit = 0


async def measure(kind: type[Load], port: int, clients: int, seconds: float) -> dict[str, float]:
    loop = asyncio.get_running_loop()
    loads = []
    for first in range(0, clients, PER_CONNECTION):
        load = kind(min(PER_CONNECTION, clients - first), first)
        await loop.create_connection(lambda load=load: load, "127.0.0.1", port)
        loads.append(load)
    await asyncio.sleep(WARM_UP)
    for load in loads:
        load.latencies.clear()
    began = time.perf_counter()
    await asyncio.sleep(seconds)
    elapsed = time.perf_counter() - began
    latencies = sorted(each for load in loads for each in load.latencies)
    for load in loads:
        load.stop()
    if not latencies or any(load.errors for load in loads):
        raise RuntimeError(f"{kind.__name__} had {sum(load.errors for load in loads)} errors of {len(latencies)}")
    return {
        "writes/s": round(len(latencies) / elapsed),
        "median ms": round(statistics.median(latencies) * 1e3, 3),
        "p99 ms": round(latencies[int(len(latencies) * 0.99)] * 1e3, 3),
    }


async def compare(options: argparse.Namespace) -> dict[str, dict[str, dict[str, float]]]:
    results: dict[str, dict[str, dict[str, float]]] = {"etcd": {}, "essaim": {}}
    with tempfile.TemporaryDirectory(dir=options.dir) as name:
        etcd, ours = Etcd(Path(name)), Cluster(Path(name), 3, values=True, secure=options.secure)
        for clients in options.clients:  # one cluster at a time runs: they share two cores
            if not options.only_ours:
                try:
                    etcd.start_all()
                    port = int(etcd.leader().rpartition(":")[2])
                    results["etcd"][str(clients)] = await measure(EtcdLoad, port, clients, options.seconds)
                finally:
                    etcd.stop_all()
            try:
                ours.start_all()
                leader = await ours.leader()
                port = ours.client_ports[leader]
                results["essaim"][str(clients)] = await measure(OurLoad, port, clients, options.seconds)
            finally:
                ours.stop_all()
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 64, 256])
    parser.add_argument("--dir", type=Path, default=None, help="where the data is written; default the system's")
    parser.add_argument("--only-ours", action="store_true")
    parser.add_argument("--secure", action="store_true", help="ours over mutual TLS, with an encrypted log")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results = uvloop.run(compare(options))
    if options.json:
        print(json.dumps(results))
        return
    print(f"{'clients':>8} {'':>8} {'writes/s':>10} {'median ms':>10} {'p99 ms':>10}")
    for clients in map(str, options.clients):
        for name, found in results.items():
            if clients in found:
                print(f"{clients:>8} {name:>8} " + " ".join(f"{value:>10}" for value in found[clients].values()))
        if clients in results["etcd"]:
            ratio = results["essaim"][clients]["writes/s"] / results["etcd"][clients]["writes/s"]
            print(f"{'':>8} {'ratio':>8} {ratio:>10.1f}")


if __name__ == "__main__":
    main()
