"""Digests that the manager pins, for clients of an API that leaves it to the manager."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from essaim.api.engine.digests import with_tag
from tests.api.conftest import Served
from tests.api.test_engine import FakeEngine

DIGEST = "sha256:" + "ab" * 32
FOUND = json.dumps({"Descriptor": {"digest": DIGEST}, "Platforms": []}).encode()
OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(FOUND), FOUND)
UNREACHABLE = b'HTTP/1.1 500 Internal Server Error\r\nContent-Length: 21\r\n\r\n{"message":"no route"}'


@pytest.fixture
async def engine(served: Served) -> AsyncIterator[FakeEngine]:
    fake = FakeEngine()
    fake.respond = fake.answer(OK)
    path = served.socket.parent / "engine.sock"
    async with await asyncio.start_unix_server(fake.serve, str(path)):
        served.node.engine_url = f"unix://{path}"
        yield fake


async def image_of(served: Served, name: str) -> str:
    found = await served.call("GET", f"/services/{name}")
    return str(found["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"])


def spec_of(name: str, image: str) -> dict[str, Any]:
    return {"Name": name, "TaskTemplate": {"ContainerSpec": {"Image": image}}}


async def update(served: Served, version: str, name: str, image: str) -> Any:
    now = await served.call("GET", f"/services/{name}")
    path = f"{version}/services/{name}/update?version={now['Version']['Index']}"
    return await served.call("POST", path, spec_of(name, image))


async def test_old_api_pins_the_digest_at_create_and_at_update(served: Served, engine: FakeEngine) -> None:
    await served.call("POST", "/v1.29/services/create", spec_of("web", "reg:5000/app"), 201)
    assert await image_of(served, "web") == f"reg:5000/app:latest@{DIGEST}"
    assert await update(served, "/v1.29", "web", "reg:5000/app:2") == {"Warnings": None}
    assert await image_of(served, "web") == f"reg:5000/app:2@{DIGEST}"
    asked = [head.split(" ")[1] for head in engine.heads]
    assert asked == ["/distribution/reg:5000/app/json", "/distribution/reg:5000/app:2/json"]


@pytest.mark.parametrize("version", ["/v1.30", "/v1.41", ""])
async def test_newer_api_takes_the_tag_as_it_was_posted(served: Served, engine: FakeEngine, version: str) -> None:
    await served.call("POST", f"{version}/services/create", spec_of("web", "reg:5000/app"), 201)
    assert await image_of(served, "web") == "reg:5000/app"
    assert engine.heads == []


async def test_image_that_is_pinned_already_is_not_asked_for(served: Served, engine: FakeEngine) -> None:
    await served.call("POST", "/v1.29/services/create", spec_of("web", f"app@{DIGEST}"), 201)
    assert engine.heads == []


async def test_image_that_no_registry_knows_is_taken_with_a_warning(served: Served, engine: FakeEngine) -> None:
    engine.respond = engine.answer(UNREACHABLE)
    made = await served.call("POST", "/v1.29/services/create", spec_of("web", "mine"), 201)
    assert "mine could not be accessed on a registry" in made["Warnings"][0]
    assert await image_of(served, "web") == "mine"


async def test_credentials_of_the_request_and_of_the_service_are_handed_on(served: Served, engine: FakeEngine) -> None:
    headers = {"X-Registry-Auth": "c2VjcmV0"}
    path = "http://essaim/v1.29/services/create"
    async with served.client.post(path, json=spec_of("web", "app"), headers=headers) as reply:
        assert reply.status == 201
    await update(served, "/v1.29", "web", "app:2")
    assert ["X-Registry-Auth: c2VjcmV0" in head for head in engine.heads] == [True, True]


async def test_name_that_is_no_images_gets_no_further_line_into_the_engines_request(
    served: Served, engine: FakeEngine
) -> None:
    engine.respond = engine.answer(UNREACHABLE)
    image = "app HTTP/1.1\r\nHost: x\r\n\r\nDELETE /containers/y"
    await served.client.post("http://essaim/v1.29/services/create", json=spec_of("web", image))
    assert all(head.count("\r\n\r\n") == 1 and "DELETE /" not in head for head in engine.heads)


@pytest.mark.parametrize(
    ("image", "tagged"), [("a", "a:latest"), ("a:1", "a:1"), ("reg:5000/a", "reg:5000/a:latest"), ("r/a:b", "r/a:b")]
)
def test_with_tag(image: str, tagged: str) -> None:
    assert with_tag(image) == tagged
