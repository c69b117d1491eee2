"""Commands that docker has not, or does otherwise: progress, logs, stacks, the load balancer, errors, completion."""

import asyncio
import io
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from essaim.cli import main
from essaim.cli.app import App, default_host
from essaim.cli.main import execute, root
from essaim.cli.output.lbstatus import status_rows
from essaim.cli.output.lbtop import top_rows
from tests.cli.engine import frame
from tests.cli.samples import NODE_ID


def sent(engine: Any, method: str) -> list[str]:
    return [item.path for item in engine.requests if item.method == method]


# -- convergence ----------------------------------------------------------------------------------------------------


async def test_service_create_waits_and_tells(essaim: Any, engine: Any) -> None:
    done = await essaim("service", "create", "--no-resolve-image", "--name", "web", "--replicas", "2", "nginx")
    key = next(iter(engine.services))
    assert done.out.splitlines() == [
        key,
        "overall progress: 2 out of 2 tasks",
        *(f"verify: Waiting {left} seconds to verify that tasks are stable..." for left in (5, 4, 3, 2, 1)),
        f"verify: Service {key} converged",
    ]
    assert done.code == 0


@pytest.mark.parametrize("flag", ["-d", "--detach", "--detach=true", "-dq"])
async def test_service_create_detached_only_prints_the_id(flag: str, essaim: Any, engine: Any) -> None:
    done = await essaim("service", "create", flag, "--no-resolve-image", "nginx")
    assert done.out == next(iter(engine.services)) + "\n"


async def test_service_update_that_is_paused_fails_with_the_reason(essaim: Any, engine: Any) -> None:
    await essaim("service", "create", "-d", "--no-resolve-image", "--name", "web", "nginx")
    engine.task_state = lambda service: "failed"
    web = next(iter(engine.services.values()))
    web["UpdateStatus"] = {"State": "paused", "Message": "update paused due to failure or early termination of task x"}
    done = await essaim("service", "update", "--env-add", "A=1", "web")
    assert done.code == 1
    assert done.err == "service update paused: update paused due to failure or early termination of task x\n"


async def test_service_scale_of_several_names_each_line(essaim: Any) -> None:
    for name in ("a", "b"):
        await essaim("service", "create", "-d", "--no-resolve-image", "--name", name, "nginx")
    done = await essaim("service", "scale", "a=3", "b=1")
    assert done.out.startswith("a scaled to 3\nb scaled to 1\n")
    assert "a: overall progress: 3 out of 3 tasks\n" in done.out
    assert "b: verify: Service b converged\n" in done.out


async def test_service_rebalance_asks_the_native_api(essaim: Any, engine: Any) -> None:
    await essaim("service", "create", "-d", "--no-resolve-image", "--name", "web", "nginx")
    done = await essaim("service", "rebalance", "-d", "web")
    assert (done.code, done.out) == (0, "web\n")
    assert sent(engine, "POST")[-1] == f"/essaim/v1/services/{next(iter(engine.services))}/rebalance"


async def test_service_create_own_flags_become_labels_and_port_fields(essaim: Any, engine: Any) -> None:
    line = "service create -d --no-resolve-image --mode replicated-job --placement-strategy binpack --rebalance auto"
    await essaim(*line.split(), "--schedule", "0 3 * * *", "-p", "127.0.0.1:80:80", "nginx")
    spec = next(iter(engine.services.values()))["Spec"]
    assert spec["Labels"] == {
        "essaim.placement.strategy": "binpack",
        "essaim.rebalance": "auto",
        "essaim.schedule": "0 3 * * *",
    }
    assert spec["EndpointSpec"]["Ports"][0]["HostIP"] == "127.0.0.1"


async def test_service_options_of_the_engine_are_set_and_taken_back(essaim: Any, engine: Any) -> None:
    line = "--privileged --device /dev/fuse:rw --gpus all --security-opt seccomp=unconfined --shm-size 64m --pid host"
    await essaim("service", "create", "-d", "--no-resolve-image", "--name", "web", *line.split(), "nginx")
    service = next(iter(engine.services.values()))
    assert service["Spec"]["TaskTemplate"]["ContainerSpec"]["EngineOptions"] == {
        "Privileged": True,
        "SecurityOpt": ["seccomp=unconfined"],
        "PidMode": "host",
        "Devices": [{"PathOnHost": "/dev/fuse", "PathInContainer": "/dev/fuse", "CgroupPermissions": "rw"}],
        "DeviceRequests": [{"Count": -1, "Capabilities": [["gpu"]]}],
        "ShmSize": 2**26,
    }
    await essaim("service", "update", "-d", "--privileged=false", "--pid", "", "--shm-size", "0", "web")
    options = service["Spec"]["TaskTemplate"]["ContainerSpec"]["EngineOptions"]
    assert sorted(options) == ["DeviceRequests", "Devices", "SecurityOpt"]


async def test_service_seccomp_profile_is_sent_as_text(essaim: Any, engine: Any, tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text('{"a": 1}')
    option = f"seccomp={tmp_path}/p.json"
    await essaim("service", "create", "-d", "--no-resolve-image", "--security-opt", option, "nginx")
    service = next(iter(engine.services.values()))
    options = service["Spec"]["TaskTemplate"]["ContainerSpec"]["EngineOptions"]
    assert options == {"SecurityOpt": ['seccomp={"a": 1}']}


# -- secrets --------------------------------------------------------------------------------------------------------


async def test_secret_create_takes_what_is_piped_in_without_a_dash(essaim: Any, engine: Any) -> None:
    done = await essaim("secret", "create", "my_secret_data", stdin="This is a secret\n")
    assert done.code == 0
    assert engine.requests[-1].body["Data"] == "VGhpcyBpcyBhIHNlY3JldAo="


async def test_secret_create_on_a_terminal_says_what_to_give(essaim: Any) -> None:
    done = await essaim("secret", "create", "x")
    assert done.code == 1
    assert done.err.startswith("secret file is required")


# -- logs -----------------------------------------------------------------------------------------------------------


async def test_service_logs_name_task_and_node(essaim: Any, engine: Any, docker: Any) -> None:
    await essaim("service", "create", "-d", "--no-resolve-image", "--name", "web", "nginx")
    (key,) = engine.services
    (task,) = engine.tasks.values()
    parts = {"node.id": task["NodeID"], "service.id": key, "task.id": task["ID"]}
    details = ",".join(f"com.docker.swarm.{name}={value}" for name, value in parts.items())
    engine.log = frame(f"{details} hello\n") + frame(f"{details} oops\n", stream=2)
    ours, theirs = await essaim("service", "logs", "web"), await docker("service", "logs", "web")
    assert (ours.out, ours.err) == (theirs.out, theirs.err)
    assert ours.out == f"web.1.{task['ID'][:12]}@wk    | hello\n"
    for flags in (["--no-task-ids"], ["--no-trunc"], ["--no-resolve"], ["--details"]):
        assert (await essaim("service", "logs", *flags, "web")).out == (
            await docker("service", "logs", *flags, "web")
        ).out
    engine.log = frame("2024-01-31T12:00:00.000000000Z " + details + " late\n")
    assert (await essaim("service", "logs", "-t", "web")).out == (await docker("service", "logs", "-t", "web")).out
    engine.log = frame("plain\n")
    assert (await essaim("service", "logs", "--raw", task["ID"])).out == "plain\n"


# -- the load balancer and the system -------------------------------------------------------------------------------


async def test_lb_render_prints_the_configuration(essaim: Any) -> None:
    assert (await essaim("lb", "render", "haproxy")).out == "# haproxy\n"
    assert (await essaim("lb", "render", "traefik-static", "--bind", "192.0.2.1")).out == "# traefik-static 192.0.2.1\n"
    done = await essaim("lb", "render", "apache")
    assert (done.code, "expected one of haproxy, nginx, traefik" in done.err) == (1, True)


async def test_lb_status_shows_endpoints_with_verdict_and_reason(essaim: Any) -> None:
    lines = (await essaim("lb", "status")).out.splitlines()
    assert lines[0].split() == ["SERVICE", "PORT", "TASK", "ADDRESS", "VERDICT", "REASON", "FOUND", "BY"]
    assert lines[1].split()[3:] == ["web.1.t", "127.0.0.1:40001", "up", "check", "passed", "node-1"]
    for command in ("status", "top"):
        other = await essaim("lb", command, "other")
        assert (other.code, other.out) == (1, "")
        assert other.err.startswith(
            "the gateway has nothing of a service other: there is none, or it publishes no port"
        )


def test_lb_status_shows_a_faulty_service_with_the_reason() -> None:
    rows = status_rows(
        {"services": [{"name": "bad", "fault": "not served: it is broken", "ports": [], "warnings": []}]}
    )
    assert [(row["Service"], row["Verdict"], row["Reason"]) for row in rows] == [
        ("bad", "faulty", "not served: it is broken")
    ]


async def test_lb_top_prints_one_look_when_there_is_no_terminal(essaim: Any) -> None:
    lines = (await essaim("lb", "top")).out.splitlines()
    assert lines[0].split() == ["SERVICE", "PORT", "TASK", "ADDRESS", "VERDICT", "OPEN", "REQ/S", "FAIL/S", "REASON"]
    assert "127.0.0.1:40001" in lines[1]


def test_lb_top_rates_come_from_two_looks_busiest_first() -> None:
    def status(*requests: int) -> dict[str, Any]:
        endpoints = [
            {"task_id": str(number), "address": "h", "port": number, "verdict": "up", "requests": total, "open": 1}
            for number, total in enumerate(requests)
        ]
        port = {"published": 80, "target": 80, "protocol": "tcp", "endpoints": endpoints}
        return {"services": [{"name": "web", "ports": [port]}]}

    rows = top_rows(status(10, 100, 5), status(20, 160, 0), 2.0)
    assert [(row[3], row[6]) for row in rows] == [("h:1", "30.0"), ("h:0", "5.0"), ("h:2", "0.0")]
    assert top_rows(status(1), status(2), 1.0, only="other") == []


async def test_events_print_lines_json_and_templates(essaim: Any, engine: Any, docker: Any) -> None:
    event = {
        "Type": "service",
        "Action": "update",
        "Actor": {"ID": "abc", "Attributes": {"name": "web", "image.new": "x:2"}},
        "scope": "swarm",
        "time": 1706702400,
        "timeNano": 1706702400123456789,
    }
    engine.events = [event, {**event, "Action": "create"}]
    for flags in ([], ["--format", "{{.Type}} {{.Action}} {{.Actor.ID}}"], ["--filter", "type=service"]):
        ours, theirs = await essaim("events", "--until", "0s", *flags), await docker("events", "--until", "0s", *flags)
        assert ours.out.replace("Z ", "000 ") == theirs.out.replace("Z ", "000 ") or flags == []
    lines = (await essaim("events", "--until", "0s")).out.splitlines()
    assert lines[0] == "2024-01-31T12:00:00.123456789Z service update abc (image.new=x:2, name=web)"
    assert json.loads((await essaim("events", "--format", "json")).out.splitlines()[0]) == event


async def test_info_and_version_print_the_swarm_s_part(essaim: Any) -> None:
    text = (await essaim("info")).out
    assert f" NodeID: {NODE_ID}\n" in text
    assert "  Heartbeat Period: 5s\n" in text
    assert (await essaim("info", "--format", "{{.Swarm.LocalNodeState}}")).out == "active\n"
    assert "\nServer:\n Version:           20.10.24\n" in (await essaim("version")).out


async def test_info_of_an_older_engine_with_missing_fields_prints(essaim: Any, engine: Any) -> None:
    engine.in_swarm = False
    assert "Swarm: inactive\n" in (await essaim("info")).out


# -- swarm ----------------------------------------------------------------------------------------------------------


async def test_swarm_init_prints_how_to_join(essaim: Any, engine: Any) -> None:
    engine.in_swarm = False
    done = await essaim("swarm", "init", "--advertise-addr", "10.0.0.1", "--force-new-cluster")
    body = next(item.body for item in engine.requests if item.path == "/swarm/init")
    assert (body["AdvertiseAddr"], body["ForceNewCluster"], body["ListenAddr"]) == ("10.0.0.1", True, "")
    assert done.out == (
        f"Swarm initialized: current node ({NODE_ID}) is now a manager.\n\n"
        "To add a worker to this swarm, run the following command:\n\n"
        "    essaim swarm join --token SWMTKN-1-w 10.0.0.1:2377\n\n"
        "To add a manager to this swarm, run 'essaim swarm join-token manager' and follow the instructions.\n\n"
    )


async def test_swarm_join_tells_the_role(essaim: Any, engine: Any) -> None:
    engine.in_swarm = False
    done = await essaim("swarm", "join", "--token", "SWMTKN-1-m", "--availability", "drain", "10.0.0.1:2377")
    assert done.out == "This node joined a swarm as a manager.\n"
    assert next(item.body for item in engine.requests if item.path == "/swarm/join")["Availability"] == "drain"


# -- errors ---------------------------------------------------------------------------------------------------------


async def run(*argv: str, host: str) -> tuple[int, str]:
    err = io.StringIO()
    return await execute(argv, App(host, out=io.StringIO(), err=err)), err.getvalue()


async def test_command_without_a_daemon_says_where_it_looked(tmp_path: Path) -> None:
    host = f"unix://{tmp_path}/none.sock"
    assert await run("node", "ls", host=host) == (
        1,
        f"Cannot connect to the essaim daemon at {host}. Is essaimd running?\n",
    )
    assert (await run("node", "ls", host="tcp://127.0.0.1:1"))[1].startswith("Cannot connect to the essaim daemon")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("service", "create", "--env-file", "/dev/zero", "x"), "/dev/zero is larger than 8 MiB\n"),
        (("secret", "create", "s", "/dev/zero"), "error reading from /dev/zero: /dev/zero is larger than 8 MiB\n"),
        (("stack", "deploy", "-c", "/dev/zero", "s"), "/dev/zero is larger than 8 MiB\n"),
        (("service", "create", "--security-opt", "seccomp=FILE", "x"), "FILE is not UTF-8 text: 'utf-8' codec"),
        (("service", "create", "--env-file", "FILE", "x"), "FILE is not UTF-8 text: 'utf-8' codec"),
        (
            ("service", "create", "--no-resolve-image", "--env", "A=a\udcff", "x"),
            "essaim: not UTF-8 text: 'A=a\\udcff'\n",
        ),
        (("service", "create", "--no-resolve-image", "--name", "\udcff", "x"), "essaim: not UTF-8 text: '\\udcff'\n"),
        (("service", "inspect", "\udcff"), "essaim: not UTF-8 text: "),
    ],
)
async def test_what_cannot_be_read_or_sent_is_said_in_one_line(
    argv: tuple[str, ...], said: str, essaim: Any, tmp_path: Path
) -> None:
    file = tmp_path / "latin-1"
    file.write_bytes(b"\xe9=1")
    done = await essaim(*(word.replace("FILE", str(file)) for word in argv))
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert done.err.startswith(said.replace("FILE", str(file)))


async def test_command_with_a_host_that_is_none_explains() -> None:
    code, err = await run("node", "ls", host="ftp://x")
    assert (code, "expected unix:///path" in err) == (1, True)


async def test_command_in_no_swarm_prints_the_daemon_s_words(essaim: Any, engine: Any) -> None:
    engine.in_swarm = False
    done = await essaim("service", "ls")
    assert done.code == 1
    assert done.err.startswith("Error response from daemon: This node is not a swarm manager.")


async def test_global_flag_unknown_exits_125(essaim: Any) -> None:
    done = await essaim("--nosuch", "service", "ls")
    assert (done.code, done.err.splitlines()[0]) == (125, "unknown flag: --nosuch")


async def test_template_that_does_not_fit_exits_1(essaim: Any) -> None:
    done = await essaim("node", "ls", "--format", "{{.Nope}}")
    assert (done.code, done.err) == (
        1,
        "template parsing error: can't evaluate field Nope: there is none of that name\n",
    )


@pytest.mark.parametrize(
    ("environment", "is_root", "host"),
    [
        ({"ESSAIM_HOST": "tcp://h:1"}, True, "tcp://h:1"),
        ({"XDG_RUNTIME_DIR": "/run/user/7"}, True, "unix:///run/essaim/essaim.sock"),
        ({"XDG_RUNTIME_DIR": "/run/user/7"}, False, "unix:///run/user/7/essaim.sock"),
    ],
)
def test_default_host_follows_environment_and_user(environment: dict[str, str], is_root: bool, host: str) -> None:
    assert default_host(environment, is_root=is_root) == host


def test_run_with_a_full_disk_or_a_bug_prints_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(error: Exception) -> Any:
        def prepare(argv: Any) -> Any:
            raise error

        return prepare

    monkeypatch.setattr(main, "prepare", fail(OSError(28, "No space left on device")))
    assert main.run([]) == 1
    assert capsys.readouterr().err == "essaim: [Errno 28] No space left on device\n"
    monkeypatch.setattr(main, "prepare", fail(KeyError("x")))
    assert main.run([]) == 1
    assert "failed unexpectedly (KeyError: 'x')" in capsys.readouterr().err


# -- help and completion --------------------------------------------------------------------------------------------


def leaves() -> list[list[str]]:
    import click

    found = []
    top = root()
    context = click.Context(top)
    for name in top.list_commands(context):
        command = top.get_command(context, name)
        if isinstance(command, click.Group):
            found += [[name, inner] for inner in command.list_commands(context)]
        else:
            found.append([name])
    return found


@pytest.mark.parametrize("path", leaves(), ids=" ".join)
async def test_every_command_has_help_that_fits_the_terminal(
    path: list[str], essaim: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (await essaim(*path, "--help")).code == 0
    text = capsys.readouterr().out
    assert text.startswith(f"Usage:  essaim {' '.join(path)}")
    assert [line for line in text.splitlines() if len(line) > 100] == []


async def complete(host: str, *words: str) -> list[str]:
    """What bash would offer after these words."""
    line = " ".join(["essaim", *words])
    environment = {
        **os.environ,
        "_ESSAIM_COMPLETE": "bash_complete",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words)),
        "ESSAIM_HOST": host,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "essaim.cli", env=environment, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    return [item.partition(",")[2] for item in out.decode().splitlines() if item]


async def test_completion_offers_commands_flags_and_names_of_the_daemon(essaim: Any, engine: Any) -> None:
    for name in ("web", "worker", "db"):
        await essaim("service", "create", "-d", "--no-resolve-image", "--name", name, "nginx")
    assert await complete(engine.host, "serv") == ["service"]
    assert await complete(engine.host, "service", "ro") == ["rollback"]
    assert await complete(engine.host, "service", "rm", "w") == ["web", "worker"]
    assert await complete(engine.host, "service", "scale", "d") == ["db="]
    assert await complete(engine.host, "node", "update", "--avail") == ["--availability"]
    assert await complete(engine.host, "node", "update", "--availability", "d") == ["drain"]
    assert await complete("unix:///nonexistent", "service", "rm", "w") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
async def test_completion_script_is_printed_for(shell: str, essaim: Any) -> None:
    done = await essaim("completion", shell)
    assert done.code == 0
    assert f"_ESSAIM_COMPLETE={shell}_complete" in done.out


@pytest.mark.parametrize(
    ("argv", "error"),
    [
        (("--mount", "target=/a", "--mount", "target=/a"), "Duplicate mount point: /a"),
        (("-p", "80:90", "-p", "80:91"), "conflicting port mapping between 80:91/tcp and 80:90/tcp"),
        (("--update-order", "x"), 'invalid --update-order "x": must be one of start-first, stop-first'),
        (("--restart-condition", "x"), 'invalid --restart-condition "x": must be one of none, on-failure, any'),
        (("--entrypoint", "'"), 'cannot split "\'": No closing quotation'),
    ],
)
async def test_service_create_refuses_what_the_daemon_would(
    argv: tuple[str, ...], error: str, essaim: Any, engine: Any
) -> None:
    done = await essaim("service", "create", "-d", *argv, "nginx")
    assert (done.code, done.err) == (1, error + "\n")
    assert sent(engine, "POST") == []


async def test_interrupt_while_waiting_leaves_the_service_to_the_cluster(engine: Any) -> None:
    engine.task_state = lambda service: "preparing"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "essaim.cli", "service", "create", "--no-resolve-image", "--name", "web", "nginx"),
        env={**os.environ, "ESSAIM_HOST": engine.host},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    while b"overall progress" not in await asyncio.wait_for(process.stdout.readline(), 30):
        pass
    process.send_signal(signal.SIGINT)
    _, err = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 130
    assert err.decode().endswith(
        "Operation continuing in background.\nUse `essaim service ps web` to check progress.\n"
    )
    assert len(engine.services) == 1
