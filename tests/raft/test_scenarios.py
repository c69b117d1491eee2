"""Scenarios as text: prose, commands, and what they print. `ESSAIM_REWRITE=1` writes what they print now.

A block is a command, `----`, its output, and an empty line. Lines that start with `#` are prose. Disks are instant and
messages wait until `deliver`; nothing happens by chance, and time only passes with `tick`.
"""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from essaim.raft.core.core import Core, Dropped
from essaim.raft.core.entries import Entry, HardState, Kind, SnapshotMeta
from essaim.raft.core.members import Change, ChangeKind, RefusedChange, encode_configuration, first_configuration
from essaim.raft.core.messages import (
    Append,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    Message,
    VoteReply,
    VoteRequest,
)
from essaim.raft.core.state import Settings

SCENARIOS = sorted((Path(__file__).parent / "scenarios").glob("*.txt"))
KINDS = {"promote": ChangeKind.PROMOTE, "learner": ChangeKind.ADD_LEARNER, "demote": ChangeKind.DEMOTE}


def describe(m: Message) -> str:
    text = f"{m.sender}>{m.to} t{m.term} "
    if isinstance(m, VoteRequest):
        return text + f"{'pre-' if m.pre else ''}vote? last {m.last_index}/t{m.last_term}"
    if isinstance(m, VoteReply):
        return text + f"{'pre-' if m.pre else ''}vote {'yes' if m.granted else 'no'}"
    if isinstance(m, Append):
        entries = " ".join(f"{e.index}/t{e.term}" for e in m.entries) or "-"
        return text + f"append after {m.prev_index}/t{m.prev_term}: {entries} commit {m.commit}"
    if isinstance(m, AppendReply) and m.rejected:
        return text + f"rejects after {m.index}, try {m.hint_index}/t{m.hint_term}"
    if isinstance(m, AppendReply):
        return text + f"has {m.index}"
    if isinstance(m, Heartbeat):
        return text + f"heartbeat commit {m.commit} round {m.round}"
    if isinstance(m, HeartbeatReply):
        return text + f"heard round {m.round}"
    if isinstance(m, InstallSnapshot):
        return text + f"snapshot {m.meta.index}/t{m.meta.term}"
    return text + type(m).__name__


class Stage:
    """Runs the commands of one scenario; each `do_` method is one, and returns its output."""

    def __init__(self) -> None:
        self.cores: dict[int, Core | None] = {}
        self.disks: dict[int, tuple[HardState, list[Entry]]] = {}
        self.queue: list[Message] = []
        self.cuts: set[tuple[int, int]] = set()
        self.plain = False

    def run(self, line: str) -> str:
        name, *arguments = line.split()
        command: Callable[..., str | None] = getattr(self, "do_" + name)
        try:
            return command(*arguments) or "ok"
        except (Dropped, RefusedChange) as error:
            return f"refused: {error}"

    def do_start(self, count: str, mode: str = "") -> None:
        """`start 5 plain`: members 1..5, without pre-vote and check of the quorum, as in the paper, and one entry a
        message.
        """
        self.plain = mode == "plain"
        first = encode_configuration(first_configuration({i: f"m{i}" for i in range(1, int(count) + 1)}))
        for member in range(1, int(count) + 1):
            self.disks[member] = (HardState(1, 0, 1), [Entry(1, 1, Kind.MEMBERS, data=first)])
            self._boot(member)

    def do_log(self, member: str, *terms: str) -> None:
        """`log 3@7 1 1 4`: restart member 3, which has seen term 7, with entries 2.. of these terms."""
        number, seen = map(int, member.split("@"))
        entries = self.disks[number][1][:1]
        entries += [Entry(i, int(term), data=b"x") for i, term in enumerate(terms, 2)]
        self.disks[number] = (HardState(seen, 0, 1), entries)
        self._boot(number)

    def do_join(self, member: str) -> None:
        self.disks[int(member)] = (HardState(), [])
        self._boot(int(member))

    def do_campaign(self, member: str) -> None:
        self._core(member).campaign()
        self._pump()

    def do_propose(self, member: str, count: str = "1") -> str:
        term = self._core(member).propose([(0, b"x")] * int(count))
        self._pump()
        return f"in term {term}"

    def do_change(self, member: str, *steps: str) -> str:
        """`change 1 promote:4 remove:2`."""
        changes = []
        for step in steps:
            kind, _, target = step.partition(":")
            changes.append(Change(KINDS.get(kind, ChangeKind.REMOVE), int(target), f"m{target}"))
        index = self._core(member).change_members(changes)
        self._pump()
        return f"entry {index}"

    def do_transfer(self, member: str, target: str) -> None:
        self._core(member).transfer(int(target))
        self._pump()

    def do_read(self, member: str) -> None:
        self._core(member).read(1)
        self._pump()

    def do_snapshot(self, member: str) -> str:
        core = self._core(member)
        meta = core.meta_at(core.state.log.applied)
        core.snapshot_saved(meta, keep=0)
        return f"at {meta.index}/t{meta.term}"

    def do_tick(self, member: str, count: str = "1") -> str:
        lines: list[str] = []
        chosen = list(self.cores) if member == "all" else [int(member)]
        for _ in range(int(count)):
            for each in chosen:
                if (core := self.cores[each]) is not None:
                    core.tick()
            lines += self._pump()
        return "\n".join(lines)

    def do_cut(self, *pairs: str) -> None:
        """`cut 1-3 2-3`: nothing gets through, either way."""
        for pair in pairs:
            a, b = map(int, pair.split("-"))
            self.cuts |= {(a, b), (b, a)}

    def do_isolate(self, member: str) -> None:
        self.cuts |= {pair for i in self.cores for pair in ((i, int(member)), (int(member), i))}

    def do_heal(self) -> None:
        self.cuts.clear()

    def do_crash(self, member: str) -> None:
        self.cores[int(member)] = None
        self.queue = [m for m in self.queue if m.sender != int(member)]

    def do_restart(self, member: str) -> None:
        self._boot(int(member))

    def do_drop(self) -> str:
        """All messages under way are lost."""
        count, self.queue = len(self.queue), []
        return f"{count} messages"

    def do_deliver(self, how: str = "") -> str:
        """Until nothing is under way any more; `deliver quietly` does not print it; `deliver 5` is five messages;
        `deliver votes` leaves what is not about elections under way.
        """
        lines: list[str] = []
        left = int(how) if how.isdigit() else 1000
        while left and (message := self._next(votes=how == "votes")) is not None:
            left -= 1
            core = self.cores.get(message.to)
            lost = core is None or (message.sender, message.to) in self.cuts
            lines.append(describe(message) + (" (lost)" if lost else ""))
            if core is not None and not lost:
                core.step(message)
            if isinstance(message, InstallSnapshot) and (sender := self.cores[message.sender]) is not None:
                sender.snapshot_sent(message.to, arrived=not lost)
            lines += self._pump()
        return "ok" if how == "quietly" else "\n".join(lines)

    def do_status(self) -> str:
        lines = []
        for member, core in self.cores.items():
            if core is None:
                lines.append(f"{member} down")
                continue
            state, log = core.state, core.state.log
            entries = " ".join(f"{e.index}/t{e.term}" for e in log.slice(log.base + 1, log.last))
            base = f"[..{log.base}/t{log.base_term}] " if log.base else ""
            lines.append(
                f"{member} {state.role.value} t{state.term} commit {log.committed} log {base}{entries}".rstrip()
            )
        return "\n".join(lines)

    def do_members(self, member: str) -> str:
        now = self._core(member).members
        parts = {"voters": now.voters, "outgoing": now.outgoing, "learners": now.learners, "removed": now.removed}
        return " ".join(f"{name} {','.join(map(str, ids))}" for name, ids in parts.items() if ids)

    def _next(self, *, votes: bool) -> Message | None:
        for message in self.queue:
            if not votes or isinstance(message, (VoteRequest, VoteReply)):
                self.queue.remove(message)
                return message
        return None

    def _core(self, member: str) -> Core:
        core = self.cores[int(member)]
        assert core is not None, f"{member} is down"
        return core

    def _boot(self, member: int) -> None:
        hard, entries = self.disks[member]
        plain = self.plain
        settings = Settings(
            member,
            lambda _: 0,
            pre_vote=not plain,
            check_quorum=not plain,
            max_append_bytes=1 if plain else 1 << 20,
            max_inflight=1 if plain else 64,
        )
        self.cores[member] = Core(settings, hard, SnapshotMeta(), list(entries))
        self._pump()

    def _pump(self) -> list[str]:
        lines: list[str] = []
        again = True
        while again:
            again = False
            for member, core in self.cores.items():
                if core is None:
                    continue
                ready = core.ready()
                self.queue += ready.messages
                if ready.write is not None:
                    again = True
                    kept = self.disks[member][1]
                    if ready.write.entries:
                        first = ready.write.entries[0].index
                        kept = [e for e in kept if e.index < first] + ready.write.entries
                    self.disks[member] = (ready.write.state, kept)
                    core.advance()
                lines += [f"{member} may read at {i}" if i else f"{member} must ask again" for _, i in ready.reads]
                again = again or bool(ready.messages or ready.committed)
        return lines


def play(text: str) -> str:
    """The scenario with the output that it has now."""
    stage, out = Stage(), []
    lines = iter(text.split("\n"))
    for line in lines:
        out.append(line)
        if line.strip() and not line.startswith("#"):
            output = stage.run(line)
            out += ["----", *output.split("\n")]
            for old in lines:  # the former output ends with an empty line
                if not old.strip():
                    break
            out.append("")
    return "\n".join(out).rstrip("\n") + "\n"


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_scenario_goes_as_written(path: Path) -> None:
    text = path.read_text()
    now = play(text)
    if os.environ.get("ESSAIM_REWRITE"):
        path.write_text(now)
    assert now == text


def test_scenarios_are_there() -> None:
    assert len(SCENARIOS) >= 8
