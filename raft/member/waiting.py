"""Who waits for what on a node: proposals for their entry, reads for an index.

A proposal is sent in some term, to the log of this member if it leads, else to the leader. It can only ever take
effect in that term, so once an entry of a later term is applied it is known to have failed and is simply sent again.
Deadlines are looked at with each tick; there is no timer per proposal.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from essaim.raft.interface import NoQuorum, Stopped, Uncertain

NO_LEADER = "no leader is known: most managers are down or cannot be reached; the last known state can still be read"
KEY_BITS = 62


@dataclass(slots=True)
class Proposal:
    key: int
    command: bytes
    answer: asyncio.Future[Any]
    deadline: float  # loop time; infinity for none
    term: int = 0  # in which it was sent; 0: not sent


def settle(answer: asyncio.Future[Any], error: Exception | None = None, result: Any = None) -> None:
    """Answer, unless whoever asked has gone."""
    if not answer.done():
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(result)


class Proposals:
    """`first_key` is drawn by chance: keys of different lives and members must not meet."""

    def __init__(self, first_key: int) -> None:
        self._next = first_key
        self.unsent: list[Proposal] = []
        self.sent: dict[int, Proposal] = {}

    def next_key(self) -> int:
        self._next = (self._next + 1) % (1 << KEY_BITS) or 1
        return self._next

    def add(self, command: bytes, answer: asyncio.Future[Any], deadline: float) -> None:
        self.unsent.append(Proposal(self.next_key(), command, answer, deadline))

    def send(self, term: int, max_bytes: int) -> list[Proposal]:
        """Take proposals that are sent in `term`, up to about `max_bytes`."""
        size, count = 0, 0
        for proposal in self.unsent:
            size += len(proposal.command)
            count += 1
            proposal.term = term
            self.sent[proposal.key] = proposal
            if size > max_bytes:
                break
        taken, self.unsent = self.unsent[:count], self.unsent[count:]
        return taken

    def refused(self, keys: Iterable[int], term: int) -> None:
        """They were not taken in `term`: send them again, unless that happened already (a stopped leader refuses late,
        when the next one may have taken them: a second time would be once too often)."""
        sent = self.sent
        self._send_again([key for key in keys if key in sent and sent[key].term == term])

    def _send_again(self, keys: Iterable[int]) -> None:
        again = [p for key in keys if (p := self.sent.pop(key, None)) is not None]
        self.unsent = [*again, *self.unsent]

    def passed(self, term: int) -> None:
        """An entry of `term` is about to be applied: what was sent in earlier terms is void by now."""
        if self.sent:
            self._send_again([key for key, p in self.sent.items() if p.term < term])

    def skipped(self, term: int) -> None:
        """A snapshot that ends in `term` was restored: whether it contains what was sent is unknown."""
        for key, proposal in list(self.sent.items()):
            if proposal.term <= term:
                del self.sent[key]
                settle(proposal.answer, Uncertain("the answer was lost: this member had to take a snapshot"))

    def expire(self, now: float, *, leaderless: bool) -> None:
        """Give up what is over its deadline; or everything, when there has been no leader for too long."""
        for key, p in [(k, p) for k, p in self.sent.items() if leaderless or p.deadline <= now or p.answer.done()]:
            del self.sent[key]
            settle(p.answer, Uncertain("no quorum has confirmed the write yet; it may still take effect"))
        over = [p for p in self.unsent if leaderless or p.deadline <= now or p.answer.done()]
        if over:
            gone = {p.key for p in over}
            self.unsent = [p for p in self.unsent if p.key not in gone]
            for proposal in over:
                settle(proposal.answer, NoQuorum(NO_LEADER))

    def fail(self, reason: str) -> None:
        for proposal in [*self.unsent, *self.sent.values()]:
            settle(proposal.answer, Stopped(reason))
        self.unsent, self.sent = [], {}


@dataclass(slots=True)
class Read:
    answer: asyncio.Future[None]
    deadline: float


class Reads:
    """Reads first wait for an index (all that came together ask once), then for it to be applied.

    `first_context` is drawn by chance: an answer to a question of a former life must not pass for a new one's.
    """

    def __init__(self, first_context: int) -> None:
        self.new: list[Read] = []
        self._asked: dict[int, tuple[float, list[Read]]] = {}  # context -> (asked at, who)
        self._indexed: list[tuple[int, list[Read]]] = []
        self._context = first_context

    def add(self, answer: asyncio.Future[None], deadline: float) -> None:
        self.new.append(Read(answer, deadline))

    def ask(self, now: float) -> int:
        """The context to ask with, for all new reads; 0 if there is none."""
        if not self.new:
            return 0
        self._context = (self._context + 1) % (1 << KEY_BITS) or 1
        self._asked[self._context] = (now, self.new)
        self.new = []
        return self._context

    def answered(self, context: int, index: int) -> bool:
        """Whether the reads have to be asked again (later)."""
        _, reads = self._asked.pop(context, (0.0, []))
        if index:
            self._indexed.append((index, reads))
        else:
            self.new += reads
        return not index and bool(reads)

    def applied(self, index: int) -> None:
        if not self._indexed:
            return
        for _, reads in [item for item in self._indexed if item[0] <= index]:
            for read in reads:
                settle(read.answer)
        self._indexed = [item for item in self._indexed if item[0] > index]

    def expire(self, now: float, *, leaderless: bool, retry: float) -> None:
        """Give up what is over its deadline; ask again what got no answer for `retry` seconds."""
        for context, (asked, reads) in list(self._asked.items()):
            if now - asked >= retry:
                del self._asked[context]
                self.new += reads
        for read in self._all():
            if leaderless or read.deadline <= now:
                settle(read.answer, NoQuorum(NO_LEADER))
        self.new = [read for read in self.new if not read.answer.done()]

    def fail(self, reason: str) -> None:
        for read in self._all():
            settle(read.answer, Stopped(reason))
        self.new, self._asked, self._indexed = [], {}, []

    def _all(self) -> list[Read]:
        asked = [read for _, reads in self._asked.values() for read in reads]
        return [*self.new, *asked, *(read for _, reads in self._indexed for read in reads)]
