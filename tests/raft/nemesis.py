"""What the simulated world does to the members: faults, membership changes, and hosts that join."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from essaim.raft.core import guard
from essaim.raft.core.core import Core, Dropped
from essaim.raft.core.members import Change, ChangeKind, RefusedChange


@dataclass(frozen=True)
class Faults:
    """What the world does to the members. Probabilities are per message; delays in seconds."""

    loss: float = 0.02
    duplication: float = 0.02
    delay: tuple[float, float] = (0.001, 0.02)
    straggler: float = 0.02  # messages that take up to `late` seconds: reordering
    late: float = 1.0
    append_bytes: int = 400  # of entries in a message
    inflight: int = 4  # messages with entries
    down: tuple[float, float] = (0.05, 2)  # seconds that a crashed member is away
    disk: tuple[float, float] = (0.001, 0.01)
    nemesis: float = 0.4  # mean seconds between the nemesis' ideas; 0 for none
    ideas: tuple[str, ...] = ("partition", "one way", "heal", "crash", "restart", "slow disk", "transfer", "members")
    duration: float = 8.0
    clients: int = 4
    think: float = 0.04  # mean seconds between a client's operations
    synced: bool = True  # False: the disk claims to be done before it is (a mutation)
    stable: bool = False  # whether a change of leader after the first one is a violation
    snapshots: float = 0.15  # how often the nemesis' ideas come with a snapshot, for each member
    unreachable: float = 0.4  # share of those who join


class Nemesis:
    """The part of a `World` that has ideas; `make_member` and the rest are the world's."""

    random: Random
    faults: Faults
    members: dict[int, Any]
    unreachable: set[int]
    blocked: set[tuple[int, int]]
    calm: bool
    later: Callable[..., None]
    trace: Callable[[str], None]
    make_member: Callable[[int], Any]

    def nemesis(self) -> None:
        if self.calm:
            return
        idea = self.random.choice(self.faults.ideas)
        victim = self.random.choice(list(self.members.values()))
        leader = next((m for m in self.members.values() if m.core is not None and m.core.is_leader), victim)
        if self.faults.stable:  # the leader itself is left alone
            victim = self.random.choice([m for m in self.members.values() if m is not leader])
        elif self.random.random() < 0.5:
            victim = leader
        self.trace(f"nemesis: {idea} {victim.id}")
        getattr(self, "do_" + idea.replace(" ", "_"))(victim)
        for member in self.members.values():
            if self.random.random() < self.faults.snapshots:
                member.snapshot()
        self.later(self.random.expovariate(1 / self.faults.nemesis), self.nemesis)

    def do_partition(self, victim: Any) -> None:
        others = [i for i in self.members if i != victim.id]
        self.isolate_side({victim.id, *self.random.sample(others, self.random.randrange(len(others)))})

    def do_isolate(self, victim: Any) -> None:
        self.isolate_side({victim.id})

    def do_one_way(self, victim: Any) -> None:
        for other in self.members:
            if self.random.random() < 0.6:
                self.blocked.add((victim.id, other) if self.random.random() < 0.5 else (other, victim.id))

    def do_heal(self, _: Any) -> None:
        self.blocked = set()

    def do_crash(self, victim: Any) -> None:
        if victim.core is not None:
            victim.crash()
            self.later(self.random.uniform(*self.faults.down), self.restart, victim)

    def do_restart(self, _: Any) -> None:
        """All at once: only what is on the disks is left."""
        for member in self.members.values():
            if member.core is not None and self.random.random() < 0.9:
                member.crash()
            self.later(self.random.uniform(0.05, 0.3), self.restart, member)

    def restart(self, member: Any) -> None:
        if member.core is None:
            member.start()

    def do_slow_disk(self, victim: Any) -> None:
        victim.disk.slow = self.random.choice((1.0, 10.0, 50.0))

    def do_transfer(self, victim: Any) -> None:
        if victim.core is None or not victim.core.is_leader:
            return
        try:
            victim.core.transfer(self.random.choice(victim.core.members.voters))
        except (Dropped, RefusedChange):
            return
        victim.pump()

    def do_members(self, victim: Any) -> None:
        core = victim.core
        if core is None or not core.is_leader:
            return
        self.propose_change(victim, core, self.random_changes(core))

    def do_replace(self, victim: Any) -> None:
        """Most members at once: new ones come, and are soon alone with the leader."""
        core = victim.core
        if core is None or not core.is_leader or max(self.members) > 12:
            return
        new = max(self.members) + 1
        old = self.random.sample(core.members.voters, len(core.members.voters) - 1)
        changes = [Change(ChangeKind.PROMOTE, new + i, f"m{new + i}") for i in range(3)]
        self.propose_change(victim, core, [*changes, *(Change(ChangeKind.REMOVE, i) for i in old)])
        self.later(self.random.uniform(0, 0.1), self.isolate_side, {victim.id, *(i for i in self.members if i >= new)})

    def do_join(self, victim: Any) -> None:
        """A host joins as a learner; some say an address at which nobody reaches them."""
        core = victim.core
        if core is None or not core.is_leader or len(self.members) >= 10:
            return
        new = max(self.members) + 1
        if self.random.random() < self.faults.unreachable:
            self.unreachable.add(new)
        self.propose_change(victim, core, [Change(ChangeKind.ADD_LEARNER, new, f"m{new}")])

    def do_promote(self, victim: Any) -> None:
        """As the keeper of a real cluster does it: every learner that the guard lets."""
        if victim.core is not None and victim.core.is_leader:
            for learner in victim.core.members.learners:
                self.guarded(victim, victim.core, Change(ChangeKind.PROMOTE, learner))

    def do_retire(self, victim: Any) -> None:
        """A voter leaves, the founders first; nobody leaves a cluster of two, of whom one may be down at once."""
        core = victim.core
        if core is not None and core.is_leader and len(core.members.voters) > 2:
            self.guarded(victim, core, Change(ChangeKind.REMOVE, min(core.members.voters)))

    def guarded(self, victim: Any, core: Core, change: Change) -> None:
        standings = {
            member: guard.Standing(progress.match, member == core.state.id or progress.silent < 2)
            for member in core.members.everyone
            if (progress := core.progress(member)) is not None
        }
        index, now = core.state.configurations[-1]
        try:
            guard.judge(guard.Situation(now, index, core.state.log.last, standings), [change])
        except (RefusedChange, guard.Premature):
            return
        self.propose_change(victim, core, [change])

    def isolate_side(self, side: set[int]) -> None:
        self.blocked = {(a, b) for a in self.members for b in self.members if (a in side) != (b in side)}

    def propose_change(self, victim: Any, core: Core, changes: list[Change]) -> None:
        try:
            core.change_members(changes)
        except (Dropped, RefusedChange):
            return
        self.trace(f"{victim.id} proposes {changes}")
        for step in changes:
            if step.member not in self.members:
                self.members[step.member] = self.make_member(step.member)
                self.members[step.member].start()
        victim.pump()

    def random_changes(self, core: Core) -> list[Change]:
        changes, now = [], core.members
        size = len(now.voters)
        for _ in range(self.random.choice((1, 1, 2, 3, 4))):
            kind = self.random.choice(list(ChangeKind))
            new = max(self.members) + 1 + len(changes)
            if kind in (ChangeKind.ADD_LEARNER, ChangeKind.PROMOTE):
                known = self.random.choice([*now.learners, new])
                if len(self.members) + len(changes) < 10 or known != new:
                    changes.append(Change(kind, known, f"m{known}"))
            elif size > 2:
                changes.append(Change(kind, self.random.choice(now.everyone)))
                size -= 1
        return changes

    def make_calm(self) -> None:
        """The end of all faults: now everything has to come right."""
        self.calm, self.blocked = True, set()
        self.faults = replace(self.faults, delay=Faults.delay, disk=Faults.disk)
        for member in self.members.values():
            member.disk.slow = 1.0
            self.restart(member)
