"""Framing decisions beside those of HAProxy and NGINX: nothing that either refuses passes, but for the known reasons.

The rows are the conformance table's. HAProxy and NGINX repair some of what is refused here (and differ in what); the
other way round, what is accepted here must be accepted by both.
"""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.ports import free_port

from .conftest import Backends, exchange
from .test_conformance import ACCEPTED

pytestmark = pytest.mark.root

# What is accepted here and not by them, and why that is no danger.
KNOWN = {
    "nginx": {
        # Asks for no more than RFC 9112, 3.2.4; NGINX has nothing to serve for it.
        "9112 3.2.4 asterisk form of OPTIONS",
        # RFC 9110, 7.2: empty when there is no authority; NGINX demands one.
        "9112 3.2 an empty Host is valid",
        # RFC 9110, 5.6.3: optional white space is blanks and tabs; NGINX takes no tab before Host's value.
        "9110 5.6.3 white space around a value",
    },
    "haproxy": {
        # RFC 3986, 2.1: percent-encoded here on the way to the replica; HAProxy has an option that takes it as it is.
        "9112 3.2 byte over 127 in the target",
    },
}


def haproxy(directory: Path, port: int, backend: int) -> list[str]:
    (directory / "haproxy.cfg").write_text(
        "defaults\n mode http\n timeout connect 5s\n timeout client 5s\n timeout server 5s\n"
        f"listen l\n bind 127.0.0.1:{port}\n server s 127.0.0.1:{backend}\n"
    )
    return ["haproxy", "-db", "-f", str(directory / "haproxy.cfg")]


def nginx(directory: Path, port: int, backend: int) -> list[str]:
    temp = " ".join(
        f"{one}_temp_path {directory}/{one};" for one in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (directory / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {directory}/pid; error_log {directory}/log; events {{}}"
        f"http {{ access_log off; {temp} server {{ listen 127.0.0.1:{port}; location / {{"
        f" proxy_pass http://127.0.0.1:{backend}; proxy_http_version 1.1; }} }} }}"
    )
    return ["nginx", "-p", str(directory), "-c", str(directory / "nginx.conf")]


@contextlib.asynccontextmanager
async def running(command: list[str], port: int) -> AsyncIterator[None]:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed (tools/debian.sh)")
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL)
    try:
        async with asyncio.timeout(20):
            while True:
                with contextlib.suppress(ConnectionRefusedError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    break
                await asyncio.sleep(0.02)
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


@pytest.mark.parametrize("peer", ["haproxy", "nginx"])
async def test_what_is_accepted_here_is_accepted_by_the_peer(tmp_path: Path, backends: Backends, peer: str) -> None:
    port, backend = free_port(), await backends.web("t")
    command = (haproxy if peer == "haproxy" else nginx)(tmp_path, port, backend)
    async with running(command, port):
        refused = set()
        for rule, request in ACCEPTED.items():
            # An end is asked for, so that the answer has one.
            closing = request.replace(b" HTTP/1.1\r\n", b" HTTP/1.1\r\nConnection: close\r\n", 1)
            answer = await exchange(port, closing)
            final = answer.partition(b"HTTP/1.1 100 Continue\r\n\r\n")[2] or answer
            if final[9:12] != b"200":
                refused.add(rule)
    assert refused <= KNOWN[peer]
