"""What a leader knows of one peer, and how much it may send (after the flow control of dissertation 10.2).

Pure: counters. States: PROBE sends one message and waits for its answer; REPLICATE sends ahead of the answers, up to
`max_inflight` messages; SNAPSHOT sends nothing but heartbeats until the snapshot has arrived or failed.
`match` < `next` always; entries up to `match` are durable on the peer.
"""

from collections import deque
from dataclasses import dataclass, field
from enum import Enum


class Sending(Enum):
    PROBE = "probe"
    REPLICATE = "replicate"
    SNAPSHOT = "snapshot"


@dataclass(slots=True)
class Progress:
    next: int
    match: int = 0
    state: Sending = Sending.PROBE
    waiting: bool = False  # PROBE: a message is out; SNAPSHOT: always
    inflight: deque[int] = field(default_factory=deque)  # REPLICATE: last index of each unanswered message
    snapshot: int = 0  # SNAPSHOT: the index that the peer will have
    active: bool = False  # heard from since the last check of the quorum
    silent: int = 0  # checks of the quorum in a row before which it was not heard from
    commit_sent: int = 0  # the commit index that the peer was last told
    round: int = 0  # the newest read round that the peer confirmed

    def paused(self, max_inflight: int) -> bool:
        if self.state is Sending.REPLICATE:
            return len(self.inflight) >= max_inflight
        return self.waiting

    def sent(self, last: int, *, entries: int) -> None:
        """A message with `entries` entries up to `last` left."""
        if self.state is Sending.REPLICATE:
            if entries:
                self.next = last + 1
                self.inflight.append(last)
        else:
            self.waiting = True

    def acknowledged(self, index: int) -> bool:
        """The peer has everything up to `index`; whether that is news."""
        inflight = self.inflight
        while inflight and inflight[0] <= index:
            inflight.popleft()
        self.next = max(self.next, index + 1)
        if index <= self.match:
            if self.state is Sending.PROBE and index == self.match:
                self.replicate()
            return False
        self.match = index
        if self.state is Sending.PROBE or (self.state is Sending.SNAPSHOT and index >= self.snapshot):
            self.replicate()
        return True

    def rejected(self, at: int, next_try: int) -> bool:
        """The peer does not have the entry at `at`: go on at `next_try`. False if the answer is out of date."""
        if self.state is Sending.REPLICATE:
            if at <= self.match:
                return False
            self.probe(self.match + 1)
            return True
        if self.state is Sending.SNAPSHOT or at != self.next - 1:
            return False
        self.next = max(min(at, next_try), self.match + 1)
        self.waiting = False
        return True

    def probe(self, next_index: int) -> None:
        self._enter(Sending.PROBE)
        self.next = max(next_index, self.match + 1)

    def replicate(self) -> None:
        self._enter(Sending.REPLICATE)
        self.next = self.match + 1

    def send_snapshot(self, index: int) -> None:
        self._enter(Sending.SNAPSHOT)
        self.snapshot = index
        self.waiting = True

    def _enter(self, state: Sending) -> None:
        self.state = state
        self.waiting = False
        self.snapshot = 0
        self.inflight.clear()
