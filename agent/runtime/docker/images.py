"""Images: looked up on the node, pulled where Swarm pulls, one pull for all tasks that wait for the same image.

- An image that is pinned by a digest is looked up on the node first. A tag may have moved: its registry is asked for
  each task, and what the node has is good enough where that fails. A registry that says nothing within FRESH_WITHIN is
  not asked again for a while by those who have the image.
- A pull is a task of its own: a slow or dead registry delays only those who wait for its image. It is given up when
  nobody waits any more, or when the registry has sent nothing for a while.
- Pull policies: `missing` (also if_not_present), `always` (and nothing else will do), `never`; without one as above.
  Our own image is never asked for where it is.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Any

import structlog

from essaim.agent.runtime.identity import WHOAMI, repository
from essaim.agent.runtime.interface import Rejected, RuntimeUnavailable

from .engine import Engine, EngineError, json_lines
from .pull_progress import PullProgress

SAY_EVERY = 2.0
"""Seconds between two words on a pull's progress: each becomes a write to the cluster's log."""
SILENT_MOST = 60.0
"""Seconds without any word of progress after which a pull is given up."""
FRESH_WITHIN = 5.0
"""Seconds that a registry has to say its first word to a node that has some image of the tag."""
LEAVE_ALONE = 60.0
"""Seconds for which a registry that said nothing is not asked for what the node has."""


Say = Callable[[str], None]


@dataclass(slots=True)
class _Pull:
    """`listeners` are told how far it has come, one for each who waits. `spoken`: the registry has said a word."""

    task: asyncio.Task[None]
    listeners: list[Say]
    spoken: asyncio.Event


class Images:
    def __init__(self, engine: Engine, log: structlog.typing.FilteringBoundLogger) -> None:
        self._engine = engine
        self._log = log
        self._pulls: dict[tuple[str, str], _Pull] = {}
        self._silent_until: dict[str, float] = {}

    async def ensure(self, image: str, *, policy: str = "", auth: str = "", say: Say = lambda _: None) -> None:
        """Return once the image is on the node; `say` hears how far a pull is. Raises Rejected, RuntimeUnavailable."""
        may_move = policy == "" and "@" not in image and repository(image) != WHOAMI
        if policy != "always" and await self.is_here(image):
            if may_move:
                await self._refresh(image, auth, say)
            return
        if policy == "never":
            raise Rejected(f"No such image: {image} (it is not on this node, and its pull policy is never)")
        await self._pull_shared(image, auth, say)

    async def _refresh(self, image: str, auth: str, say: Say) -> None:
        """Pull what the tag means by now, if its registry answers soon."""
        loop, registry = asyncio.get_running_loop(), registry_of(image)
        if loop.time() < self._silent_until.get(registry, 0.0):
            return
        pulling = asyncio.ensure_future(self._pull_shared(image, auth, say))
        await asyncio.sleep(0)  # it has begun, or joined another's
        pull = self._pulls.get((image, auth))
        spoken = asyncio.ensure_future(pull.spoken.wait() if pull else asyncio.sleep(0))
        try:
            await asyncio.wait([pulling, spoken], timeout=FRESH_WITHIN, return_when=asyncio.FIRST_COMPLETED)
            if not pulling.done() and not spoken.done():
                self._silent_until[registry] = loop.time() + LEAVE_ALONE
                self._log.warning("a registry does not answer; what the node has is used", image=image)
                return
            await pulling
        except (Rejected, RuntimeUnavailable) as problem:
            self._log.info("an image could not be refreshed; what the node has is used", reason=str(problem))
        finally:
            for each in (pulling, spoken):
                each.cancel()
            await asyncio.gather(pulling, spoken, return_exceptions=True)

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
            spoken = asyncio.Event()
            task = asyncio.create_task(self._pull(image, auth, listeners, spoken), name=f"pull {image}")
            pull = self._pulls[key] = _Pull(task, listeners, spoken)
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

    async def _pull(self, image: str, auth: str, listeners: list[Say], spoken: asyncio.Event) -> None:
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
                await self._follow(_heard(json_lines(response), spoken), image, progress, silence, listeners)
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


async def _heard(
    messages: AsyncGenerator[dict[str, Any], None], spoken: asyncio.Event
) -> AsyncGenerator[dict[str, Any], None]:
    async with contextlib.aclosing(messages):
        async for message in messages:
            spoken.set()
            yield message


def registry_of(image: str) -> str:
    """`reg:5000/a/b:1` is of `reg:5000`; a first part that is no host's name is a folder of Docker's own registry."""
    first, slash, _ = image.partition("/")
    return first if slash and ("." in first or ":" in first or first == "localhost") else "docker.io"


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
