"""The real Traefik beside the gateway's own routing: each question is put to both.

Each rule and each middleware has an entry point of Traefik's; here they are asked in the process.
"""

import asyncio
import contextlib
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import yaml

from essaim.gateway.codec.http1.head import parse_request
from essaim.gateway.codec.message import Refused
from essaim.gateway.routing.call import Answer, Call
from essaim.gateway.routing.matchers import Asked
from essaim.gateway.routing.middlewares.build import make_middleware
from essaim.gateway.routing.paths import normal
from tests.ports import free_port

TRAEFIK = shutil.which("traefik", path=str(Path(sys.executable).parent))
PASSED = [
    (method, path, host, "")
    for method in ("GET", "PUT")
    for path, host in (
        ("/", "a.example"), ("/api", "a.example"), ("/api/", "a.example"), ("/apifoo", "a.example"),
        ("/api/x?y=1", "a.example:8080"), ("/a%20b/c", "a.example"), ("/abc/12/d", "a.example"), ("/api//x", "b.org"),
        ("/?x", "b.org"),
    )
]  # fmt: skip


Question = tuple[str, str, str, str]
Outcome = tuple[int, str]
"""A status, and the replica's request line or where the answer leads."""


async def ask(port: int, question: Question) -> Outcome:
    method, target, host, fields = question
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    lines = f"Host: {host}\r\n{fields}" + ("\r\n" if fields else "")
    writer.write(f"{method} {target} HTTP/1.1\r\n{lines}Connection: close\r\n\r\n".encode())
    async with asyncio.timeout(20):
        answer = await reader.read()
    writer.close()
    head, _, body = answer.decode("latin-1").partition("\r\n\r\n")
    status = int(head.split()[1])
    places = [line.partition(": ")[2] for line in head.split("\r\n") if line.lower().startswith("location:")]
    return status, places[0] if places else body.split("\r\n")[0].partition("\n")[2] if status == 200 else ""


@contextlib.asynccontextmanager
async def traefik(folder: Path, backend: int, routers: list[dict[str, Any]]) -> AsyncIterator[list[int]]:
    """A Traefik with an entry point for each router, and their ports."""
    ports = [free_port() for _ in routers]
    middlewares = {f"m{n}": router.pop("made") for n, router in enumerate(routers) if "made" in router}
    http: dict[str, Any] = {
        "routers": {f"r{n}": {"entryPoints": [f"e{n}"], **r, "service": "s"} for n, r in enumerate(routers)},
        "services": {"s": {"loadBalancer": {"servers": [{"url": f"http://127.0.0.1:{backend}"}]}}},
    }
    if middlewares:
        http["middlewares"] = middlewares
    (folder / "dynamic.yml").write_text(yaml.safe_dump({"http": http}))
    points = {f"e{n}": {"address": f"127.0.0.1:{port}"} for n, port in enumerate(ports)}
    static = {"entryPoints": points, "providers": {"file": {"filename": str(folder / "dynamic.yml")}}}
    (folder / "static.yml").write_text(yaml.safe_dump(static))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([str(TRAEFIK), f"--configFile={folder}/static.yml"], stdout=log, stderr=log)
    try:
        async with asyncio.timeout(30):
            while True:
                with contextlib.suppress(OSError, IndexError):
                    if (await ask(ports[-1], ("GET", "/api", "a.example", "")))[0] != 404:
                        break
                assert process.poll() is None, (folder / "log").read_text()
                await asyncio.sleep(0.05)
        yield ports
    finally:
        process.kill()
        process.wait()


def asked_of(question: Question) -> Asked:
    method, target, host, fields = question
    lines = f"Host: {host}\r\n{fields}" + ("\r\n" if fields else "")
    request = parse_request(f"{method} {target} HTTP/1.1\r\n{lines}".encode())
    path, _, query = request.target.partition(b"?")
    return Asked(request, normal(path), query, "127.0.0.1")


async def answers(port: int, questions: list[Question]) -> list[Outcome]:
    return await asyncio.gather(*(ask(port, question) for question in questions))


def passed(kind: str, options: dict[str, Any], question: Question) -> Outcome:
    labels = {name.lower(): ",".join(v) if isinstance(v, list) else str(v).lower() if isinstance(v, bool) else v
              for name, v in options.items()}  # fmt: skip
    try:
        asked = asked_of(question)
        request = asked.request
        call = Call(request, asked.path, asked.query, request.fields, asked.address, request.authority or b"", 0.0)
        make_middleware(kind.lower(), labels)(call)
    except Refused as refused:
        return refused.status, ""
    except Answer as answer:
        return answer.status, answer.lines.decode().removeprefix("Location: ").strip()
    return 200, f"{question[0]} {call.target.decode()} HTTP/1.1"


async def middleware_differences(folder: Path, backend: int, made: list[tuple[str, dict[str, Any]]]) -> list[str]:
    """Where PASSED come out of these middlewares as something else than out of Traefik's."""
    routers: list[dict[str, Any]] = [
        {"rule": "PathPrefix(`/`)", "middlewares": [f"m{n}"], "made": {kind: options}}
        for n, (kind, options) in enumerate(made)
    ]
    different: list[str] = []
    async with traefik(folder, backend, routers) as ports:
        for (kind, options), port in zip(made, ports, strict=True):
            for question, there in zip(PASSED, await answers(port, PASSED), strict=True):
                here = passed(kind, options, question)
                if here != there:
                    different.append(f"{kind} {options} {question[1:3]}: there {there}, here {here}")
    return different
