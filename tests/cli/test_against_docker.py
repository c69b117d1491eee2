"""What `essaim` prints is what `docker` prints, on the same Engine."""

import re
from typing import Any

import pytest

STACK = "com.docker.stack.namespace=shop"
TIMES = re.compile(r"(About an? \w+|Less than a second|\d+ \w+) ago")


async def populate(engine: Any, essaim: Any) -> None:
    """Services, tasks with history, secrets, configs and networks."""
    engine.digests["redis:7"] = "sha256:" + "a" * 64
    for line in (
        "network create -d overlay front",
        "service create -d --no-resolve-image --name web --replicas 2 -p 8080:80 -p 8081:81 -l " + STACK + " nginx:1",
        "service create -d --no-resolve-image --name glob --mode global docker.io/library/busybox@sha256:" + "b" * 64,
        "service create -d --no-resolve-image --name job --mode replicated-job --replicas 3 busybox true",
        "service create -d --name cache10 --network front --replicas-max-per-node 2 redis:7",
        "service create -d --no-resolve-image --name cache9 registry.example:5000/team/redis:7 redis-server --port 1",
    ):
        result = await essaim(*line.split())
        assert result.code == 0, result
    web = next(item for item in engine.services.values() if item["Spec"]["Name"] == "web")
    engine.add_task(
        web,
        1,
        "c6vzvm82qhkuxp53ramhmgmop",
        "failed",
        desired="shutdown",
        created="2024-01-31T11:00:00Z",
        err="task: non-zero exit (137): and a long explanation of it",
        image="nginx:0@sha256:" + "c" * 64,
    )
    await essaim("secret", "create", "-l", "a=b", "key", "-", stdin="x")
    await essaim("config", "create", "-l", "a=b", "-l", "c", "conf", "-", stdin="hello\n")
    await essaim("secret", "create", "bare", "-", stdin="x")
    await essaim("config", "create", "bare", "-", stdin="no newline")
    await essaim("node", "update", "--label-add", "zone=a", "vm")


def masked(text: str) -> str:
    return re.sub(r" +", " ", TIMES.sub("T", text)) if TIMES.search(text) else text


SAME = [
    ["node", "ls"],
    ["node", "ls", "-q"],
    ["node", "ls", "--format", "json"],
    ["node", "ls", "--format", "table {{.ID}}\t{{.Hostname}}\t{{.TLSStatus}}"],
    ["node", "ls", "--filter", "role=worker"],
    ["node", "ls", "--filter", "nosuch=1"],
    ["node", "inspect", "self"],
    ["node", "inspect", "vm", "nosuch"],
    ["node", "inspect", "--pretty", "vm"],
    ["node", "inspect", "--pretty", "wk"],
    ["node", "inspect", "-f", "{{.Status.State}} {{json .Spec}}", "vm"],
    ["node", "ps"],
    ["node", "ps", "vm", "--no-trunc"],
    ["node", "ps", "nosuch"],
    ["service", "ls"],
    ["service", "ls", "-q"],
    ["service", "ls", "--format", "json"],
    ["service", "ls", "--format", "{{.Name}}: {{.Image}}"],
    ["service", "ls", "--format", "table {{.Name}}\\t{{upper .Mode}}"],
    ["service", "ls", "--format", "raw"],
    ["service", "ls", "--filter", "name=web"],
    ["service", "ls", "--filter", "x=1"],
    ["service", "inspect", "web"],
    ["service", "inspect", "nosuch", "web"],
    ["service", "inspect", "-f", "{{.Spec.Name}} {{.Version.Index}}", "web"],
    ["service", "inspect", "-f", "{{.UpdateStatus}}", "web"],
    ["service", "inspect", "-f", "{{range .Endpoint.Ports}}{{.PublishedPort}} {{end}}", "web"],
    ["service", "inspect", "-f", "json", "web"],
    ["service", "inspect", "--pretty", "web"],
    ["service", "inspect", "--pretty", "job"],
    ["service", "inspect", "--pretty", "glob"],
    ["service", "inspect", "--pretty", "cache10"],
    ["service", "ps", "web"],
    ["service", "ps", "web", "glob"],
    ["service", "ps", "-q", "web"],
    ["service", "ps", "--no-trunc", "web"],
    ["service", "ps", "--no-resolve", "web"],
    ["service", "ps", "nosuch"],
    ["service", "ps", "web", "nosuch"],
    ["service", "ps", "--format", "json", "web"],
    ["service", "ps", "--format", "{{.Name}} {{.Node}}", "web"],
    ["service", "scale", "web"],
    ["service", "scale", "web=x"],
    ["service", "scale", "-d", "nosuch=2"],
    ["service", "scale", "-d", "glob=2"],
    ["service", "scale", "-d", "web=2", "nosuch=1"],
    ["service", "rm", "nosuch", "nosuch2"],
    ["service", "rollback", "-d", "glob"],
    ["service", "create", "--name", "ns", "--secret", "nosuch", "busybox"],
    ["service", "create", "--name", "nn", "--network", "nosuch", "busybox"],
    ["service", "create", "--no-resolve-image", "-d", "--name", "web", "busybox"],
    ["service", "create", "--replicas", "x", "busybox"],
    ["service", "create", "--mode", "global", "--replicas", "3", "busybox"],
    ["service", "update", "-d", "nosuch"],
    ["service", "logs", "nosuch"],
    ["stack", "ls"],
    ["stack", "ls", "--format", "json"],
    ["stack", "ps", "shop"],
    ["stack", "ps", "nosuch"],
    ["stack", "services", "shop"],
    ["stack", "services", "nosuch"],
    ["stack", "services", "-q", "shop"],
    ["stack", "rm", "nosuch"],
    ["secret", "ls"],
    ["secret", "ls", "-q"],
    ["secret", "ls", "--format", "{{.Name}} {{.Labels}}"],
    ["secret", "inspect", "key"],
    ["secret", "inspect", "--pretty", "key"],
    ["secret", "inspect", "--pretty", "bare"],
    ["config", "inspect", "--pretty", "bare"],
    ["secret", "inspect", "nosuch"],
    ["secret", "rm", "nosuch"],
    ["config", "ls"],
    ["config", "inspect", "conf"],
    ["config", "inspect", "--pretty", "conf"],
    ["config", "create", "conf", "/nonexistent"],
    ["network", "ls"],
    ["network", "ls", "--no-trunc"],
    ["network", "ls", "-q"],
    ["network", "ls", "--format", "json"],
    ["network", "inspect", "front"],
    ["network", "inspect", "nosuch"],
    ["swarm", "join-token", "worker"],
    ["swarm", "join-token", "-q", "manager"],
    ["swarm", "init"],
    ["swarm", "ca"],
    ["swarm", "join", "--token", "bad", "10.0.0.1:2377"],
    ["swarm", "unlock-key", "-q"],
    ["service", "ls", "x"],
    ["service", "ls", "--foo"],
    ["service", "ls", "-Z"],
    ["service", "create"],
    ["service", "create", "--name"],
    ["swarm", "join"],
    ["node", "update", "--availability", "x"],
]


def renamed(text: str) -> str:
    """docker's words with our names."""
    return (
        text.replace("docker.io", "@IO@").replace("com.docker", "@COM@").replace("docker", "essaim")
        .replace("@IO@", "docker.io").replace("@COM@", "com.docker")
    )  # fmt: skip


@pytest.mark.parametrize("argv", SAME, ids=" ".join)
async def test_command_prints_what_docker_prints(argv: list[str], engine: Any, essaim: Any, docker: Any) -> None:
    await populate(engine, essaim)
    theirs = await docker(*argv)
    ours = await essaim(*argv)
    assert masked(renamed(ours.out)) == masked(renamed(theirs.out))
    assert renamed(ours.err) == renamed(theirs.err)
    assert ours.code == theirs.code
