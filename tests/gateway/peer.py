"""A real Traefik beside the gateway, and what of two exchanges can be compared."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import yaml

from tests.configs.conftest import program

from .conftest import exchange

# What only one of the two says: their names, ports and clocks, compression.
IGNORED = {
    "accept-encoding", "x-forwarded-server", "x-forwarded-port", "x-real-ip", "forwarded", "x-request-id", "connection",
    "date", "host",
}  # fmt: skip
Fields = list[tuple[str, str]]
Answer = tuple[int, Fields, bytes]


@contextlib.asynccontextmanager
async def traefik(folder: Path, http: dict[str, dict[str, Any]], port: int) -> AsyncIterator[None]:
    """Serves `http` (a dynamic configuration: routers, middlewares, services) at an entry point `web`."""
    routers = {"ready": {"rule": "Host(`ready.example`)", "service": "noop@internal", "middlewares": ["ready"]}}
    middlewares = {"ready": {"ipAllowList": {"sourceRange": ["192.0.2.1"], "rejectStatusCode": 418}}}
    dynamic = http | {"routers": http["routers"] | routers, "middlewares": http["middlewares"] | middlewares}
    (folder / "dynamic.yml").write_text(yaml.safe_dump({"http": dynamic}))
    static = {
        "entryPoints": {"web": {"address": f"127.0.0.1:{port}"}},
        "providers": {"file": {"filename": str(folder / "dynamic.yml"), "watch": False}},
        "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
    }
    (folder / "traefik.yml").write_text(yaml.safe_dump(static))
    with (folder / "traefik.out").open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            program("traefik"), f"--configFile={folder}/traefik.yml", stdout=out, stderr=out, start_new_session=True
        )
    try:
        async with asyncio.timeout(30):
            while True:
                with contextlib.suppress(OSError):
                    got = await exchange(port, b"GET / HTTP/1.1\r\nHost: ready.example\r\nConnection: close\r\n\r\n")
                    if b" 418 " in got:
                        break
                await asyncio.sleep(0.05)
        yield
    finally:
        process.terminate()
        await process.wait()


async def read_request(reader: asyncio.StreamReader) -> tuple[str, Fields, bytes]:
    """A request as a server gets it: its first line, its fields with their names in lower case, its content."""
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    fields = [(name.lower(), value) for name, _, value in (one.partition(": ") for one in lines if one)]
    known = dict(fields)
    body = b""
    if known.get("transfer-encoding") == "chunked":
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
    elif "content-length" in known:
        body = await reader.readexactly(int(known["content-length"]))
    return first, fields, body


def comparable(fields: Fields, *more: str) -> Fields:
    return sorted(one for one in fields if one[0] not in IGNORED and one[0] not in more)


def parsed(answer: bytes) -> Answer:
    """Status 0: there was none."""
    if not answer:
        return 0, [], b""
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    fields = [(name.lower(), value) for name, _, value in (one.partition(": ") for one in lines)]
    fields = [(name, value.replace(", ", ",") if name == "vary" else value) for name, value in fields]
    return int(first.split()[1]), comparable(fields), body


def renamed(theirs: Any, words: dict[str, str]) -> Any:
    """Traefik's words with the gateway's names in them, and without its client's name for itself."""
    if isinstance(theirs, str):
        for word, ours in words.items():
            theirs = theirs.replace(word, ours)
        return theirs
    if isinstance(theirs, dict):
        return {key: renamed(value, words) for key, value in theirs.items()}
    if isinstance(theirs, list | tuple):
        kept = (one for one in theirs if one != ("user-agent", "Go-http-client/1.1"))
        return type(theirs)(renamed(one, words) for one in kept)
    return theirs


def is_own(status: int, body: bytes) -> bool:
    """The gateway's own words, where Traefik has none or others."""
    return body.startswith(b"%d " % status) and body.endswith(b"\n")


Seen = dict[str, tuple[str, Fields, bytes]]


def differences(name: str, theirs: tuple[Answer, Seen], ours: tuple[Answer, Seen]) -> list[str]:
    """Between what the client got and the servers behind saw, for people to read."""
    ((status, fields, body), seen), ((our_status, our_fields, our_body), our_seen) = theirs, ours
    found = [f"{name}: client {status} {our_status}"] if status != our_status else []
    if set(seen) != set(our_seen):
        found.append(f"{name}: asked {sorted(seen)}, by us {sorted(our_seen)}")
    for role in seen.keys() & our_seen.keys():
        if seen[role] != our_seen[role]:
            found.append(f"{name}: {role}\n   traefik {seen[role]}\n   essaim  {our_seen[role]}")
    if (is_own(our_status, our_body) or not our_body) and (not body or status >= 300):
        own = ("content-length", "content-type", "x-content-type-options")
        fields, our_fields = ([one for one in some if one[0] not in own] for some in (fields, our_fields))
        body = our_body = b""
    if fields != our_fields or body != our_body:
        found.append(f"{name}: answer\n   traefik {fields} {body!r}\n   essaim  {our_fields} {our_body!r}")
    return found
