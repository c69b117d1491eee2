"""Sharing and giving up pulls, with an Engine that is scripted."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from essaim.agent.runtime.docker import images as images_module
from essaim.agent.runtime.docker.engine import Engine, EngineError
from essaim.agent.runtime.docker.images import Images, registry_of, split_reference
from essaim.agent.runtime.docker.pull_progress import PullProgress
from essaim.agent.runtime.interface import Rejected, RuntimeUnavailable

from .doubles import LOG, until


class Lines:
    """The body of a response."""

    def __init__(self, lines: list[bytes], gate: asyncio.Event) -> None:
        self.content = self._read(lines, gate)

    async def _read(self, lines: list[bytes], gate: asyncio.Event) -> AsyncGenerator[bytes, None]:
        await gate.wait()
        for line in lines:
            yield line


class ScriptedEngine(Engine):
    def __init__(self, *lines: bytes) -> None:
        super().__init__("unix:///nowhere")
        self.lines = list(lines)
        self.gate = asyncio.Event()
        self.begins = asyncio.Event()
        self.begins.set()
        self.here: set[str] = set()
        self.pulls: list[dict[str, Any]] = []
        self.given_up = 0

    async def call(self, method: str, path: str, **options: Any) -> Any:
        if path.removeprefix("/images/").removesuffix("/json") not in self.here:
            raise EngineError(404, "no such image")

    @asynccontextmanager
    async def stream(self, method: str, path: str, **options: Any) -> AsyncGenerator[Any, None]:
        self.pulls.append(options)
        try:
            await self.begins.wait()
            yield Lines(self.lines, self.gate)
        except asyncio.CancelledError:
            self.given_up += 1
            raise


def images_of(engine: ScriptedEngine) -> Images:
    return Images(engine, LOG)


async def test_images_on_the_node_need_no_registry() -> None:
    engine = ScriptedEngine()
    for image in ("a:1@sha256:ab", "essaim/whoami:latest"):
        engine.here.add(image)
        await images_of(engine).ensure(image)
    assert engine.pulls == []


async def test_tag_that_the_node_has_is_asked_for_again_and_what_is_here_will_do_where_that_fails() -> None:
    for answer in (b'{"status":"ok"}\n', b'{"error":"lookup registry-1.docker.io: network is unreachable"}\n'):
        engine = ScriptedEngine(answer)
        engine.gate.set()
        engine.here.add("a:latest")
        await images_of(engine).ensure("a:latest")
        assert [pull["params"] for pull in engine.pulls] == [{"fromImage": "a", "tag": "latest"}]


async def test_registry_that_is_silent_delays_who_has_the_image_once_and_shortly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(images_module, "FRESH_WITHIN", 0.05)
    engine = ScriptedEngine()
    engine.here |= {"reg:5000/a:1", "reg:5000/b:1", "c:1"}
    images = images_of(engine)
    await images.ensure("reg:5000/a:1")
    assert engine.given_up == 1
    await images.ensure("reg:5000/b:1")
    assert len(engine.pulls) == 1
    await images.ensure("c:1")
    assert len(engine.pulls) == 2
    await images.close()


async def test_registry_that_has_spoken_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images_module, "FRESH_WITHIN", 0.05)
    loop, done = asyncio.get_running_loop(), asyncio.Event()

    class Speaking(ScriptedEngine):
        @asynccontextmanager
        async def stream(self, method: str, path: str, **options: Any) -> AsyncGenerator[Any, None]:
            class Body:
                content = self.words()

            yield Body()

        async def words(self) -> AsyncGenerator[bytes, None]:
            yield b'{"status":"Pulling from a"}\n'
            loop.call_later(0.15, done.set)
            await done.wait()
            yield b'{"status":"ok"}\n'

    engine = Speaking()
    engine.here.add("a:1")
    await images_of(engine).ensure("a:1")
    assert done.is_set()


@pytest.mark.parametrize(
    ("image", "registry"),
    [
        ("a", "docker.io"), ("a/b:1", "docker.io"), ("reg:5000/a", "reg:5000"), ("reg.example/a/b", "reg.example"),
        ("localhost/a", "localhost"),
    ],
)  # fmt: skip
def test_registry_of(image: str, registry: str) -> None:
    assert registry_of(image) == registry


async def test_one_pull_serves_all_who_wait_for_the_same_image() -> None:
    engine = ScriptedEngine(b'{"status":"ok"}\n')
    images = images_of(engine)
    waiting = [asyncio.create_task(images.ensure("a:1", auth="x")) for _ in range(3)]
    waiting.append(asyncio.create_task(images.ensure("b:1")))
    await until(lambda: len(engine.pulls) == 2)
    waiting[0].cancel()
    engine.gate.set()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result) for result in results] == [asyncio.CancelledError, type(None), type(None), type(None)]
    assert len(engine.pulls) == 2
    assert engine.pulls[0]["headers"] == {"X-Registry-Auth": "x"}
    assert engine.pulls[0]["params"] == {"fromImage": "a", "tag": "1"}
    await images.close()


async def test_pull_is_given_up_when_nobody_waits_any_more() -> None:
    engine = ScriptedEngine()
    images = images_of(engine)
    waiting = asyncio.create_task(images.ensure("a:1"))
    await until(lambda: engine.pulls)
    waiting.cancel()
    await until(lambda: engine.given_up)
    # Whoever comes later starts a new one.
    again = asyncio.create_task(images.ensure("a:1"))
    await until(lambda: len(engine.pulls) == 2)
    await images.close()
    with pytest.raises(RuntimeUnavailable):
        await again


async def test_pull_that_fails_says_why_to_all() -> None:
    engine = ScriptedEngine(b'{"status":"pulling"}\n', b'{"error":"manifest unknown"}\n')
    engine.gate.set()
    images = images_of(engine)
    results = await asyncio.gather(*(images.ensure("a:1") for _ in range(2)), return_exceptions=True)
    assert [str(result) for result in results] == ["No such image: a:1 (manifest unknown)"] * 2
    assert all(isinstance(result, Rejected) for result in results)


@pytest.mark.parametrize(
    ("image", "parts"),
    [
        ("a", ("a", "latest")),
        ("a:1", ("a", "1")),
        ("reg:5000/a", ("reg:5000/a", "latest")),
        ("reg:5000/a/b:1", ("reg:5000/a/b", "1")),
        ("reg:5000/a:1@sha256:ab", ("reg:5000/a", "sha256:ab")),
    ],
)
def test_split_reference(image: str, parts: tuple[str, str]) -> None:
    assert split_reference(image) == parts


async def test_all_who_wait_hear_how_far_a_pull_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images_module, "SAY_EVERY", 0.0)
    engine = ScriptedEngine(b'{"id":"l1","status":"Pull complete"}\n', b'{"id":"l2","status":"Waiting"}\n')
    engine.gate.set()
    images, heard = images_of(engine), list[str]()
    await asyncio.gather(*(images.ensure("a:1", say=heard.append) for _ in range(2)))
    assert heard == ["pulling a:1: 1 of 1 layers"] * 2 + ["pulling a:1: 1 of 2 layers"] * 2


async def test_registry_that_says_nothing_is_named_and_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images_module, "SAY_EVERY", 0.0)
    engine, heard = ScriptedEngine(), list[str]()
    images = images_of(engine)
    waiting = asyncio.create_task(images.ensure("a:1", say=heard.append))
    await until(lambda: heard)
    assert heard == ["pulling a:1: waiting for its registry"]
    waiting.cancel()
    await until(lambda: engine.given_up)
    monkeypatch.setattr(images_module, "SILENT_MOST", 0.05)
    with pytest.raises(Rejected, match=r"No such image: a:1 \(its registry has sent nothing for 0.05 s\)"):
        await images.ensure("a:1")
    await images.close()


async def test_engine_that_does_not_even_begin_to_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images_module, "SILENT_MOST", 0.05)
    engine = ScriptedEngine()
    engine.begins = asyncio.Event()
    with pytest.raises(Rejected, match="has sent nothing"):
        await images_of(engine).ensure("a:1")


def test_progress_counts_layers_and_bytes() -> None:
    progress = PullProgress("a:1")
    assert progress.text() == "pulling a:1: waiting for its registry"
    progress.take({"status": "Pulling from library/a", "id": "1"})
    progress.take({"status": "Already exists", "id": "l1"})
    progress.take({"status": "Downloading", "id": "l2", "progressDetail": {"current": 1_500_000, "total": 3_000_000}})
    assert progress.text() == "pulling a:1: 1 of 2 layers, 1.5 MB of 3 MB"
    progress.take({"status": "Download complete", "id": "l2"})
    progress.take({"status": "Pull complete", "id": "l2"})
    assert progress.text() == "pulling a:1: 2 of 2 layers, 3 MB of 3 MB"


@pytest.mark.parametrize(
    ("policy", "is_here", "pulls"),
    [("", True, 1), ("missing", True, 0), ("if_not_present", False, 1), ("always", True, 1), ("never", True, 0)],
)
async def test_pull_policy_decides_whether_the_registry_is_asked(policy: str, is_here: bool, pulls: int) -> None:
    engine = ScriptedEngine(b'{"status":"ok"}\n')
    engine.gate.set()
    if is_here:
        engine.here.add("a:1")
    await images_of(engine).ensure("a:1", policy=policy)
    assert len(engine.pulls) == pulls


async def test_pull_policy_never_rejects_what_is_not_here() -> None:
    with pytest.raises(Rejected, match="its pull policy is never"):
        await images_of(ScriptedEngine()).ensure("a:1", policy="never")


async def test_pulls_with_other_credentials_are_not_shared() -> None:
    engine = ScriptedEngine(b'{"status":"ok"}\n')
    engine.gate.set()
    images = images_of(engine)
    await asyncio.gather(*(images.ensure("a:1", auth=auth) for auth in ("x", "y", "x")))
    assert sorted(pull["headers"]["X-Registry-Auth"] for pull in engine.pulls) == ["x", "y"]


async def test_each_word_of_a_registry_puts_the_end_of_patience_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three words, each within a minute of the last, over two minutes of the loop's clock."""
    loop, shift = asyncio.get_running_loop(), [0.0]
    real = loop.time
    monkeypatch.setattr(loop, "time", lambda: real() + shift[0])

    class Slow(ScriptedEngine):
        @asynccontextmanager
        async def stream(self, method: str, path: str, **options: Any) -> AsyncGenerator[Any, None]:
            class Body:
                content = self.words()

            yield Body()

        async def words(self) -> AsyncGenerator[bytes, None]:
            for _ in range(3):
                yield b'{"status":"ok"}\n'
                shift[0] += images_module.SILENT_MOST - 10
                for _ in range(3):  # a timer that is due would run now
                    await asyncio.sleep(0)

    await images_of(Slow()).ensure("a:1")
