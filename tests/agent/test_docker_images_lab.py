"""Images from a real registry (TLS and a password, on a lab host's loopback), and from ones that do not answer."""

import asyncio
import base64
import json
import sys
from collections.abc import AsyncIterator

import pytest

from essaim.agent.docker.engine import Engine
from essaim.agent.docker.images import Images
from essaim.agent.runtime import Rejected
from tests.lab.host import Host
from tests.lab.images import busybox_image
from tests.lab.lab import Lab
from tests.lab.wait import eventually

from .doubles import LOG

pytestmark = [pytest.mark.lab, pytest.mark.timeout(120)]
LAB_HOSTS = 1

REGISTRY = "127.0.0.1:5000"
DEAF = "127.0.0.1:5001"
USER, PASSWORD = "ana", "hunter2"
# bcrypt of the password, as htpasswd writes it.
HTPASSWD = f"{USER}:$2y$05$abcdefghijklmnopqrstuuoXuKqgZXLiJqzfmMXDDhSFPIvxV7t8.\n"
AUTH = base64.urlsafe_b64encode(json.dumps({"username": USER, "password": PASSWORD}).encode()).decode()
CONFIG = """
version: 0.1
storage: {{filesystem: {{rootdirectory: {folder}/data}}}}
http: {{addr: "127.0.0.1:5000", tls: {{certificate: {folder}/cert.pem, key: {folder}/key.pem}}}}
auth: {{htpasswd: {{realm: test, path: {folder}/htpasswd}}}}
"""
DEAF_SERVER = """
import socket
server = socket.create_server(("127.0.0.1", 5001))
kept = []
while True: kept.append(server.accept())
"""


def start_registries(host: Host) -> None:
    folder = host.directory / "registry"
    folder.mkdir(exist_ok=True)
    (folder / "config.yml").write_text(CONFIG.format(folder=folder))
    (folder / "htpasswd").write_text(HTPASSWD)
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=registry"]
    host.run(["openssl", "req", "-x509", *kind, *files])
    host.popen(["docker-registry", "serve", folder / "config.yml"], name="registry")
    host.popen([sys.executable, "-c", DEAF_SERVER], name="deaf")
    eventually(
        lambda: host.run(["curl", "-sk", f"https://{REGISTRY}/v2/"], check=False).returncode == 0, 30, "registry"
    )


def push(host: Host, name: str) -> str:
    """Push box:1 under another name and forget it here; its digest."""
    reference = f"{REGISTRY}/{name}"
    host.docker("tag", "box:1", reference)
    host.docker("login", "--username", USER, "--password-stdin", REGISTRY, text=PASSWORD)
    host.docker("push", "--quiet", reference)
    digest = json.loads(host.docker("inspect", reference))[0]["RepoDigests"][0]
    host.docker("rmi", reference)
    return str(digest)


@pytest.fixture
async def host(lab: Lab) -> Host:
    lab.load_image(busybox_image("box:1"))
    await asyncio.to_thread(start_registries, lab.hosts[0])
    return lab.hosts[0]


@pytest.fixture
async def images(host: Host) -> AsyncIterator[Images]:
    async with Engine(host.engine_url) as engine:
        images = Images(engine, LOG)
        yield images
        await images.close()


async def test_images_are_pulled_with_their_credentials_and_found_by_digest_afterwards(
    host: Host, images: Images
) -> None:
    digest = await asyncio.to_thread(push, host, "private:1")
    with pytest.raises(Rejected, match=f"No such image: {REGISTRY}/private:1"):
        await images.ensure(f"{REGISTRY}/private:1")
    pinned = f"{REGISTRY}/private:1@{digest.partition('@')[2]}"
    await images.ensure(pinned, auth=AUTH)
    host.stop_processes()
    await images.ensure(pinned)
    with pytest.raises(Rejected, match="pull policy is never"):
        await images.ensure(f"{REGISTRY}/other:1", policy="never")
    with pytest.raises(Rejected, match="No such image"):
        await images.ensure(pinned, policy="always", auth=AUTH)


async def test_registry_that_does_not_answer_delays_only_who_waits_for_it(host: Host, images: Images) -> None:
    await asyncio.to_thread(push, host, "other:1")
    slow = asyncio.create_task(images.ensure(f"{DEAF}/slow:1"))
    async with asyncio.timeout(30):
        await asyncio.gather(*(images.ensure(f"{REGISTRY}/other:1", auth=AUTH) for _ in range(5)))
    assert not slow.done()
    slow.cancel()
    await asyncio.gather(slow, return_exceptions=True)
