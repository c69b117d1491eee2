"""What reaches a member from others: hands it to the core, or to whom on the node it is for."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import structlog

from essaim.raft.core.core import Dropped
from essaim.raft.core.messages import InstallSnapshot, Message
from essaim.raft.transport.transport import Reach
from essaim.raft.transport.wire import Control, ControlReply, Forward, ForwardRefused, WireMessage

from .driver import REMOVED, Driver
from .membership import Controls

_log = structlog.get_logger("raft")


class Inbox:
    """The transport's `Receiver`. While nothing is running, everything is dropped."""

    def __init__(self, driver: Driver, controls: Controls) -> None:
        self._driver, self._controls = driver, controls

    def on_messages(self, messages: Sequence[WireMessage]) -> None:
        for message in messages:
            if self._driver.running is None:
                return
            if isinstance(message, (Forward, ForwardRefused, Control, ControlReply)):
                self._on_node_message(message)
            elif message.to == self._driver.id and not isinstance(message, InstallSnapshot):
                self._step(message)  # a snapshot comes with its data, by `on_snapshot`
        self._driver.wake()

    def on_reach(self, member: int, reach: Reach) -> None:
        core = self._driver.running
        if core is None:
            return
        if reach is Reach.REMOVED:
            self._driver.halt(REMOVED)
        elif reach is Reach.LOST:
            core.unreachable(member)
        elif reach is Reach.REFUSED and member == core.leader:
            core.leader_lost()
        self._driver.wake()

    async def on_snapshot(self, message: InstallSnapshot, path: Path) -> None:
        """A snapshot has arrived and is durable at `path`."""
        _, data = await asyncio.to_thread(self._driver.storage.snapshots.read, path)
        if self._driver.running is not None:
            self._driver.received[message.meta.index] = data
            self._step(message)
            self._driver.wake()

    def _step(self, message: Message) -> None:
        try:
            self._driver.core.step(message)
        except AssertionError as error:
            _log.exception("this member stops: a rule of Raft was broken")
            self._driver.halt(f"this member stopped after an internal error: {error}", lasting=True)

    def _on_node_message(self, message: Forward | ForwardRefused | Control | ControlReply) -> None:
        driver = self._driver
        if isinstance(message, Forward):
            try:
                if message.term != driver.core.term:
                    raise Dropped("of another term")
                driver.core.propose(message.proposals)
            except Dropped:
                keys = [key for key, _ in message.proposals]
                driver.transport.send([ForwardRefused(message.sender, driver.id, driver.core.term, message.term, keys)])
        elif isinstance(message, ForwardRefused):
            driver.proposals.refused(message.keys, message.proposed)
        elif isinstance(message, Control):
            driver.transport.send([self._controls.decide(message)])
        else:
            self._controls.answered(message)
