"""Stack files, deployed, planned and removed."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

STACK = """
services:
  web:
    image: nginx:1
    ports: ["4000:80"]
    deploy: {replicas: 2}
    networks: [webnet]
    secrets: [key]
  db:
    image: redis:7
networks:
  webnet:
secrets:
  key: {file: ./key.txt}
"""


@pytest.fixture
def stack_file(tmp_path: Path) -> str:
    (tmp_path / "key.txt").write_text("hush")
    (tmp_path / "stack.yml").write_text(STACK)
    return str(tmp_path / "stack.yml")


def sent(engine: Any, method: str) -> list[str]:
    return [item.path for item in engine.requests if item.method == method]


async def test_stack_deploy_makes_what_the_file_says_and_then_changes_nothing(
    stack_file: str, essaim: Any, engine: Any
) -> None:
    done = await essaim("stack", "deploy", "-c", stack_file, "shop")
    assert done.code == 0, done.err
    assert sorted(done.out.splitlines()) == [
        "Creating network shop_default",
        "Creating network shop_webnet",
        "Creating secret shop_key",
        "Creating service shop_db",
        "Creating service shop_web",
    ]
    web = next(item for item in engine.services.values() if item["Spec"]["Name"] == "shop_web")
    secret = next(iter(engine.secrets))
    assert web["Spec"]["TaskTemplate"]["ContainerSpec"]["Secrets"][0]["SecretID"] == secret
    versions = [item["Version"] for item in engine.services.values()]
    again = await essaim("stack", "deploy", "-q", "-c", stack_file, "shop")
    assert (again.code, again.out) == (0, "")
    assert [item["Version"] for item in engine.services.values()] == versions


async def test_stack_deploy_dry_run_prints_the_plan_and_changes_nothing(
    stack_file: str, essaim: Any, engine: Any
) -> None:
    done = await essaim("stack", "deploy", "--dry-run", "-c", stack_file, "shop")
    assert done.code == 0
    assert "create     service shop_web" in done.out
    assert done.out.endswith("Plan: 5 to create.\n")
    assert sent(engine, "POST") == []


async def test_stack_deploy_prune_removes_what_the_file_dropped(stack_file: str, essaim: Any, engine: Any) -> None:
    await essaim("stack", "deploy", "-c", stack_file, "shop")
    path = Path(stack_file)
    text = path.read_text().replace("  db:\n    image: redis:7\n", "")
    await asyncio.to_thread(path.write_text, text)
    done = await essaim("stack", "deploy", "--prune", "-q", "-c", stack_file, "shop")
    assert done.out.splitlines()[0] == "Removing service shop_db"
    assert [item["Spec"]["Name"] for item in engine.services.values()] == ["shop_web"]


async def test_stack_deploy_when_the_registry_is_away_keeps_pinned_images(
    stack_file: str, essaim: Any, engine: Any
) -> None:
    engine.digests |= {"nginx:1": "sha256:" + "a" * 64, "redis:7": "sha256:" + "b" * 64}
    await essaim("stack", "deploy", "-c", stack_file, "shop")
    engine.digests.clear()
    engine.requests.clear()
    done = await essaim("stack", "deploy", "-c", stack_file, "shop")
    assert "could not be accessed on a registry" in done.err
    assert [path for path in sent(engine, "POST") if path.startswith("/services")] == []


async def test_stack_rm_removes_services_first_and_waits_when_asked(stack_file: str, essaim: Any, engine: Any) -> None:
    await essaim("stack", "deploy", "-c", stack_file, "shop")
    done = await essaim("stack", "rm", "--detach=false", "shop")
    assert done.code == 0
    assert [line.split()[1] for line in done.out.splitlines()] == ["service", "service", "secret", "network", "network"]
    assert engine.services == {}


async def test_stack_deploy_with_a_mistake_names_file_line_and_key(tmp_path: Path, essaim: Any, engine: Any) -> None:
    path = tmp_path / "bad.yml"
    path.write_text("services:\n  web:\n    image: x\n    prots: []\n")
    done = await essaim("stack", "deploy", "-c", str(path), "shop")
    assert done.code == 1
    assert "bad.yml" in done.err
    assert "prots" in done.err
    assert engine.requests == []


async def test_stack_config_prints_the_resolved_file_from_standard_input(essaim: Any) -> None:
    text = "services:\n  web:\n    image: ${IMAGE:-nginx}:1\n"
    done = await essaim("stack", "config", "-c", "-", stdin=text, environment={"IMAGE": "redis"})
    assert "image: redis:1" in done.out


async def test_stack_deploy_outside_a_swarm_says_what_to_do(stack_file: str, essaim: Any, engine: Any) -> None:
    engine.in_swarm = False
    done = await essaim("stack", "deploy", "-c", stack_file, "shop")
    assert done.code == 1
    assert done.err.startswith("this node is not a swarm manager")
