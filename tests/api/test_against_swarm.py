"""The same commands against essaim and against a real Docker Swarm print the same, ids and times masked.

Once on one manager with the store in memory, once spread over three managers of which the leader is killed half-way.

No task is started: services ask for a node that does not exist, so that only the API's part is compared.
"""

import asyncio
import difflib
import re
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.api import docker_cli
from tests.api.conftest import Served
from tests.lab.lab import Lab

pytestmark = [pytest.mark.timeout(300), pytest.mark.lab, pytest.mark.blocking_allowed]
LAB_HOSTS = 1

ALLOCATED_WITHIN = 3.0
IDLE = "--constraint node.labels.absent==1"
EVERYTHING = """
--replicas 2 --cap-add NET_ADMIN --cap-drop CHOWN --container-label c=d --dns 1.1.1.1 --dns-option ndots:2
--dns-search example.test --entrypoint /x --env A=1 --generic-resource gpu=1 --group 5 --health-cmd true
--health-interval 5s --health-retries 3 --health-start-period 1s --health-timeout 2s --host a:1.2.3.4 --hostname h
--init --isolation default --limit-cpu .5 --limit-memory 64M --limit-pids 100 --log-driver json-file
--log-opt max-size=1m --mount type=volume,source=v,target=/v,volume-label=a=b --mount type=bind,source=/a,target=/b,ro
--mount type=tmpfs,target=/t,tmpfs-size=1000000,tmpfs-mode=1777 --placement-pref spread=node.labels.zone
--publish mode=host,target=82,published=8082 --publish published=8083,target=83,protocol=udp --read-only
--replicas-max-per-node 1 --reserve-cpu .1 --reserve-memory 8M --restart-condition on-failure --restart-delay 1s
--restart-max-attempts 3 --restart-window 5s --rollback-delay 1s --rollback-failure-action continue
--rollback-max-failure-ratio .1 --rollback-monitor 2s --rollback-order start-first --rollback-parallelism 3
--stop-grace-period 3s --stop-signal SIGINT --sysctl net.core.somaxconn=1 --tty --ulimit nofile=10:20
--update-delay 1s --update-failure-action rollback --update-max-failure-ratio .2 --update-monitor 3s
--update-order start-first --update-parallelism 4 --user 1 --workdir /w
""".replace("\n", " ")
COMMANDS = f"""
swarm init --advertise-addr 127.0.0.1
swarm init --advertise-addr 127.0.0.1
swarm join --token bad 127.0.0.1:2377
swarm join-token worker
swarm join-token -q manager
swarm join-token --rotate worker
swarm update --task-history-limit 3 --dispatcher-heartbeat 6s
node ls -q
node ls --filter role=manager --format {{{{.Status}}}}/{{{{.Availability}}}}/{{{{.ManagerStatus}}}}
node inspect nosuch
node rm nosuch
node rm -f self
node demote self
node promote self
node update --availability sleeping self
node ps
service ls
service create -d --no-resolve-image --name web --replicas 2 --publish 8080:80 --label l1=a {IDLE} bb:1 sleep 1000
service create -d --no-resolve-image --name web bb:1
service create -d --no-resolve-image --name -x bb:1
service create -d --no-resolve-image --name {"x" * 64} bb:1
service create -d --no-resolve-image --name pc2 --publish 8080:80 bb:1
service create -d --no-resolve-image --name pc2 --publish mode=host,target=80,published=8080 bb:1
service create -d --no-resolve-image --name pc2 --endpoint-mode dnsrr --publish 80:80 bb:1
service create -d --no-resolve-image --name nn --network nosuch bb:1
service create -d --no-resolve-image --name ns --secret nosuch bb:1
service create -d --no-resolve-image --name mem --limit-memory 1M bb:1
service create -d --no-resolve-image --name cpu --limit-cpu 0.0001 bb:1
service create -d --no-resolve-image --name con --constraint node.role bb:1
service create -d --no-resolve-image --name con --constraint node.role==a==b bb:1
service create -d --no-resolve-image --name img UPPER:1
service create -d --no-resolve-image --name upd --update-max-failure-ratio 2 bb:1
service create -d --no-resolve-image --name upd --update-order sideways bb:1
service create -d --no-resolve-image --name upd --update-delay -1s bb:1
service create -d --no-resolve-image --name res --restart-delay -1s bb:1
service create -d --no-resolve-image --name hc --health-cmd true --health-interval 1us bb:1
service create -d --no-resolve-image --name mnt --mount type=tmpfs,target=/x --mount type=tmpfs,target=/x bb:1
service create -d --no-resolve-image --name res --restart-condition sometimes bb:1
service create -d --no-resolve-image --name tpl --env X={{{{.Foo}}}} bb:1
service create -d --no-resolve-image --name tpl --env X={{{{.Task.Slot bb:1
service create -d --no-resolve-image --name tpl --env A={{{{.Task.Slot}}}} --hostname {{{{.Node.Name}}}} bb:1
service create -d --no-resolve-image --name tpl --mount type=volume,source={{{{foo}}}},target=/x BAD:1
service create -d --no-resolve-image --name tpl --mount type=volume,source=a,target=/x/{{{{.Task}}}}{{{{}}}} bb:1
service create -d --no-resolve-image --name tpl --mount type=volume,target=/x,volume-label=k={{{{.Foo}}}} bb:1
service create -d --no-resolve-image --name hst --publish mode=host,target=80,published=9000 --replicas 0 bb:1
service create -d --no-resolve-image --name hs2 --publish mode=host,target=80,published=9000 --replicas 0 bb:1
service rm hs2
service create -d --no-resolve-image --name hs3 --publish published=9000,target=80 bb:1
service create -d --no-resolve-image --name hs4 --publish 9001:80 --publish 9001:81 bb:1
service create -d --no-resolve-image --name udp --publish published=9000,target=80,protocol=udp --replicas 0 bb:1
service create -d --no-resolve-image --name dig --replicas 0 reg.test:5000/a/b:1@sha256:{"ab" * 32}
service create -d --no-resolve-image --name all {IDLE} {EVERYTHING} bb:1 run
service inspect all
service inspect --pretty all
service update -d --env-rm A --dns-rm 1.1.1.1 --cap-add SYS_TIME --mount-rm /t --ulimit-rm nofile --tty=false all
service update -d --container-label-rm c --host-rm a:1.2.3.4 --user= --workdir= --publish-rm 82 --label-add z=y all
service inspect all
service create -d --no-resolve-image --name job --mode replicated-job --replicas 2 {IDLE} bb:1 true
service create -d --no-resolve-image --name glob --mode global --cap-add NET_ADMIN --env A=1 --init {IDLE} bb:1
service ls
service ls --filter mode=global
service ls --filter nonsense=1
service inspect --pretty web
service inspect web
service inspect glob
service inspect job
service inspect nosuch
service ps nosuch
service scale -d web=3
service scale -d glob=2
service scale -d nosuch=2
service update -d --env-add B=2 --limit-memory 64M --update-parallelism 2 web
service inspect web
service rollback -d web
service update -d --publish-add 8081:81 web
service rollback -d glob
service logs nosuch
secret create -l a=b extsec FILE
secret create extsec FILE
secret create -x- FILE
secret create {"x" * 65} FILE
secret ls --filter name=ext --format {{{{.Name}}}}
secret inspect extsec
secret inspect nosuch
config create -l a=b c1 FILE
config create c1 FILE
config inspect c1
config inspect --pretty nosuch
network create -d overlay --attachable --subnet 10.50.0.0/24 --label q=r ov1
network create -d overlay ov1
network inspect ov1
network inspect nosuch
network ls --filter driver=overlay --format {{{{.Name}}}}/{{{{.Scope}}}}
service create -d --no-resolve-image --name sc --secret extsec --config source=c1,target=/c1 --network ov1 {IDLE} bb:1
service create -d --no-resolve-image --name sd --secret extsec --secret source=extsec bb:1
service inspect sc
secret rm extsec
config rm c1
network rm ov1
service update -d --secret-rm extsec --network-rm ov1 --config-rm c1 sc
service rm sc nosuch
secret rm extsec nosuch
config rm c1
stack ls
stack deploy -c STACK stk
stack ls
stack services stk
stack services --filter mode=global stk
service inspect stk_web
stack deploy -c STACK stk
stack rm stk
stack ps stk2
swarm leave
swarm leave --force
swarm leave --force
node ls
"""
STACK = """version: '3.8'
services:
  web:
    image: bb:1
    environment: {A: '1'}
    ports: ['4000:80']
    networks: [front]
    secrets: [sec1]
    deploy:
      replicas: 2
      restart_policy: {condition: on-failure, delay: 5s, max_attempts: 3}
      resources: {limits: {cpus: '0.1', memory: 50M}}
      placement: {constraints: [node.labels.absent==1]}
      update_config: {parallelism: 2}
  glob: {image: bb:1, deploy: {mode: global, placement: {constraints: [node.labels.absent==1]}}}
networks: {front: {}}
secrets: {sec1: {file: ./text}}
"""
MASKS = [
    (r"SWMTKN-1-[0-9a-z]{50}-[0-9a-z]{25}", "TOKEN"),
    (r"\b[0-9a-z]{25}\b", "ID"),
    (r"\b[0-9a-z]{12}\b", "ID12"),
    (r"\d{4}-\d\d-\d\dT[0-9:.]+Z", "TIME"),
    (r'"Index": \d+', '"Index": N'),
    (r"(About|Less than) a \w+ ago|\d+ \w+ ago", "AGO"),
    (r"/[^ ]*/(text|stack.yml)", r"\1"),
]
# What differs for a known reason, cut from both.
CUTS = [
    r'\n *"VirtualIPs": \[[^\]]*\],?',  # the leader's loops give them; none runs here
    r'\n *"com.docker.network.driver.overlay.vxlanid_list": "[^"]*",?',
    r'\n *"EnableIPv4": true,',  # newer than this Engine
    r'\n *"Peers": \[[^\]]*\],?',
    r',?\n *"UpdateStatus": \{[^}]*\}',  # the scheduler's part
    r"image bb:1 could not be accessed on a registry to record\n[^\n]*\n[^\n]*\n[^\n]*\n\n",  # here it has no Engine
]


@dataclass
class Swarm:
    """One side of the comparison."""

    host: str
    folder: Path
    names: dict[str, str] = field(default_factory=dict)

    async def run(self, line: str) -> str:
        words = [
            {"FILE": str(self.folder / "text"), "STACK": str(self.folder / "stack.yml")}.get(w, w) for w in line.split()
        ]
        if words[:2] == ["stack", "deploy"]:
            words.insert(2, "--detach=true")
        shown = self.mask(await docker_cli.docker(self.host, self.folder / "cli", *words, code=None))
        assert "Cannot connect to the Docker daemon" not in shown, (self.host, line)
        # The client walks over a stack's parts in the order of a Go map, which is none.
        return "\n".join(sorted(shown.splitlines())) if words[0] == "stack" else shown

    def mask(self, text: str) -> str:
        for name, masked in self.names.items():
            text = text.replace(name, masked)
        for pattern, masked in MASKS:
            text = re.sub(pattern, masked, text)
        for pattern in CUTS:
            text = re.sub(pattern, "", text)
        text = re.sub(r",(\s*[}\]])", r"\1", text)
        return re.sub(r"\{\s*\}", "{}", re.sub(r" +\n", "\n", re.sub(r"[ \t]+", " ", text)))


async def test_commands_print_what_a_real_swarm_prints(outside: Served, lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hush")
    (tmp_path / "stack.yml").write_text(STACK)
    real = Swarm(lab.hosts[0].engine_url, tmp_path)
    ours = Swarm(f"unix://{outside.socket}", tmp_path)
    assert not await differences([real], [ours], COMMANDS.strip().splitlines())


async def differences(real: list[Swarm], ours: list[Swarm], lines: list[str], first: int = 0) -> str:
    """What is not the same; each command goes to the next manager of both sides, beginning with the `first`."""
    found = []
    for number, line in enumerate(lines, first):
        manager = number % len(real)
        expected, got = await asyncio.gather(real[manager].run(line), ours[manager].run(line))
        until = time.monotonic() + ALLOCATED_WITHIN
        while expected != got and line.startswith("service inspect") and time.monotonic() < until:
            # A swarm's allocator fills in the published ports after the service has been created.
            expected = await real[manager].run(line)
        if expected != got:
            unlike = difflib.unified_diff(expected.splitlines(), got.splitlines(), "swarm", "essaim", line, line, 4, "")
            found.append("\n".join(unlike))
    return "\n".join(found)
