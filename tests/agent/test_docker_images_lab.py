"""Images from a real registry (TLS and a password, on a lab host's loopback), and from ones that do not answer."""

import asyncio
import re
from collections.abc import AsyncIterator

import pytest

from essaim.agent.runtime.docker import images as images_module
from essaim.agent.runtime.docker.engine import Engine
from essaim.agent.runtime.docker.images import Images
from essaim.agent.runtime.interface import Rejected
from tests.lab.host import Host
from tests.lab.images import busybox_image
from tests.lab.lab import Lab
from tests.lab.private_registry import AUTH, DEAF, REGISTRY, push, start_registries

from .doubles import LOG

pytestmark = [pytest.mark.lab, pytest.mark.timeout(120)]
LAB_HOSTS = 1


@pytest.fixture
async def host(lab: Lab) -> Host:
    lab.load_image(busybox_image("box:1"))
    lab.load_image(busybox_image("box:2", files={"/etc/other": "x"}))
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


async def test_one_pull_serves_all_who_wait_and_says_how_far_it_is(
    host: Host, images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images_module, "SAY_EVERY", 0.0)
    for name, image in (("alone:1", "box:1"), ("shared:1", "box:2")):
        await asyncio.to_thread(push, host, name, image)
    heard: list[list[str]] = [[], [], []]
    # A pull of what the Engine knows by another name has no layers to tell of.
    await asyncio.to_thread(host.docker, "rmi", "box:2")
    await images.ensure(f"{REGISTRY}/alone:1", auth=AUTH)
    await asyncio.gather(*(images.ensure(f"{REGISTRY}/shared:1", auth=AUTH, say=one.append) for one in heard))
    asked = {name: await asyncio.to_thread(questions, host, name) for name in ("alone", "shared")}
    # Each of three pulls of their own would ask for it at least once.
    assert 0 < asked["shared"] <= asked["alone"] < len(heard)
    assert heard[0][-1] == heard[1][-1] == heard[2][-1]
    assert heard[0][-1].startswith(f"pulling {REGISTRY}/shared:1: ")
    assert "layers" in heard[0][-1]


def questions(host: Host, name: str) -> int:
    """How often the registry was asked for an image's manifest."""
    logs = (host.directory / "log").glob("registry-*")
    return sum(len(re.findall(rf'"(?:GET|HEAD) /v2/{name}/manifests/', path.read_text())) for path in logs)


async def test_registry_that_does_not_answer_delays_only_who_waits_for_it(host: Host, images: Images) -> None:
    await asyncio.to_thread(push, host, "other:1")
    slow = asyncio.create_task(images.ensure(f"{DEAF}/slow:1"))
    async with asyncio.timeout(30):
        await asyncio.gather(*(images.ensure(f"{REGISTRY}/other:1", auth=AUTH) for _ in range(5)))
    assert not slow.done()
    slow.cancel()
    await asyncio.gather(slow, return_exceptions=True)
