"""The process runtime with real processes: files, output, health, users, errors."""

import asyncio
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest
import uvloop

from essaim.agent.runtime.interface import Health, LogLine, Phase, Rejected, StartFailed, UnknownTask, View, Work
from essaim.agent.runtime.process.logs import LogReader, seconds
from essaim.agent.runtime.process.runtime import ProcessRuntime
from essaim.agent.runtime.process.shim import LogFiles
from essaim.cluster.container import DriverSpec, FileTarget, HealthConfig, SecretReference
from essaim.cluster.engine_options import EngineOptions
from essaim.cluster.objects import Secret, SecretSpec
from essaim.cluster.wire import LogRequest

from .conftest import MakeRuntime, make_process_runtime
from .doubles import MEMORY, NODE, UNIQUE, ingress, make_task

DEADLINE = 20


def shell(script: str, **more: Any) -> Work:
    return Work(make_task(UNIQUE, command=["/bin/sh", "-c", script], **more), NODE)


async def run(runtime: ProcessRuntime, work: Work) -> View:
    """The view at the task's end."""
    await runtime.prepare(work)
    await runtime.start(work.task.id)
    async with asyncio.timeout(DEADLINE):
        async for view in runtime.watch(work.task.id):
            last = view
    return last


async def output(runtime: ProcessRuntime, **options: Any) -> list[LogLine]:
    return [line async for line in runtime.logs(LogRequest(request=1, task_id=UNIQUE, **options))]


async def test_output_is_kept_with_stream_and_time(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime()
    before = time.time()
    await run(runtime, shell("echo one; echo two >&2; printf three"))
    lines = await output(runtime)
    assert sorted((line.stream, line.line) for line in lines) == [(1, b"one"), (1, b"three"), (2, b"two")]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", line.timestamp) for line in lines)
    assert before - 1 <= seconds(lines[0].timestamp) <= time.time() + 1
    assert [line.line for line in await output(runtime, stderr=False, tail=1)] in ([b"three"], [])
    assert await output(runtime, since=time.time() + 100) == []


async def test_output_is_followed_until_the_task_ends(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime()
    work = shell("echo one; read -r x < gate; echo two")
    await runtime.prepare(work)
    gate = runtime.directory_of(UNIQUE) / "work" / "gate"
    await asyncio.to_thread(os.mkfifo, gate)
    await runtime.start(UNIQUE)
    lines = []
    async with asyncio.timeout(DEADLINE):
        async for line in runtime.logs(LogRequest(request=1, task_id=UNIQUE, follow=True)):
            lines.append(line.line)
            if line.line == b"one":
                await asyncio.to_thread(gate.write_text, "go\n")
    assert lines == [b"one", b"two"]


async def test_processors_and_privileges_are_limited_as_asked(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime()
    options = EngineOptions(cpuset_cpus="0", security_opt=["no-new-privileges:true"])
    await run(runtime, shell("grep -E 'NoNewPrivs|Cpus_allowed_list' /proc/self/status", engine_options=options))
    assert [line.line.split() for line in await output(runtime)] == [
        [b"NoNewPrivs:", b"1"],
        [b"Cpus_allowed_list:", b"0"],
    ]


async def test_output_is_bounded(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime()
    work = shell("i=0; while [ $i -lt 400 ]; do echo line $i; i=$((i+1)); done")
    from msgspec.structs import replace

    driver = DriverSpec(name="local", options={"max-size": "4k", "max-file": "2"})
    spec = replace(work.task.spec, log_driver=driver)
    await run(runtime, Work(replace(work.task, spec=spec), NODE))
    files = sorted(p.name for p in (runtime.directory_of(UNIQUE) / "log").iterdir())
    assert files == ["1", "current"]
    lines = [line.line for line in await output(runtime)]
    assert lines[-1] == b"line 399"
    assert 20 < len(lines) < 300
    assert lines == [b"line %d" % n for n in range(400 - len(lines), 400)]


def test_reader_goes_on_across_rotations(tmp_path: Path) -> None:
    log = LogFiles(str(tmp_path), max_bytes=120, max_files=3)
    reader = LogReader(tmp_path)
    seen: list[bytes] = []
    for number in range(30):
        log.write(1, b"%d" % number)
        if number % 2:
            seen += [line.line for line in reader.read()]
    reader.close()
    os.close(log._file)
    assert seen == [b"%d" % number for number in range(30)]


async def test_secret_is_found_in_memory_and_gone_with_the_end_of_the_task(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime()
    references = [
        SecretReference(file=FileTarget(name=target), secret_id="s1", secret_name="p") for target in ("p", "/etc/p")
    ]
    work = shell(
        'cat "$ESSAIM_SECRETS_DIR/p" "$ESSAIM_SECRETS_DIR/etc/p"; echo; echo $ESSAIM_SECRETS_DIR', secrets=references
    )
    secret = Secret(id="s1", spec=SecretSpec(name="p", data=b"hush"))
    await run(runtime, Work(work.task, NODE, {"s1": secret}))
    said, directory = [line.line.decode() for line in await output(runtime)]
    assert said == "hushhush"
    assert not Path(directory).parent.exists(), "it goes with the task's end, not with its history"
    await runtime.remove(UNIQUE)
    with pytest.raises(UnknownTask):
        await output(runtime)
    await runtime.close()
    assert list(MEMORY.iterdir()) == []


async def test_health_check_decides_and_follows_the_program(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime()
    check = HealthConfig(test=["CMD-SHELL", "test -e ok"], interval=50_000_000, retries=2)
    await runtime.prepare(shell("exec sleep 600", healthcheck=check))
    await runtime.start(UNIQUE)
    ok = runtime.directory_of(UNIQUE) / "work" / "ok"
    seen = []
    async with asyncio.timeout(DEADLINE):
        async for view in runtime.watch(UNIQUE):
            seen.append(view.health)
            if view.health is Health.STARTING:
                await asyncio.to_thread(ok.touch)
            elif view.health is Health.HEALTHY:
                await asyncio.to_thread(ok.unlink)
            else:
                break
    assert seen == [Health.STARTING, Health.HEALTHY, Health.UNHEALTHY]


async def test_program_that_is_not_there_fails_with_its_name(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime()
    await runtime.prepare(Work(make_task(UNIQUE, command=["no-such-program"]), NODE))
    with pytest.raises(StartFailed, match="the command no-such-program was not found on this node"):
        await runtime.start(UNIQUE)
    view = await anext(runtime.watch(UNIQUE))
    assert (view.phase, view.exit_code) == (Phase.EXITED, 127)


async def test_directory_that_is_not_there_fails_with_its_name(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime()
    await runtime.prepare(shell("true", dir="/no/such/directory"))
    with pytest.raises(StartFailed, match="the working directory /no/such/directory does not exist"):
        await runtime.start(UNIQUE)


async def test_limits_reach_the_program(make_runtime: MakeRuntime) -> None:
    from essaim.cluster.container import Ulimit

    runtime = make_runtime()
    await run(runtime, shell("ulimit -n", ulimits=[Ulimit(name="nofile", soft=77, hard=77)]))
    assert [line.line for line in await output(runtime)] == [b"77"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
async def test_user_and_groups_reach_the_program(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime()
    await run(runtime, shell("cd /; id -u; id -g; id -G", user="65534:65533", groups=["12"], dir="/"))
    said = [line.line.decode() for line in await output(runtime)]
    assert said[:2] == ["65534", "65533"]
    assert set(said[2].split()) == {"65533", "12"}


async def test_user_who_is_not_there_is_rejected(make_runtime: MakeRuntime) -> None:
    with pytest.raises(Rejected, match="there is no user nobody-like-that"):
        await make_runtime().prepare(shell("true", user="nobody-like-that"))


async def test_ports_of_a_task_found_again_are_not_given_to_another(make_runtime: MakeRuntime) -> None:
    first = make_runtime()
    await first.prepare(shell("exec sleep 600", ports=[ingress(80)]))
    await first.start(UNIQUE)
    view = await anext(first.watch(UNIQUE))
    await first.close()
    second = make_runtime()
    found = await second.recover(NODE.id)
    assert found[UNIQUE].endpoints == view.endpoints
    taken = view.endpoints[0].port
    port = ingress(80, publish_mode="host", published_port=taken)
    with pytest.raises(Rejected, match=f"port {taken}/tcp"):
        await second.prepare(Work(make_task(f"{UNIQUE}b", command=["a"], ports=[port]), NODE))


async def test_node_describes_itself(make_runtime: MakeRuntime) -> None:
    description = await make_runtime().describe()
    assert (description.hostname, description.runtime, description.data_addr) == ("host1", "process", "127.0.0.1")
    assert description.resources is not None
    assert (description.resources.nano_cpus or 0) >= 10**9
    assert (description.resources.memory_bytes or 0) > 1 << 28


def test_runtime_works_on_uvloop_too(tmp_path: Path) -> None:
    async def life() -> list[tuple[Phase, Health, int | None]]:
        runtime = make_process_runtime(tmp_path / "node")
        check = HealthConfig(test=["CMD", "true"], interval=50_000_000)
        user = "65534" if os.geteuid() == 0 else None
        await runtime.prepare(shell("exec sleep 600", healthcheck=check, user=user, dir="/"))
        await runtime.start(UNIQUE)
        seen = []
        async with asyncio.timeout(DEADLINE):
            async for view in runtime.watch(UNIQUE):
                seen.append((view.phase, view.health, view.exit_code))
                if view.health is Health.HEALTHY:
                    assert view.pid
                    os.kill(view.pid, 9)
        await runtime.remove(UNIQUE)
        await runtime.close()
        return seen

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        seen = runner.run(life())
    assert seen[-2:] == [(Phase.RUNNING, Health.HEALTHY, None), (Phase.EXITED, Health.NONE, 137)]
