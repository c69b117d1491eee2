"""Durations, sizes and CPUs are read as the docker client reads them: the same is sent, the same words refuse."""

import shlex
from typing import Any

import pytest

from essaim.cluster.cpus import parse_cpus
from essaim.cluster.durations import nanoseconds
from essaim.cluster.sizes import parse_size

DURATIONS = [
    "1m30s", "0", "-0", "0s", "+5s", "5.s", ".5s", "1.5h", "2h3m4.005s", "1ms", "500us", "7µs", "7μs", "9ns", "0.7ns",
    "1.0000000019s", "0.3333333333333333333h", "0.830103483285477580700h", "0.0290000ms", "1s1s", "1s1h", "1.1ms1.1us",
    "106751h", "00000000000000000000000005s",
]  # fmt: skip
NO_DURATIONS = [
    "", "5", "5.", "1e3s", "1 s", " 1s", "1s ", "1s2", "5y", "1d", "1w", "1²s", "µs", "1µ", "1S", "--5s", "+-5s", ".s",
    "3000000h", "9223372036854775808ns", '1"s', "1\\s", "1\ts", "1_0s", "0x1s", "inf", "1.2.3s", "1m:30s",
]  # fmt: skip
SIZES = [
    "0", "1024", "64m", "64M", "64mb", "64MiB", "1.5g", "2gib", "10 k", "5.", ".5k", "+5", "7b", "7 ", "1e3k", "1E2",
    "1t", "5p", "0.3k", "1_000", "-0",
]  # fmt: skip
NO_SIZES = [
    "", " ", ".", "x", "-5", "-1", "1x", "5e", "1ib", "1i", "1ki", "1kibb", "1bb", "32kk", "k", "10  k", " 10k", "10k ",
    "1.5.5k", "1e400", "1_", "_1", "1__0", "inf", "nan", "1ei", "1kı", "٣", "1²",
]  # fmt: skip
CPUS = ["0.5", "1/2", ".5", "5.", "1e-3", "1E2", "+1", "1_0", "1_0/2", "0", "0.000000001", "0/7", "2.50"]
NO_CPUS = ["", "1/0", "0.5/0.5", "1/ 2", "1/3", "0.0000000001", "inf", "nan", "1e999999999", "\u00b2", " 1", "1 ", ".",
           "/2", "1/", "1/-2", "1__0", "x", "1,5", "1e-10", "1.2.3"]  # fmt: skip
CREATE = "service create -d --no-resolve-image --name web"
DELAYS = ("restart-delay", "restart-window", "stop-grace-period", "update-delay", "update-monitor", "rollback-delay")


def flags(names: tuple[str, ...], texts: list[str]) -> str:
    return " ".join(f"--{name} {shlex.quote(text)}" for name, text in zip(names, texts, strict=False))


async def bodies(line: str, engine: Any, essaim: Any, docker: Any) -> list[Any]:
    """What each of the two sends, ours first."""
    found = []
    for client in (essaim, docker):
        engine.requests.clear()
        done = await client(*shlex.split(line))
        assert done.code == 0, (line, done)
        found += [item.body for item in engine.requests if item.method == "POST"]
        engine.services.clear()
    return found


@pytest.mark.parametrize("texts", [DURATIONS[n : n + len(DELAYS)] for n in range(0, len(DURATIONS), len(DELAYS))])
async def test_durations_are_sent_as_docker_sends_them(texts: list[str], engine: Any, essaim: Any, docker: Any) -> None:
    ours, theirs = await bodies(f"{CREATE} {flags(DELAYS, texts)} x", engine, essaim, docker)
    for place in (("TaskTemplate", "RestartPolicy"), ("UpdateConfig",), ("RollbackConfig",)):
        one, other = ours, theirs
        for key in place:
            one, other = one.get(key) or {}, other.get(key) or {}
        assert {key: one.get(key) or 0 for key in other} == {key: value or 0 for key, value in other.items()}
    grace = [body["TaskTemplate"]["ContainerSpec"].get("StopGracePeriod") for body in (ours, theirs)]
    assert grace[0] == grace[1] == nanoseconds(texts[2])


@pytest.mark.parametrize("pair", [SIZES[n : n + 2] for n in range(0, len(SIZES), 2)])
async def test_sizes_are_sent_as_docker_sends_them(pair: list[str], engine: Any, essaim: Any, docker: Any) -> None:
    mount = shlex.quote(f"type=tmpfs,dst=/t,tmpfs-size={pair[0]}")
    line = f"{CREATE} {flags(('limit-memory', 'reserve-memory'), pair)} --mount {mount} x"
    ours, theirs = (body["TaskTemplate"] for body in await bodies(line, engine, essaim, docker))
    for kind in ("Limits", "Reservations"):
        assert limit(ours, kind) == limit(theirs, kind)
    assert limit(ours, "Limits") == parse_size(pair[0])
    sizes = [(mount.get("TmpfsOptions") or {}).get("SizeBytes", 0) for body in (ours, theirs) for mount in mounts(body)]
    assert sizes == [parse_size(pair[0])] * 2


@pytest.mark.parametrize("text", CPUS)
async def test_cpus_are_sent_as_docker_sends_them(text: str, engine: Any, essaim: Any, docker: Any) -> None:
    ours, theirs = await bodies(f"{CREATE} --limit-cpu {text} x", engine, essaim, docker)
    found = [limit(body["TaskTemplate"], "Limits", "NanoCPUs") for body in (ours, theirs)]
    assert found == [parse_cpus(text)] * 2


def limit(body: Any, kind: str, what: str = "MemoryBytes") -> int:
    return int(((body.get("Resources") or {}).get(kind) or {}).get(what, 0))


def mounts(body: Any) -> Any:
    return body["ContainerSpec"]["Mounts"]


@pytest.mark.parametrize(
    ("flag", "text"),
    [
        *(("update-delay", text) for text in NO_DURATIONS),
        *(("limit-memory", text) for text in NO_SIZES),
        *(("limit-cpu", text) for text in NO_CPUS),
    ],
)
async def test_what_is_none_is_refused_in_docker_s_words(flag: str, text: str, essaim: Any, docker: Any) -> None:
    line = [*CREATE.split(), f"--{flag}", text, "x"]
    ours, theirs = await essaim(*line), await docker(*line)
    assert theirs.code != 0
    assert ours.err == theirs.err.replace("docker", "essaim")
    assert ours.code == theirs.code


@pytest.mark.parametrize(("text", "sent"), [("-1", -1), ("64m", 64 << 20)])
async def test_swap_is_a_size_or_without_a_limit(text: str, sent: int, engine: Any, essaim: Any) -> None:
    done = await essaim(*CREATE.split(), "--memory-swap", text, "x")
    assert done.code == 0, done
    (body,) = [item.body for item in engine.requests if item.method == "POST"]
    assert body["TaskTemplate"]["Resources"]["SwapBytes"] == sent
    refused = await essaim(*CREATE.split(), "--memory-swap", "-2", "x")
    assert "invalid size: '-2'" in refused.err
