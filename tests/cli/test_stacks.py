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


EXTERNAL = """
services:
  web:
    image: nginx:1
    networks: [outer]
    secrets: [s]
    configs: [c]
networks: {outer: {external: true, name: shared-net}}
secrets: {s: {external: true, name: shared-secret}}
configs: {c: {external: true}}
"""


async def test_stack_deploy_uses_external_objects_and_makes_or_removes_none(
    tmp_path: Path, essaim: Any, engine: Any
) -> None:
    path = tmp_path / "stack.yml"
    path.write_text(EXTERNAL)
    deploy = ("stack", "deploy", "-c", str(path), "shop")
    refused = await essaim(*deploy)
    assert refused.code == 1
    network, *others = refused.err.splitlines()
    assert network.startswith(
        'network "shared-net" is declared as external, but could not be found. You need to create'
    )
    assert others == ["secret not found: shared-secret", "config not found: c"]
    assert sent(engine, "POST") == []
    engine.add_network("shared-net")
    await essaim("secret", "create", "shared-secret", "-", stdin="x")
    await essaim("config", "create", "c", "-", stdin="x")
    done = await essaim(*deploy)
    assert (done.code, done.out.splitlines()) == (0, ["Creating service shop_web"])
    (service,) = engine.services.values()
    container = service["Spec"]["TaskTemplate"]["ContainerSpec"]
    assert [container["Secrets"][0]["SecretID"]] == list(engine.secrets)
    assert [container["Configs"][0]["ConfigID"]] == list(engine.configs)
    assert (await essaim("stack", "rm", "shop")).out.splitlines() == ["Removing service shop_web"]
    assert len(engine.secrets) == len(engine.configs) == 1


async def test_stack_deploy_dry_run_names_the_fields_that_would_change(
    stack_file: str, essaim: Any, engine: Any
) -> None:
    await essaim("stack", "deploy", "-c", stack_file, "shop")
    path = Path(stack_file)
    text = path.read_text().replace("replicas: 2", "replicas: 4").replace("redis:7", "redis:8")
    await asyncio.to_thread(path.write_text, text.replace("secrets: [key]", "environment: {A: b}"))
    engine.requests.clear()
    done = await essaim("stack", "deploy", "--prune", "--dry-run", "-c", stack_file, "shop")
    assert [line for line in done.out.splitlines() if "ContainerSpec.Secrets: -" not in line] == [
        "unchanged  network shop_webnet",
        "unchanged  network shop_default",
        "verify     secret shop_key",
        "update     service shop_web",
        "             Mode.Replicated.Replicas: 2 -> 4",
        "             TaskTemplate.ContainerSpec.Env: +A=b",
        "update     service shop_db",
        "             Labels.com.docker.stack.image: redis:7 -> redis:8",
        "             TaskTemplate.ContainerSpec.Image: redis:7 -> redis:8",
        "Plan: 2 to update.",
    ]
    assert sent(engine, "POST") == []


async def test_stack_config_can_leave_variables_as_they_are(essaim: Any) -> None:
    text = "services:\n  web:\n    image: ${IMAGE:-nginx}:1\n    user: $$USER\n"
    done = await essaim("stack", "config", "--skip-interpolation", "-c", "-", stdin=text)
    assert done.code == 0, done.err
    assert "image: ${IMAGE:-nginx}:1" in done.out
    assert "user: $$USER" in done.out


async def test_stack_deploy_says_what_has_no_effect_with_its_place(essaim: Any, engine: Any) -> None:
    text = "services:\n  web:\n    image: x\n    build: .\n"
    done = await essaim("stack", "deploy", "-c", "-", "shop", stdin=text)
    assert done.code == 0
    assert done.err.startswith("stdin:4:5: services.web.build: has no effect: Images are not built here")


async def test_stack_deploy_waits_for_what_is_depended_on_and_shows_how_far_it_is(essaim: Any, engine: Any) -> None:
    text = """
services:
  web: {image: x, depends_on: {db: {condition: service_healthy}}}
  db: {image: y, deploy: {replicas: 2}}
"""
    done = await essaim("stack", "deploy", "-c", "-", "shop", stdin=text)
    assert done.code == 0, done.err
    assert done.out.splitlines() == [
        "Creating network shop_default",
        "Creating service shop_db",
        "Waiting for service shop_db (healthy)",
        "shop_db: overall progress: 2 out of 2 tasks",
        "Creating service shop_web",
    ]
    engine.task_state = lambda service: "starting"
    slow = await essaim("stack", "deploy", "--wait-timeout", "3s", "-c", "-", "other", stdin=text)
    assert slow.code == 1
    assert "did not get there within 3 s" in slow.err
    assert slow.err.endswith("\nNot deployed: other_web\n")
    assert "other_web" not in [item["Spec"]["Name"] for item in engine.services.values()]
