"""The agent's line to the leading manager: dial, introduce oneself, keep it alive, come back after a loss.

- One session at a time. `Hello` goes first; nothing else leaves before `Welcome`.
- Silence ends a session (`wire.agent_patience`), so that a dead peer behind a live connection is noticed; soon enough
  for another one to begin before the manager calls the node down.
- Attempts are spaced by jittered, doubling pauses: a thousand agents that lost the same manager must not come back in
  the same instant. A redirect to a known leader, and a session that lasted, start from the shortest pause again.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec
import structlog

from essaim.cluster import wire
from essaim.cluster.wire import Channel, FromAgent, Hello, ToAgent, agent_patience

ANSWER_WITHIN = 10.0
"""Seconds for dialling, and for the answer to Hello."""
PAUSE_FIRST = 0.1
PAUSE_MOST = 5.0
LASTED = 5.0
"""Seconds after which a session counts as a success: a manager that hangs up again and again is not stormed."""


class SessionEnded(Exception):
    """Why a session is over; it is opened again."""


class Refusal(SessionEnded):
    """The manager does not know this node any more: no further attempts."""


class Redirected(SessionEnded):
    def __init__(self, leader: str) -> None:
        super().__init__(f"manager {leader} leads" if leader else "no manager leads at present")
        self.leader = leader


class Backoff:
    """Pauses between attempts in seconds. `chance` gives numbers in [0, 1)."""

    def __init__(self, chance: Callable[[], float]) -> None:
        self._chance = chance
        self._limit = 0.0

    def reset(self) -> None:
        self._limit = PAUSE_FIRST

    def next(self) -> float:
        """0 at first, then between half and the whole of a doubling limit."""
        pause = self._limit * (0.5 + self._chance() / 2)
        self._limit = min(max(self._limit * 2, PAUSE_FIRST), PAUSE_MOST)
        return pause


@dataclass(frozen=True, slots=True)
class Hooks:
    """`jobs` are started with each welcomed session and cancelled with it; `handle` gets every message in order."""

    hello: Callable[[], Awaitable[Hello]]
    handle: Callable[[ToAgent], Awaitable[None]]
    jobs: Callable[[], list[Awaitable[None]]]


class Session:
    """`run` lives until it is cancelled or the node is refused; `send` is for the hooks, while a session is open."""

    def __init__(
        self,
        dial: Callable[[], Awaitable[Channel]],
        hooks: Hooks,
        *,
        chance: Callable[[], float],
        monotonic: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
        log: structlog.typing.FilteringBoundLogger,
    ) -> None:
        self._dial = dial
        self._hooks = hooks
        self._monotonic = monotonic
        self._sleep = sleep
        self._log = log
        self._backoff = Backoff(chance)
        self._channel: Channel | None = None
        self.manager_version = 0
        """What the manager understands (`wire.SESSION`)."""
        self._said = ""

    @property
    def is_open(self) -> bool:
        return self._channel is not None

    async def run(self) -> None:
        """Raises Refusal."""
        while True:
            await self._sleep(self._backoff.next())
            try:
                await self._once()
            except Refusal:
                raise
            except Redirected as reason:
                if reason.leader:
                    self._backoff.reset()
                self._say(str(reason))
            except SessionEnded as reason:
                self._say(str(reason))
            except Exception:
                self._log.exception("the session with the manager failed")

    async def send(self, message: FromAgent) -> None:
        """Raises SessionEnded without a session, or when it breaks."""
        if self._channel is None:
            raise SessionEnded("there is no session with a manager")
        try:
            await self._channel.send(wire.encode(message))
        except OSError as error:
            raise SessionEnded(f"the session broke while sending: {error}") from error

    def _say(self, reason: str) -> None:
        """Log a reason once, not at every attempt."""
        if reason != self._said:
            self._log.warning("no session with a manager; trying again", reason=reason)
            self._said = reason

    async def _once(self) -> None:
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                channel = await self._dial()
        except (OSError, TimeoutError) as error:
            raise SessionEnded(f"no manager could be reached: {error or 'no answer in time'}") from error
        try:
            await self._converse(channel)
        finally:
            self._channel = None
            with contextlib.suppress(OSError):
                await channel.close()

    async def _converse(self, channel: Channel) -> None:
        hello = await self._hooks.hello()
        try:
            await channel.send(wire.encode(hello))
        except OSError as error:
            raise SessionEnded(f"the session broke while saying hello: {error}") from error
        welcome = await _receive(channel, ANSWER_WITHIN)
        if not isinstance(welcome, wire.Welcome):
            await self._turned_away(welcome)
            return
        self._channel = channel
        self.manager_version = welcome.version
        self._said = ""
        self._log.info("session with a manager open", heartbeat=welcome.heartbeat)
        await self._hooks.handle(welcome)
        opened = self._monotonic()
        ends: BaseExceptionGroup[SessionEnded] | None = None
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._beat(welcome.heartbeat))
                for job in self._hooks.jobs():
                    group.create_task(_as_coroutine(job))
                await self._receive_all(channel, agent_patience(welcome.heartbeat))
        except* SessionEnded as ended:
            # Raised below: what is raised here would come out in a group, which nobody takes for the end of a session.
            ends = ended
        finally:
            if self._monotonic() - opened >= LASTED:
                self._backoff.reset()
        if ends is not None:
            raise _first(ends)

    async def _turned_away(self, message: ToAgent) -> None:
        await self._hooks.handle(message)
        if isinstance(message, wire.Redirect):
            raise Redirected(message.leader)
        if isinstance(message, wire.Refused):
            raise Refusal(message.reason)
        raise SessionEnded(f"the manager answered hello with {type(message).__name__}")

    async def _receive_all(self, channel: Channel, patience: float) -> None:
        while True:
            message = await _receive(channel, patience)
            if isinstance(message, wire.Redirect | wire.Refused):
                await self._turned_away(message)
            await self._hooks.handle(message)

    async def _beat(self, period: float) -> None:
        while True:
            await self._sleep(period)
            await self.send(wire.Heartbeat())


async def _as_coroutine(job: Awaitable[None]) -> None:
    await job


async def _receive(channel: Channel, patience: float) -> ToAgent:
    try:
        async with asyncio.timeout(patience):
            data = await channel.receive()
    except TimeoutError:
        raise SessionEnded(f"the manager was silent for {patience:g} s") from None
    except OSError as error:
        raise SessionEnded(f"the session broke: {error}") from error
    if data is None:
        raise SessionEnded("the manager closed the session")
    try:
        return wire.decode_to_agent(data)
    except msgspec.DecodeError as error:
        raise SessionEnded(f"the manager sent what cannot be read: {error}") from error


def _first(group: BaseExceptionGroup[SessionEnded]) -> SessionEnded:
    """The refusal or redirect among several ends, or else the first."""
    ends = list(_flat(group))
    special = [end for end in ends if isinstance(end, Refusal | Redirected)]
    return (special or ends)[0]


def _flat(group: BaseExceptionGroup[SessionEnded]) -> list[SessionEnded]:
    found: list[SessionEnded] = []
    for error in group.exceptions:
        found += _flat(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
