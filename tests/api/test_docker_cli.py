"""The stock `docker` client drives the cluster: exit codes and output as against a real swarm."""

import json
import time
from typing import Any

import pytest

from tests.api import docker_cli
from tests.api.conftest import Served

pytestmark = [pytest.mark.timeout(180), pytest.mark.root, pytest.mark.blocking_allowed]

Step = tuple[str, int, str]


async def docker(served: Served, line: str, code: int = 0, text: bytes | None = None) -> str:
    config = served.socket.parent / "cli"
    return await docker_cli.docker(f"unix://{served.socket}", config, *line.split(), text=text, code=code)


async def run(served: Served, steps: list[Step]) -> None:
    for line, code, expected in steps:
        shown = await docker(served, line, code)
        assert expected in shown, (line, shown)


async def test_client_outside_a_swarm_and_through_its_life(outside: Served) -> None:
    await run(
        outside,
        [
            ("version", 0, "essaim"),
            ("node ls", 1, 'Use "docker swarm init" or "docker swarm join" to connect this node to swarm'),
            ("network create -d overlay x", 1, "This node is not a swarm manager."),
            ("swarm leave", 1, "This node is not part of a swarm"),
            ("swarm join --token bad 127.0.0.1:2377", 1, "invalid join token"),
            ("swarm init --advertise-addr 127.0.0.1", 0, "docker swarm join --token SWMTKN-1-"),
            ("swarm init --advertise-addr 127.0.0.1", 1, "This node is already part of a swarm."),
            ("info", 0, "Is Manager: true"),
            ("swarm join-token worker", 0, "docker swarm join --token SWMTKN-1-"),
            ("swarm join-token -q manager", 0, "SWMTKN-1-"),
            ("swarm join-token --rotate worker", 0, "Successfully rotated worker join token."),
            ("swarm update --task-history-limit 3 --dispatcher-heartbeat 6s", 0, "Swarm updated."),
            ("swarm unlock-key -q", 1, "no unlock key is set"),
            ("node ls", 0, "Leader"),
            ("node ls --filter role=manager --filter name=vm", 0, "Ready"),
            ("node inspect --pretty self", 0, "Raft Status:\t\tReachable"),
            ("node update --label-add zone=a --label-add r=1 vm", 0, "vm"),
            ("node update --availability drain vm", 0, "vm"),
            ("node promote vm", 0, "is already a manager."),
            ("node demote vm", 1, "attempting to demote the last manager of the swarm"),
            ("node ps", 0, "ID"),
            ("node rm vm", 1, "It must be demoted to worker before removal"),
            ("node inspect nosuch", 1, "node nosuch not found"),
            ("swarm leave", 1, "Removing the last manager erases all current state of the swarm."),
            ("swarm leave --force", 0, "Node left the swarm."),
        ],
    )


async def test_client_manages_services(scheduled: Served) -> None:
    await run(
        scheduled,
        [
            ("service create -d --name web --replicas 2 --publish 8080:80 --label l1=a --env E=1 bb:1 sleep 9", 0, ""),
            (
                "service create -d --name web bb:1",
                1,
                "name conflicts with an existing object: service web already exists",
            ),
            ("service create -d --name -x bb:1", 1, "name must be valid as a DNS name component"),
            (
                "service create -d --name pc2 --publish 8080:80 bb:1",
                1,
                "port '8080' is already in use by service 'web'",
            ),
            ("service create -d --name nn --network nosuch bb:1", 1, "network nosuch not found"),
            ("service create -d --name ns --secret nosuch bb:1", 1, "secret not found: nosuch"),
            ("service create -d --name glob --mode global bb:1", 0, ""),
            ("service ls", 0, "*:8080->80/tcp"),
            ("service ls --filter name=we --filter label=l1=a --filter mode=replicated", 0, "2/2"),
            ("service inspect --pretty web", 0, "Service Mode:\tReplicated\n Replicas:\t2"),
            ("service inspect nosuch", 1, "no such service: nosuch"),
            ("service ps nosuch", 1, "no such service: nosuch"),
            ("service ps web", 0, "web.2"),
            ("service ps web --filter name=web.1 --filter desired-state=running", 0, "web.1"),
            ("service ps -q web glob", 0, ""),
            ("service scale -d web=3", 0, "web scaled to 3"),
            ("service scale -d glob=2", 1, "scale can only be used with replicated"),
            ("service scale -d nosuch=2", 1, "nosuch"),
            ("service update -d --image bb:2 --env-add B=2 web", 0, "web"),
            ("service rollback -d web", 0, "web"),
            ("service rollback -d glob", 1, "does not have a previous spec"),
            ("service update -d --force web", 0, "web"),
            ("service update -d --publish-add 8081:81 --publish-rm 80 web", 0, "web"),
            ("service update -d --limit-memory 64M --constraint-add node.labels.zone==a web", 0, "web"),
            ("service logs nosuch", 1, "no such task or service: nosuch"),
            ("service rm web nosuch", 1, "service nosuch not found"),
        ],
    )


async def test_client_waits_until_a_service_has_converged(scheduled: Served) -> None:
    line = "service create --name web --replicas 2 --update-monitor 1ms bb:1 sleep 9"
    assert "converged" in await docker(scheduled, line)
    assert "converged" in await docker(scheduled, "service update --env-add A=1 web")


async def test_client_manages_secrets_configs_and_networks(served: Served) -> None:
    await docker(served, "secret create -l a=b extsec -", text=b"hush")
    await docker(served, "config create -l a=b c1 -", text=b"text")
    assert "secret extsec already exists" in await docker(served, "secret create extsec -", 1, text=b"hush")
    await run(
        served,
        [
            ("secret ls --filter name=ext", 0, "extsec"),
            ("secret inspect --pretty extsec", 0, " - a=b"),
            ("secret inspect nosuch", 1, "nosuch"),
            ("config inspect --pretty c1", 0, "Data:\ntext"),
            ("network create -d overlay --attachable --subnet 10.50.0.0/24 --label q=r ov1", 0, ""),
            ("network create -d overlay ov1", 1, "network with name ov1 already exists"),
            ("network ls --filter driver=overlay", 0, "swarm"),
            ("network inspect ov1", 0, '"Subnet": "10.50.0.0/24"'),
            ("network inspect ingress", 0, '"Ingress": true'),
            ("service create -d --name sc --secret extsec --config source=c1,target=/c1 --network ov1 bb:1", 0, ""),
            ("secret rm extsec", 1, "secret 'extsec' is in use by the following service: sc"),
            ("config rm c1", 1, "config 'c1' is in use by the following service: sc"),
            ("network rm ov1", 1, "is in use by service"),
            ("service update -d --secret-rm extsec --network-rm ov1 --config-rm c1 sc", 0, "sc"),
            ("secret rm extsec", 0, "extsec"),
            ("config rm c1 nosuch", 1, "config nosuch not found"),
            ("network rm ov1", 0, "ov1"),
            ("ps", 1, "needs a Docker Engine"),
        ],
    )


STACK = """
services:
  web:
    image: bb:1
    ports: ["4000:80"]
    networks: [front]
    secrets: [sec1]
    deploy: {replicas: 2, restart_policy: {condition: on-failure}, resources: {limits: {memory: 50M}}}
  glob: {image: bb:1, deploy: {mode: global}}
networks: {front: {}}
secrets: {sec1: {file: ./s1.txt}}
"""


async def test_client_deploys_redeploys_and_removes_a_stack(scheduled: Served) -> None:
    folder = scheduled.socket.parent
    (folder / "s1.txt").write_text("secret1")
    (folder / "c.yml").write_text("version: '3.8'\n" + STACK)
    deploy = f"stack deploy -c {folder}/c.yml stk"
    # Newer clients wait unless told not to, and older ones do not know the word.
    shown = await docker_cli.docker(
        f"unix://{scheduled.socket}", folder / "cli", *deploy.split(), "--detach=true", code=None
    )
    if "unknown flag" in shown:
        shown = await docker(scheduled, deploy)
    assert "Creating service stk_web" in shown
    before = await scheduled.call("GET", "/services/stk_web")
    assert "stk" in await docker(scheduled, "stack ls")
    assert "stk_web.1" in await docker(scheduled, "stack ps stk")
    assert "*:4000->80/tcp" in await docker(scheduled, "stack services stk")
    manager = scheduled.node.manager
    assert manager is not None
    service = manager.store.services.named("stk_web")
    assert service is not None
    await docker_cli.docker(f"unix://{scheduled.socket}", folder / "cli", *deploy.split(), "--detach=true", code=None)
    again = manager.store.services.named("stk_web")
    assert again is not None
    assert again.version.index > before["Version"]["Index"]
    assert again.spec_version == service.spec_version, "an unchanged redeploy must not start new tasks"
    assert "Removing service stk_web" in await docker(scheduled, "stack rm stk")
    assert [n["Name"] for n in await scheduled.call("GET", "/networks")] == ["ingress"]


async def test_client_prints_json_of_the_same_fields(scheduled: Served) -> None:
    await docker(scheduled, "service create -d --name web bb:1")

    async def fields(line: str) -> Any:
        shown = await docker(scheduled, line)
        return json.loads(shown.splitlines()[0])

    assert (await fields("service ls --format json"))["Mode"] == "replicated"
    assert (await fields("node ls --format json"))["ManagerStatus"] == "Leader"


async def test_client_shows_logs_and_events(scheduled: Served) -> None:
    await docker(scheduled, "service create -d --name web bb:1")
    manager = scheduled.node.manager
    assert manager is not None
    with manager.store.watch("tasks") as watch:
        while not len(manager.store.tasks):
            await watch.next()
    task = next(iter(manager.store.tasks)).id
    scheduled.node.logs[task] = [(1, b"line 0\n"), (2, b"err 0\n")]
    shown = await docker(scheduled, "service logs web")
    assert "web.1." in shown
    assert "@vm" in shown
    assert "line 0" in shown
    assert await docker(scheduled, "service logs --raw web") == "line 0\nerr 0\n"
    assert "@vm" in await docker(scheduled, f"service logs {task}")
    until = int(time.time()) + 1
    assert "service create" in await docker(scheduled, f"events --since 10m --until {until} --filter type=service")
