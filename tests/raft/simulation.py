"""A deterministic world for the Raft core: time, network, disks and clients from one seed.

Everything that happens is an event in one queue; every choice comes from one random generator. The same seed and the
same faults therefore give the same run, to the last message. Invariants are checked as things happen:
- election safety: one leader a term; and no member votes for two candidates in a term;
- log matching: two entries of one index and term are the same and have the same predecessor;
- leader completeness: a new leader has every entry that was ever committed;
- state machine safety: no two members apply different entries at one index, none applies one twice;
- no acknowledged write is lost, and what clients saw is linearizable;
- a member that nobody can reach never gets a vote.

The network is that of the nodes: a message goes to the address that its sender knows of by its `Contacts`, and a
caller says its own address when it opens a stream, which stays open while the sender wants it.
"""

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
from linearizability import Operation, is_linearizable
from nemesis import Faults, Nemesis

from essaim.raft.core.core import Core, Dropped, Ready
from essaim.raft.core.entries import Entry, HardState, Kind, SnapshotMeta
from essaim.raft.core.members import decode_configuration, encode_configuration, first_configuration
from essaim.raft.core.messages import InstallSnapshot, Message, VoteReply
from essaim.raft.core.state import Role, Settings, Write
from essaim.raft.disk.storage import LogRecord, Replay
from essaim.raft.disk.wal import Record
from essaim.raft.transport.contacts import Contacts

TICK = 0.05
KEYS = ("a", "b", "c")


class Violation(Exception):
    """An invariant does not hold."""


@dataclass
class Disk:
    """What survives a crash: complete records, in order, and snapshots."""

    records: list[bytes] = field(default_factory=list)
    snapshots: list[tuple[SnapshotMeta, bytes]] = field(default_factory=list)
    slow: float = 1.0
    mark: tuple[int, int] | None = None  # as in Storage

    def recover(self) -> tuple[HardState, SnapshotMeta, bytes, list[Entry]]:
        replay = Replay()
        for number, payload in enumerate(self.records):
            replay.take(Record(Path("simulated"), number, payload))
        meta, data = max(self.snapshots, key=lambda s: s[0].index, default=(SnapshotMeta(), b""))
        entries = replay.after(meta) if meta.index else replay.entries
        self.mark = (meta.index, meta.term) if entries is None else None
        return replay.state, meta, data, entries or []


@dataclass
class Request:
    """A client's operation under way."""

    op: Operation
    done: bool = False


class Member:
    """A member's node: carries out what its core says, on the simulated disk and network."""

    def __init__(self, world: "World", number: int) -> None:
        self.world, self.id = world, number
        self.disk = Disk()
        self.core: Core | None = None
        self.contacts = Contacts(number)
        self.streams: dict[int, int] = {}  # to whom -> in which of its lives
        self.rate = world.random.uniform(0.8, 1.25)
        self.life = 0  # counts starts: what belongs to an earlier life is void
        self.kv: dict[str, int] = {}
        self.applied = 0
        self.writes: dict[int, Request] = {}
        self.reads: dict[int, Request] = {}
        self.waiting: list[tuple[int, Request]] = []

    def start(self) -> None:
        world = self.world
        hard, meta, data, entries = self.disk.recover()
        faults = world.faults
        settings = Settings(
            self.id,
            world.random.randrange,
            max_append_bytes=faults.append_bytes,
            max_inflight=faults.inflight,
            max_write_bytes=world.random.choice((100, 10_000)),
            max_apply_bytes=world.random.choice((100, 10_000)),
        )
        self.core = Core(settings, hard, meta, entries)
        self.contacts, self.streams = Contacts(self.id), {}
        self.life += 1
        self.kv, self.applied = {}, 0
        if meta.index:
            self.restore(meta, data)
        world.trace(f"{self.id} starts: {hard} snapshot {meta.index} log to {self.core.state.log.last}")
        world.later(TICK * world.random.random(), self.tick, self.life)
        self.pump()

    def crash(self) -> None:
        self.world.trace(f"{self.id} crashes")
        self.core = None
        self.life += 1
        self.writes, self.reads, self.waiting = {}, {}, []

    def tick(self, life: int) -> None:
        if life == self.life and self.core is not None:
            self.core.tick()
            if self.world.random.random() < 0.02:
                self.core.want_commit_saved()
            self.world.later(TICK * self.rate, self.tick, life)
            self.pump()

    def receive(self, message: Message, data: bytes) -> None:
        if self.core is None:
            return
        self.world.trace(f"{self.id} < {message}")
        if isinstance(message, InstallSnapshot) and all(m.index != message.meta.index for m, _ in self.disk.snapshots):
            self.disk.snapshots.append((message.meta, data))
        self.core.step(message)
        self.pump()

    def pump(self) -> None:
        while self.core is not None:
            ready = self.core.ready()
            self.world.observe(self)
            if self.contacts.follow(self.core.state.configurations, self.applied, self.core.leader):
                wanted = self.contacts.wanted()
                self.streams = {to: life for to, life in self.streams.items() if to in wanted}
            if ready == Ready():
                return
            for message in ready.messages:
                self.send(message)
            if ready.write is not None:
                self.begin_write(ready.write)
            if ready.restore is not None:
                self.restore(*max(self.disk.snapshots, key=lambda s: s[0].index))
            for entry in ready.committed:
                self.apply(entry)
            self.finish_reads(ready.reads)

    def send(self, message: Message) -> None:
        if self.contacts.address(message.to) is not None:
            self.world.send(self, message)
        elif isinstance(message, InstallSnapshot):
            self.world.later(0.1, self.world.snapshot_sent, self.id, self.life, message.to, False)
        elif self.core is not None:
            self.core.unreachable(message.to)

    def begin_write(self, write: Write) -> None:
        self.world.note_entries(self, write)
        mark = (write.snapshot.index, write.snapshot.term) if write.snapshot else self.disk.mark
        self.disk.mark = None
        payload = msgspec.msgpack.encode(LogRecord(write.state, write.entries, mark))
        low, high = self.world.faults.disk
        delay = self.world.random.uniform(low, high) * self.disk.slow
        if self.world.faults.synced:
            self.world.later(delay, self.written, self.life, payload)
        else:
            self.world.later(delay * 20, self.reached_disk, self.life, payload)
            self.world.later(0, self.claim_written, self.life)

    def reached_disk(self, life: int, payload: bytes) -> None:
        if life == self.life:  # a crash tears what was under way, and the start cuts it off
            self.disk.records.append(payload)

    def claim_written(self, life: int) -> None:
        if life == self.life and self.core is not None:
            self.core.advance()
            self.pump()

    def written(self, life: int, payload: bytes) -> None:
        self.reached_disk(life, payload)
        self.claim_written(life)

    def restore(self, meta: SnapshotMeta, data: bytes) -> None:
        self.kv, self.applied = msgspec.msgpack.decode(data, type=dict[str, int]), meta.index
        self.writes = {}
        self.after_apply()

    def apply(self, entry: Entry) -> None:
        self.world.note_applied(self, entry)
        self.applied = entry.index
        if entry.kind == Kind.COMMAND:
            key, value = msgspec.msgpack.decode(entry.data)
            self.kv[key] = value
        request = self.writes.pop(entry.key, None)
        if request is not None:
            self.world.answer(request)
        self.after_apply()

    def after_apply(self) -> None:
        due = [r for index, r in self.waiting if index <= self.applied]
        self.waiting = [(i, r) for i, r in self.waiting if i > self.applied]
        for request in due:
            request.op.value = self.kv.get(request.op.key, 0)
            self.world.answer(request)

    def finish_reads(self, reads: list[tuple[int, int]]) -> None:
        for context, index in reads:
            request = self.reads.pop(context, None)
            if request is not None and index:
                self.waiting.append((index, request))
            elif request is not None:
                self.world.again(request)
        self.after_apply()

    def snapshot(self) -> None:
        if self.core is None or self.applied <= self.core.state.log.base:
            return
        if self.applied > self.core.state.log.durable or self.core.state.restore is not None:
            return
        meta = self.core.meta_at(self.applied)
        self.disk.snapshots.append((meta, msgspec.msgpack.encode(self.kv)))
        self.core.snapshot_saved(meta, keep=self.world.random.choice((0, 3)))
        self.world.trace(f"{self.id} has a snapshot at {meta.index}")


class World(Nemesis):
    """Build with a seed, `run()`; raises `Violation` with the seed in it."""

    def __init__(self, seed: int, faults: Faults | None = None, *, members: int = 0, traced: bool = False) -> None:
        self.seed, self.faults, self.traced = seed, faults or Faults(), traced
        self.random = random.Random(seed)
        self.now = 0.0
        self.lines: list[str] = []
        self._queue: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._count = 0
        self.blocked: set[tuple[int, int]] = set()
        self.calm = False
        self.history: list[Operation] = []
        self.leaders: dict[int, int] = {}  # term -> member
        self.voted: dict[tuple[int, int], int] = {}  # (member, term) -> candidate
        self.entries: dict[tuple[int, int], tuple[bytes, int]] = {}  # (index, term) -> (content, term before)
        self.committed: dict[int, tuple[int, bytes]] = {}  # index -> (term, data)
        self.acknowledged: set[bytes] = set()
        count = members or self.random.choice((3, 3, 4, 5, 5, 6, 7))
        self.members = {i: Member(self, i) for i in range(1, count + 1)}
        self.unreachable: set[int] = set()  # joined with an address that nobody reaches; they reach others
        first = encode_configuration(first_configuration({i: f"m{i}" for i in self.members}))
        for member in self.members.values():
            member.disk.records.append(
                msgspec.msgpack.encode(LogRecord(HardState(1, 0, 1), [Entry(1, 1, Kind.MEMBERS, data=first)]))
            )

    def make_member(self, number: int) -> Member:
        return Member(self, number)

    # Time and trace.

    def later(self, delay: float, call: Callable[..., None], *args: Any) -> None:
        self._count += 1
        heapq.heappush(self._queue, (self.now + delay, self._count, call, args))

    def trace(self, line: str) -> None:
        if self.traced:
            self.lines.append(f"{self.now:9.4f} {line}")

    def run(self) -> None:
        try:
            self._run()
        except Violation as error:
            raise Violation(f"seed {self.seed} at {self.now:.4f}: {error}") from None
        except Exception as error:
            raise Violation(f"seed {self.seed} at {self.now:.4f}: {type(error).__name__}: {error}") from error

    def _run(self) -> None:
        for member in self.members.values():
            member.start()
        for client in range(self.faults.clients):
            self.later(self.random.random(), self.client, client)
        if self.faults.nemesis:
            self.later(1.0, self.nemesis)
        self._until(self.faults.duration)
        self.make_calm()
        self._until(self.faults.duration + 6)
        self.check_end()

    def _until(self, end: float) -> None:
        while self._queue and self._queue[0][0] <= end:
            self.now, _, call, args = heapq.heappop(self._queue)
            call(*args)

    # The network.

    def send(self, sender: Member, message: Message) -> None:
        if isinstance(message, VoteReply) and message.granted and not message.pre:
            self.note_vote(sender.id, message)
        data = b""
        if isinstance(message, InstallSnapshot):
            found = [d for m, d in sender.disk.snapshots if m == message.meta]
            data = found[-1]
        lost = (sender.id, message.to) in self.blocked or (not self.calm and self.random.random() < self.faults.loss)
        copies = 0 if lost else 1 + (not self.calm and self.random.random() < self.faults.duplication)
        for _ in range(copies):
            delay = self.random.uniform(*self.faults.delay)
            if not self.calm and self.random.random() < self.faults.straggler:
                delay += self.random.random() * self.faults.late
            self.later(delay, self.deliver, message, data)
        if isinstance(message, InstallSnapshot):
            self.later(0.1, self.snapshot_sent, sender.id, sender.life, message.to, copies > 0)

    def deliver(self, message: Message, data: bytes) -> None:
        member, sender = self.members.get(message.to), self.members[message.sender]
        if member is None or member.core is None or message.to in self.unreachable:
            return
        if (message.sender, message.to) in self.blocked:
            return
        if sender.streams.get(message.to) != member.life:
            sender.streams[message.to] = member.life
            member.contacts.called(sender.id, f"m{sender.id}")
        member.receive(message, data)

    def snapshot_sent(self, sender: int, life: int, to: int, arrived: bool) -> None:
        member = self.members[sender]
        if member.life == life and member.core is not None:
            member.core.snapshot_sent(to, arrived=arrived)
            member.pump()

    # Clients: each does one operation after the other.

    def client(self, number: int) -> None:
        if self.calm:
            return
        key, kind = self.random.choice(KEYS), self.random.choice(("read", "write"))
        self._count += 1
        op = Operation(number, kind, key, self._count if kind == "write" else 0, self.now)
        request = Request(op)
        self.attempt(request, self.random.choice(list(self.members.values())), 3)
        self.later(1.5, self.give_up, request, number)

    def attempt(self, request: Request, member: Member, tries: int) -> None:
        """Go to a member, on to the leader that it names, or to another member a little later."""
        core, op = member.core, request.op
        if request.done or self.calm:
            return
        self._count += 1
        number = self._count
        if core is not None and op.kind == "read":
            member.reads[number] = request
            core.read(number)
        elif core is not None and core.is_leader:
            try:
                core.propose([(number, msgspec.msgpack.encode((op.key, op.value)))])
            except Dropped:
                self.again(request)
                return
            self.history.append(op)
            member.writes[number] = request
        elif core is not None and core.leader in self.members and tries:
            self.later(0.002, self.attempt, request, self.members[core.leader], tries - 1)
        else:
            self.again(request)
        member.pump()

    def again(self, request: Request) -> None:
        member = self.random.choice(list(self.members.values()))
        self.later(self.random.uniform(0.01, 0.1), self.attempt, request, member, 3)

    def answer(self, request: Request) -> None:
        if request.done:
            return
        request.done = True
        op = request.op
        op.returned = self.now
        self.trace(f"client {op.client}: {op.kind} {op.key} {op.value}")
        if op.kind == "read":
            self.history.append(op)
        else:
            self.acknowledged.add(msgspec.msgpack.encode((op.key, op.value)))
        self.later(self.random.expovariate(1 / self.faults.think), self.client, op.client)

    def give_up(self, request: Request, number: int) -> None:
        if not request.done:
            request.done = True
            self.client(number)

    # Invariants.

    def note_vote(self, voter: int, message: VoteReply) -> None:
        if self.voted.setdefault((voter, message.term), message.to) != message.to:
            raise Violation(f"{voter} votes for two candidates in term {message.term}")

    def observe(self, member: Member) -> None:
        core = member.core
        assert core is not None
        state = core.state
        if self.unreachable.intersection(core.members.deciders):
            raise Violation(f"a member that nobody reaches has a vote: {core.members}")
        if state.role is Role.LEADER and self.leaders.get(state.term) != member.id:
            if state.term in self.leaders:
                raise Violation(f"{self.leaders[state.term]} and {member.id} both lead term {state.term}")
            if self.leaders and self.faults.stable:
                raise Violation(f"{member.id} leads term {state.term} although the leader before was well")
            self.leaders[state.term] = member.id
            self.trace(f"{member.id} leads term {state.term}")
            self.check_complete(member)

    def check_complete(self, member: Member) -> None:
        assert member.core is not None
        log = member.core.state.log
        for index, (term, _) in self.committed.items():
            if index >= log.base and log.term_at(index) != term:
                raise Violation(f"the new leader {member.id} lacks the committed entry {index} of term {term}")

    def note_entries(self, member: Member, write: Write) -> None:
        assert member.core is not None
        log = member.core.state.log
        if not write.entries:
            return
        before = log.term_at(write.entries[0].index - 1) or 0
        for entry in write.entries:
            content = (entry.data, before)
            if self.entries.setdefault((entry.index, entry.term), content) != content:
                raise Violation(f"{member.id} has another entry {entry.index} of term {entry.term} than others")
            before = entry.term

    def note_applied(self, member: Member, entry: Entry) -> None:
        if entry.index != member.applied + 1:
            raise Violation(f"{member.id} applies {entry.index} after {member.applied}")
        content = (entry.term, entry.data)
        if self.committed.setdefault(entry.index, content) != content:
            raise Violation(f"{member.id} applies another entry {entry.index} than others did")

    def check_end(self) -> None:
        """Everything is well again: the cluster works, all agree, and nothing that clients were told is untrue."""
        leaders = [m for m in self.members.values() if m.core is not None and m.core.is_leader]
        if not leaders:
            raise Violation("nobody leads although nothing is wrong any more")
        core = max(leaders, key=lambda m: m.core.term if m.core else 0).core
        assert core is not None
        for number in core.members.everyone:
            if number in self.unreachable:
                continue
            member = self.members[number]
            if member.applied != core.state.log.last or core.members.joint:
                raise Violation(f"{number} applied {member.applied} of {core.state.log.last} although nothing is wrong")
        applied = {data for _, data in self.committed.values()}
        if lost := self.acknowledged - applied:
            raise Violation(f"acknowledged writes are lost: {lost}")
        for key in KEYS:
            if not is_linearizable([op for op in self.history if op.key == key]):
                raise Violation(f"the history of {key} is not linearizable")


def run(seed: int, faults: Faults | None = None, **options: Any) -> World:
    """One run; on a violation, once more with a trace, whose end is added to the error."""
    try:
        world = World(seed, faults, **options)
        world.run()
    except Violation:
        world = World(seed, faults, **{**options, "traced": True})
        try:
            world.run()
        except Violation as error:
            error.add_note("\n".join(world.lines[-200:]))
            raise
    return world


__all__ = ["Faults", "Violation", "World", "decode_configuration", "replace", "run"]
