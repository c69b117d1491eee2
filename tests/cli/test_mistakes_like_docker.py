"""Wrong command lines get docker's message and exit code."""

import shlex
from typing import Any

import pytest

CREATE = "service create -d --no-resolve-image --name web2"
UPDATE = "service update -d"
MISTAKES = [
    f"{CREATE} --label =x busybox",
    f"{CREATE} --ulimit x=1 busybox",
    f"{CREATE} --placement-pref x=1 busybox",
    f"{CREATE} --placement-pref x busybox",
    f"{CREATE} --secret a=b,c=d busybox",
    f"{CREATE} --network a=b busybox",
    f"{CREATE} --dns x busybox",
    f"{CREATE} --host x busybox",
    f"{CREATE} --publish target=x busybox",
    f"{CREATE} --publish published=80 busybox",
    f"{CREATE} --publish 80:80:80:80 busybox",
    f"{CREATE} --publish 80/foo busybox",
    f"{CREATE} --publish 99999 busybox",
    f"{CREATE} --publish foo busybox",
    f"{CREATE} --publish x:80 busybox",
    f"{CREATE} --publish 80-81:80-83 busybox",
    f"{CREATE} --mode x busybox",
    f"{CREATE} --limit-cpu x busybox",
    f"{CREATE} --limit-cpu 0.0000000001 busybox",
    f"{CREATE} --limit-memory 1x busybox",
    f"{CREATE} --restart-delay x busybox",
    f"{CREATE} --restart-delay 5 busybox",
    f"{CREATE} --restart-delay 5y busybox",
    f"{CREATE} --restart-max-attempts -1 busybox",
    f"{CREATE} --update-max-failure-ratio x busybox",
    f"{CREATE} --no-healthcheck --health-cmd true busybox",
    f"{CREATE} --env =x busybox",
    f"{CREATE} --env-file /nonexistent busybox",
    f"{CREATE} --generic-resource gpu busybox",
    f"{CREATE} --tty=maybe busybox",
    f"{CREATE} --max-concurrent 1 busybox",
    f"{CREATE} --mode global-job --replicas-max-per-node 1 busybox",
    f"{CREATE} --mode global --replicas 1 busybox",
    f"{CREATE} --credential-spec x busybox",
    f"{CREATE} --mount type=volume,target=/x,bind-propagation=shared busybox",
    f"{CREATE} --mount type=volume,foo=/x busybox",
    f"{CREATE} --mount type=tmpfs,target=/x,tmpfs-size=1x busybox",
    f"{CREATE} --mount foo busybox",
    f"{CREATE} --mount type=volume busybox",
    f"{CREATE} --secret source=s1,target=a --secret source=s1,target=a busybox",
    f"{CREATE} --health-retries x busybox",
    f"{CREATE} -p 80 -Zx busybox",
    f"{UPDATE} --publish-rm x web",
    f"{UPDATE} --mount-add x web",
    f"{UPDATE} --rollback --image x web",
    f"{UPDATE} --mode x web",
    f"{UPDATE} --network-rm nosuch web",
    f"{UPDATE} web web2",
    f"{UPDATE}",
    "node update --label-rm nokey vm",
    "node update",
    "swarm init --availability x",
    "swarm join-token foo",
    "swarm join-token",
    "stack ps",
    "stack deploy",
    "service ls -f x",
    "service ls --filter",
    "service logs --since foo web",
    "service logs a b",
    "secret create",
    "secret create a b c",
    "secret create a /nonexistent",
    "config create a",
    "network create --ip-range 10.0.0.0/24 x",
    "network create --gateway 10.0.0.1 x",
    "service nosuch",
    "nosuch",
]


@pytest.mark.parametrize("line", MISTAKES)
async def test_mistake_gets_docker_s_words_and_exit_code(line: str, engine: Any, essaim: Any, docker: Any) -> None:
    await essaim("secret", "create", "s1", "-", stdin="x")
    await essaim("service", "create", "-d", "--no-resolve-image", "--name", "web", "nginx:1")
    theirs, ours = await docker(*shlex.split(line)), await essaim(*shlex.split(line))
    assert ours.err == theirs.err.replace("docker", "essaim")
    assert (ours.code, ours.out) == (theirs.code, theirs.out)
