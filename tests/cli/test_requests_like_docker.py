"""What `essaim` sends is what `docker` sends: same requests, same bodies."""

import copy
import shlex
from typing import Any

import pytest

DIGEST = "sha256:" + "d" * 64


MEANINGLESS = [("CheckDuplicate", True), ("DriverConfig", {})]


def clean(value: Any) -> Any:
    """JSON without what means nothing: null, and empty lists and maps in place of absent ones."""
    if isinstance(value, dict):
        found = {key: clean(item) for key, item in value.items()}
        for key in ("Env", "Secrets", "Configs"):  # docker shuffles them
            if isinstance(found.get(key), list):
                found[key].sort(key=str)
        empty = (None, [], "")
        return {key: item for key, item in found.items() if item not in empty and (key, item) not in MEANINGLESS}
    if isinstance(value, list):
        return [clean(item) for item in value]
    return value


def changes(engine: Any) -> list[tuple[Any, ...]]:
    """What was asked to change."""
    return [
        (item.method, item.path, {key: value for key, value in item.query.items() if value}, clean(item.body))
        for item in engine.requests
        if item.method != "GET"
    ]


def differences(ours: Any, theirs: Any, path: str = "") -> list[str]:
    """Where two JSON values differ."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        keys = sorted({*ours, *theirs})
        return [line for key in keys for line in differences(ours.get(key), theirs.get(key), f"{path}.{key}")]
    if isinstance(ours, list | tuple) and isinstance(theirs, list | tuple) and len(ours) == len(theirs):
        pairs = enumerate(zip(ours, theirs, strict=True))
        return [line for place, (one, two) in pairs for line in differences(one, two, f"{path}[{place}]")]
    return [] if ours == theirs else [f"{path}: {ours!r} where docker has {theirs!r}"]


WEB = (
    "service create -d --no-resolve-image --name web --replicas 2 -p 8080:80 -p 81 -e A=1 -e B=2 -l l1=a -l l2=b"
    " --container-label x=y --secret s1 --config c1 --network front --mount type=volume,source=v,target=/v"
    " --constraint node.role==manager --placement-pref spread=node.labels.z --dns 1.1.1.1 --dns-search a.b"
    " --host h:1.2.3.4 --group g1 --sysctl a=b --ulimit nofile=1:2 --cap-add NET_ADMIN --health-cmd true"
    " --generic-resource gpu=1 --limit-memory 64M --update-parallelism 2 nginx:1 run it"
)
PREPARE = [
    "network create -d overlay front",
    "network create -d overlay back",
    "secret create s1 -",
    "secret create s2 -",
    "config create c1 -",
    WEB,
]
COMMANDS = [
    "service create -d --no-resolve-image busybox",
    "service create -d --no-resolve-image --name a docker.io/library/busybox:1 sh -c 'a b' --flag",
    "service create -d --name a busybox:9",
    "service create -d --name a busybox",
    "service create -d --no-resolve-image --mode global x",
    "service create -d --no-resolve-image --mode replicated-job --replicas 4 --max-concurrent 2 x",
    "service create -d --no-resolve-image --mode global-job x",
    "service create -d --no-resolve-image -e A=1 --env B= -e A=2 x",
    "service create -d --no-resolve-image -l a=1 -l b --container-label c=d x",
    "service create -d --no-resolve-image -p 80:8080/udp -p 90 --publish published=1,target=2,mode=host,protocol=udp x",
    "service create -d --no-resolve-image --mount src=v,dst=/v,ro x",
    "service create -d --no-resolve-image --mount type=bind,src=/a,dst=/b,bind-propagation=shared x",
    "service create -d --no-resolve-image --mount type=tmpfs,dst=/t,tmpfs-size=64m,tmpfs-mode=1770 x",
    "service create -d --no-resolve-image --mount dst=/v,volume-driver=d,volume-opt=a=b,volume-label=l=m x",
    "service create -d --no-resolve-image --mount dst=/v,volume-nocopy x",
    "service create -d --no-resolve-image --mount type=bind,src=/a,dst=/b,bind-recursive=disabled x",
    "service create -d --no-resolve-image --secret s1 --secret source=s2,target=/x/y,uid=1,gid=2,mode=0400 x",
    "service create -d --no-resolve-image --config c1 --config src=c1,target=/e,mode=0440 x",
    "service create -d --no-resolve-image --network front --network name=back,alias=b1,alias=b2,driver-opt=k=v x",
    "service create -d --no-resolve-image --constraint a==b --constraint c!=d --placement-pref spread=node.labels.q x",
    "service create -d --no-resolve-image --replicas 3 --replicas-max-per-node 2 x",
    "service create -d --no-resolve-image --limit-cpu 1.5 --limit-memory 1gb --limit-pids 9 --reserve-cpu 1/2 x",
    "service create -d --no-resolve-image --reserve-memory 100m --generic-resource gpu=2 --generic-resource id=abc x",
    "service create -d --no-resolve-image --restart-condition on-failure x",
    "service create -d --no-resolve-image --restart-delay 2s --restart-max-attempts 3 --restart-window 1m x",
    "service create -d --no-resolve-image --update-delay 1m30s --update-failure-action rollback x",
    "service create -d --no-resolve-image --update-max-failure-ratio .25 --update-order start-first x",
    "service create -d --no-resolve-image --rollback-parallelism 0 --rollback-monitor 10s x",
    "service create -d --no-resolve-image --health-cmd 'curl x' --health-interval 1s --health-retries 3 x",
    "service create -d --no-resolve-image --health-timeout 1s --health-start-period 2s x",
    "service create -d --no-resolve-image --no-healthcheck x",
    "service create -d --no-resolve-image -u 1:2 -w /w --hostname h --init --tty --read-only --stop-signal INT x",
    "service create -d --no-resolve-image --stop-grace-period 1m --entrypoint 'a \"b c\"' --isolation process x",
    "service create -d --no-resolve-image --dns 8.8.8.8 --dns-option ndots:2 --dns-search x.y --host a:1.1.1.1 x",
    "service create -d --no-resolve-image --cap-add ALL --cap-add net_admin --cap-drop CAP_CHOWN x",
    "service create -d --no-resolve-image --sysctl b=c --sysctl a=b x",
    "service create -d --no-resolve-image --ulimit nproc=3 --ulimit nofile=1:2 --group a --group b x",
    "service create -d --no-resolve-image --log-driver syslog --log-opt a=b --log-opt c=d --endpoint-mode dnsrr x",
    "service create -d --no-resolve-image --credential-spec file://x x",
    "service update -d web",
    "service update -d --force web",
    "service update -d --image redis:7 web",
    "service update -d --image redis:7 --no-resolve-image web",
    "service update -d --replicas 5 web",
    "service update -d --args 'x \"y z\"' --entrypoint e web",
    "service update -d --env-add C=3 --env-rm A web",
    "service update -d --env-add A=9 web",
    "service update -d --label-add l3=c --label-rm l1 --container-label-add q=r --container-label-rm x web",
    "service update -d --publish-add 9090:90 --publish-rm 80 web",
    "service update -d --publish-rm 8080:80 web",
    "service update -d --publish-add 8080:80 web",
    "service update -d --secret-add s2 --secret-rm s1 web",
    "service update -d --config-rm c1 web",
    "service update -d --config-add source=c1,target=/other web",
    "service update -d --network-add back --network-rm front web",
    "service update -d --mount-add type=volume,source=w,target=/w --mount-rm /v web",
    "service update -d --mount-add type=bind,source=/a,target=/v web",
    "service update -d --constraint-add a==b --constraint-rm node.role==manager web",
    "service update -d --placement-pref-add spread=node.labels.y --placement-pref-rm spread=node.labels.z web",
    "service update -d --dns-add 9.9.9.9 --dns-rm 1.1.1.1 --dns-search-add q.r --dns-option-add x web",
    "service update -d --host-add k:5.6.7.8 --host-rm h web",
    "service update -d --host-rm h:1.2.3.4 web",
    "service update -d --group-add g2 --group-rm g1 web",
    "service update -d --sysctl-add c=d --sysctl-rm a web",
    "service update -d --ulimit-add nproc=5 --ulimit-rm nofile web",
    "service update -d --cap-drop NET_ADMIN web",
    "service update -d --cap-add SYS_TIME --cap-drop CHOWN web",
    "service update -d --health-interval 3s web",
    "service update -d --health-cmd '' web",
    "service update -d --no-healthcheck web",
    "service update -d --generic-resource-add disk=5 --generic-resource-rm gpu web",
    "service update -d --limit-memory 0 --reserve-cpu 1 web",
    "service update -d --restart-condition none web",
    "service update -d --update-parallelism 0 --update-delay 5s --rollback-order start-first web",
    "service update -d --read-only=false --tty --init=false --user z --workdir /q --hostname n web",
    "service update -d --stop-grace-period 9s --stop-signal TERM --log-driver json-file --log-opt a=b web",
    "service update -d --replicas-max-per-node 4 --endpoint-mode dnsrr web",
    "service update -d --rollback web",
    "service rollback -d web",
    "service scale -d web=7",
    "service rm web",
    "secret create -l a=b --template-driver t new -",
    "secret create -d drv new",
    "secret rm s2 s1",
    "config create -l a=b new -",
    "config rm c1",
    "network create -d overlay --attachable --subnet 10.50.0.0/24 --gateway 10.50.0.1 --label q=r --opt encrypted= new",
    "network create -d overlay --ip-range 10.50.1.0/25 --subnet 10.50.1.0/24 --aux-address a=10.50.1.9 --internal new",
    "network rm back",
    "node update --availability drain --label-add a=b vm",
    "node update --role manager wk",
    "node promote wk",
    "node demote wk",
    "node rm --force wk",
    "swarm join-token --rotate worker",
    "swarm update --task-history-limit 3 --dispatcher-heartbeat 6s --cert-expiry 48h",
    "swarm update --autolock --snapshot-interval 5 --max-snapshots 2",
    "swarm unlock-key -q",
    "swarm leave --force",
    "swarm leave",
]


@pytest.mark.parametrize("line", COMMANDS)
async def test_command_asks_for_the_changes_that_docker_asks_for(
    line: str, engine: Any, other_engine: Any, essaim: Any, docker: Any
) -> None:
    for fake in (engine, other_engine):
        fake.digests["busybox:9"] = fake.digests["busybox:latest"] = DIGEST
    for step in PREPARE:
        done = await essaim(*shlex.split(step), stdin="content")
        assert done.code == 0, (step, done)
    for name in ("networks", "secrets", "configs", "services", "tasks", "version"):
        setattr(other_engine, name, copy.deepcopy(getattr(engine, name)))
    other_engine._random.setstate(engine._random.getstate())
    engine.requests.clear()
    other_engine.requests.clear()
    theirs = await docker(*shlex.split(line), stdin="content", on=other_engine)
    ours = await essaim(*shlex.split(line), stdin="content")
    assert differences(changes(engine), changes(other_engine)) == []
    assert ours.code == theirs.code
    assert ours.out == theirs.out.replace("docker", "essaim")
