"""Images: looked up on the node first, pulled only when missing, one pull for all tasks that wait for the same image.

- A pull is a task of its own: a slow or dead registry delays only those who wait for its image. It is given up when
  nobody waits any more, or when the registry has sent nothing for a while.
- Pull policies: `missing` (the default; also if_not_present), `always`, `never`.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Any

import structlog

from essaim.agent.runtime import Rejected, RuntimeUnavailable

from .engine import Engine, EngineError, json_lines
from .pull_progress import PullProgress

SAY_EVERY = 2.0
"""Seconds between two words on a pull's progress: each becomes a write to the cluster's log."""
SILENT_MOST = 60.0
"""Seconds without any word of progress after which a pull is given up."""


Say = Callable[[str], None]


@dataclass(slots=True)
class _Pull:
    """`listeners` are told how far it has come, one for each who waits."""

    task: asyncio.Task[None]
    listeners: list[Say]


class Images:
    def __init__(self, engine: Engine, log: structlog.typing.FilteringBoundLogger) -> None:
        self._engine = engine
        self._log = log
        self._pulls: dict[tuple[str, str], _Pull] = {}

    async def ensure(self, image: str, *, policy: str = "", auth: str = "", say: Say = lambda _: None) -> None:
        """Return once the image is on the node; `say` hears how far a pull is. Raises Rejected, RuntimeUnavailable."""
        if policy != "always" and await self.is_here(image):
            return
        if policy == "never":
            raise Rejected(f"No such image: {image} (it is not on this node, and its pull policy is never)")
        await self._pull_shared(image, auth, say)

    async def is_here(self, image: str) -> bool:
        try:
            await self._engine.call("GET", f"/images/{image}/json")
        except EngineError as error:
            if error.status == 404:
                return False
            raise Rejected(str(error)) from error
        return True

    async def close(self) -> None:
        pulls = [pull.task for pull in self._pulls.values()]
        for pull in pulls:
            pull.cancel()
        await asyncio.gather(*pulls, return_exceptions=True)

    async def _pull_shared(self, image: str, auth: str, say: Say) -> None:
        key = (image, auth)
        pull = self._pulls.get(key)
        if pull is None:
            listeners: list[Say] = []
            task = asyncio.create_task(self._pull(image, auth, listeners), name=f"pull {image}")
            pull = self._pulls[key] = _Pull(task, listeners)
            pull.task.add_done_callback(lambda _: self._pulls.pop(key, None))
        pull.listeners.append(say)
        try:
            await asyncio.wait([pull.task])
        finally:
            pull.listeners.remove(say)
            if not pull.listeners and not pull.task.done():
                pull.task.cancel()
        if pull.task.cancelled():
            raise RuntimeUnavailable(f"the pull of {image} was given up")
        pull.task.result()

    async def _pull(self, image: str, auth: str, listeners: list[Say]) -> None:
        self._log.info("pulling an image", image=image)
        name, tag = split_reference(image)
        headers = {"X-Registry-Auth": auth} if auth else None
        params = {"fromImage": name, "tag": tag}
        progress = PullProgress(image)
        # A registry that says nothing makes the Engine say nothing, not even that it has begun.
        first_word = asyncio.get_running_loop().call_later(SAY_EVERY, _tell, progress, listeners)
        try:
            async with (
                asyncio.timeout(SILENT_MOST) as silence,
                self._engine.stream("POST", "/images/create", params=params, headers=headers) as response,
            ):
                await self._follow(json_lines(response), image, progress, silence, listeners)
        except TimeoutError:
            reason = f"its registry has sent nothing for {SILENT_MOST:g} s"
            raise Rejected(f"No such image: {image} ({reason})") from None
        except EngineError as error:
            raise Rejected(f"No such image: {image} ({error})") from error
        finally:
            first_word.cancel()
        self._log.info("image pulled", image=image)

    async def _follow(
        self,
        messages: AsyncGenerator[dict[str, Any], None],
        image: str,
        progress: PullProgress,
        silence: asyncio.Timeout,
        listeners: list[Say],
    ) -> None:
        """To the end of the stream; its errors come in it. Each message puts the end of our patience off."""
        loop = asyncio.get_running_loop()
        say_at = loop.time() + SAY_EVERY
        async with contextlib.aclosing(messages):
            async for message in messages:
                silence.reschedule(loop.time() + SILENT_MOST)
                if "error" in message:
                    raise Rejected(f"No such image: {image} ({message['error']})")
                progress.take(message)
                if loop.time() >= say_at:
                    say_at = loop.time() + SAY_EVERY
                    _tell(progress, listeners)


def _tell(progress: PullProgress, listeners: list[Say]) -> None:
    for say in listeners:
        say(progress.text())


def split_reference(image: str) -> tuple[str, str]:
    """Name, and tag or digest: `reg:5000/a:1` is (`reg:5000/a`, `1`); the digest wins; without either, `latest`."""
    name, _, digest = image.partition("@")
    if digest:
        head, slash, last = name.rpartition("/")
        return head + slash + last.partition(":")[0], digest
    head, slash, last = name.rpartition("/")
    last, _, tag = last.partition(":")
    return head + slash + last, tag or "latest"
