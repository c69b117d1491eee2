"""Registries at a deploy: credentials from docker's configuration and its helpers, digests asked for side by side."""

import asyncio
import base64
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from essaim.cli import registry

STACK = """
services:
  a: {image: "one.example/a:1"}
  b: {image: "two.example/b:1"}
  c: {image: "one.example/a:1"}
"""
HELPER = """#!/bin/sh
# Credentials of one registry, as `docker-credential-pass get` gives them.
echo x >> {folder}/asked
[ "$1" = get ] || exit 2
read -r address
case $address in
  one.example) echo '{{"ServerURL":"one.example","Username":"ana","Secret":"hunter2"}}';;
  token.example) echo '{{"ServerURL":"token.example","Username":"<token>","Secret":"t0ken"}}';;
  *) echo "credentials not found in native keychain"; exit 1;;
esac
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Holds the stack, the helper `lab` and docker's configuration."""
    (tmp_path / "stack.yml").write_text(STACK)
    helper = tmp_path / "docker-credential-lab"
    helper.write_text(HELPER.format(folder=tmp_path))
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path


def configure(folder: Path, **settings: Any) -> dict[str, str]:
    (folder / "config.json").write_text(json.dumps(settings))
    return {"DOCKER_CONFIG": str(folder), "HOME": str(folder)}


def known(auth: str) -> Any:
    return json.loads(base64.urlsafe_b64decode(auth)) if auth else None


def sent(engine: Any, path: str) -> dict[str, Any]:
    """The credentials that went along with each request to a path."""
    return {
        (item.body or {}).get("Name") or item.path: known(item.auth)
        for item in engine.requests
        if item.path.startswith(path) and item.method in ("GET", "POST") and item.path != "/services"
    }


ANA = {"username": "ana", "password": "hunter2", "serveraddress": "one.example"}
PLAIN = {"auth": base64.b64encode(b"bob:pa:ss").decode()}
BOB = {"username": "bob", "password": "pa:ss", "serveraddress": "two.example"}


@pytest.mark.parametrize(
    "settings",
    [
        {"credHelpers": {"one.example": "lab"}, "auths": {"two.example": PLAIN}},
        {"credHelpers": {"one.example": "lab"}, "auths": {"https://two.example": PLAIN, "one.example": PLAIN}},
    ],
)
async def test_credentials_of_each_registry_go_along_when_they_are_wanted(
    folder: Path, essaim: Any, engine: Any, settings: dict[str, Any]
) -> None:
    environment = configure(folder, **settings)
    deploy = ("stack", "deploy", "-c", str(folder / "stack.yml"))
    done = await essaim(*deploy, "--with-registry-auth", "s", environment=environment)
    assert done.code == 0, done.err
    assert sent(engine, "/services/create") == {"s_a": ANA, "s_b": BOB, "s_c": ANA}
    assert sent(engine, "/distribution") == {
        "/distribution/one.example/a:1/json": ANA, "/distribution/two.example/b:1/json": BOB,
    }  # fmt: skip
    assert await asyncio.to_thread((folder / "asked").read_text) == "x\n"
    engine.requests.clear()
    assert (await essaim(*deploy, "other", environment=environment)).code == 0
    assert set(sent(engine, "/services/create").values()) == {None}


async def test_helper_gives_an_identity_token(folder: Path, essaim: Any, engine: Any) -> None:
    (folder / "stack.yml").write_text("services: {a: {image: token.example/a}}")
    environment = configure(folder, credsStore="lab")
    await essaim(
        "stack", "deploy", "-c", str(folder / "stack.yml"), "--with-registry-auth", "s", environment=environment
    )
    assert sent(engine, "/services/create")["s_a"] == {"identitytoken": "t0ken", "serveraddress": "token.example"}


async def test_helper_that_knows_nothing_or_is_missing_is_no_reason_to_fail(
    folder: Path, essaim: Any, engine: Any
) -> None:
    environment = configure(folder, credHelpers={"one.example": "gone", "two.example": "lab"})
    done = await essaim(
        "stack", "deploy", "-c", str(folder / "stack.yml"), "--with-registry-auth", "s", environment=environment
    )
    assert done.code == 0
    assert done.err.startswith(
        "docker-credential-gone, which keeps the credentials of one.example, cannot be run: No such file"
    )
    assert sent(engine, "/services/create") == {"s_a": {}, "s_b": {}, "s_c": {}}


async def test_registries_are_asked_side_by_side_and_once_for_each_image(
    folder: Path, essaim: Any, engine: Any
) -> None:
    engine.digests |= {"one.example/a:1": "sha256:" + "a" * 64, "two.example/b:1": "sha256:" + "b" * 64}
    both = asyncio.Barrier(2)
    asked: Counter[str] = Counter()

    async def together(image: str) -> None:
        asked[image] += 1
        async with asyncio.timeout(10):
            await both.wait()

    engine.registry = together
    done = await essaim("stack", "deploy", "-c", str(folder / "stack.yml"), "s")
    assert done.code == 0, done.err
    assert asked == {"one.example/a:1": 1, "two.example/b:1": 1}
    images = {
        item["Spec"]["Name"]: item["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"]
        for item in engine.services.values()
    }
    assert images == {
        "s_a": "one.example/a:1@sha256:" + "a" * 64,
        "s_b": "two.example/b:1@sha256:" + "b" * 64,
        "s_c": "one.example/a:1@sha256:" + "a" * 64,
    }


async def test_registry_that_never_answers_holds_up_a_deploy_for_a_while_only(
    folder: Path, essaim: Any, engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "ANSWER_WITHIN", 0.2)
    engine.digests["one.example/a:1"] = "sha256:" + "a" * 64
    never = asyncio.Event()

    async def deaf(image: str) -> None:
        if image == "two.example/b:1":
            await never.wait()

    engine.registry = deaf
    done = await essaim("stack", "deploy", "-c", str(folder / "stack.yml"), "s")
    never.set()
    assert done.code == 0
    images = sorted(item["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"] for item in engine.services.values())
    assert images == ["one.example/a:1@sha256:" + "a" * 64] * 2 + ["two.example/b:1"]


@pytest.mark.parametrize(("policy", "questions"), [("always", 2), ("changed", 0), ("never", 0)])
async def test_resolve_image_says_when_registries_are_asked_again(
    policy: str, questions: int, folder: Path, essaim: Any, engine: Any
) -> None:
    engine.digests |= {"one.example/a:1": "sha256:" + "a" * 64, "two.example/b:1": "sha256:" + "b" * 64}
    deploy = ("stack", "deploy", "-c", str(folder / "stack.yml"))
    await essaim(*deploy, "s")
    engine.requests.clear()
    done = await essaim(*deploy, "--resolve-image", policy, "s")
    assert done.code == 0
    assert len(sent(engine, "/distribution")) == questions
    assert [item.path for item in engine.requests if item.method == "POST" and "/services" in item.path] == []
