"""The soak: faults one after the other on a cluster under load, and after each a look whether all is as it must be."""

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from essaim.api.client import ClientError
from tests.lab.lab import Lab

from . import evidence, ledger, load
from .faults import BY_TITLE
from .faults.fault import Fault
from .invariants import RETRIED, Logs, containers_match, nodes_ready, nothing_left, replicas_run, writes_kept
from .judge import Failure, unexplained
from .plan import Step, steps
from .report import Outcome, Report
from .resources import Resources
from .slots import SlotWatch
from .world import HOSTS, MANAGERS, World, blocking, made, proxy_of

BEGIN = 120.0
"""Seconds until the fresh cluster must be well."""
RECOVERY = 60.0
"""Seconds more that a cluster gets when it was not well in time, before it is given up and a new one made."""
REST = 2.0
HOT = 0.5
"""Of a core: more than a daemon may need when nothing happens."""
IDLE = 30.0
"""Seconds after which what a flood has opened must be closed: flows over UDP end after 10 (stack.py)."""
SHOWN = 6
"""Findings of one kind that are told one by one."""


def told(text: str) -> None:
    print(text, flush=True)


@dataclass
class Settings:
    seed: str
    kinds: tuple[str, ...] = tuple(BY_TITLE)
    first: int = 0
    count: int | None = None
    seconds: float | None = None
    """No fault begins later than this after the start."""
    ignore: str = ""
    """A pattern of what is known to be wrong and not to be complained of."""
    folder: Path = Path("build/soak")
    """For what is kept of clusters that were not well."""
    skip: frozenset[str] = frozenset()
    """Kinds of the plan that are left out; the others keep their places."""
    tell: Callable[[str], None] = told


class NotWell(Exception):
    """The cluster did not mend; no more faults can be judged on it."""


async def soak(settings: Settings) -> Report:
    """Run to the end of `count` or `seconds`. What went wrong is in the report; only the soak's own bugs raise."""
    report, start = Report(settings.seed), time.monotonic()
    whole = steps(settings.seed, settings.kinds, settings.first)
    plan = (step for step in whole if step.kind not in settings.skip)
    upcoming = _limited(plan, settings, start)
    step = next(upcoming, None)
    while step is not None:
        report.clusters += 1
        async with field(settings, report, start) as ground:
            while step is not None:
                try:
                    await ground.suffer(step)
                except NotWell:
                    step = next(upcoming, None)
                    break
                step = next(upcoming, None)
    report.seconds = time.monotonic() - start
    return report


def _limited(plan: Iterator[Step], settings: Settings, start: float) -> Iterator[Step]:
    for number, step in enumerate(plan):
        if settings.count is not None and number >= settings.count:
            return
        if settings.seconds is not None and time.monotonic() - start >= settings.seconds:
            return
        yield step


@contextlib.asynccontextmanager
async def field(settings: Settings, report: Report, start: float) -> AsyncIterator["Ground"]:
    """A fresh cluster under load, well before the first fault."""
    lab = Lab(hosts=HOSTS)
    await blocking(lab.start)
    try:
        async with contextlib.AsyncExitStack() as stack:
            proxies = {host.name: await stack.enter_async_context(proxy_of(host)) for host in lab.hosts}
            cluster = await blocking(made, lab)
            managers = {host.name for host in lab.hosts[:MANAGERS]}
            world = await stack.enter_async_context(World(cluster, proxies, managers=managers))
            ground = Ground(world, settings, report, start)
            await ground.begin()
            settings.tell(f"cluster {report.clusters} is well after {time.monotonic() - start:.0f} s")
            async with ground.running():
                yield ground
            report.processes += ground.resources.summary()
            report.growth += ground.resources.growth()
    except Exception as error:
        error.add_note(lab.report())
        raise
    finally:
        await blocking(lab.stop)


class Ground:
    def __init__(self, world: World, settings: Settings, report: Report, start: float) -> None:
        self.world = world
        self.report = report
        self._settings = settings
        self.resources = Resources(world)
        self._tell = settings.tell
        self._known = re.compile(settings.ignore or r"\A\Z(?<=x)")
        self._start = start
        self._logs = Logs(world)
        self._slots = SlotWatch(world)
        self._ledger = ledger.Writer(world, Random(f"{settings.seed} ledger {report.clusters}"))
        self._load: load.Load

    async def begin(self) -> None:
        if wrong := await self._wait_well(BEGIN):
            raise AssertionError("the fresh cluster is not well: " + "; ".join(wrong))
        self._logs.look()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Load, ledger and the watch on slots, until the block ends."""
        async with load.running({host.name: host.address for host in self.world.hosts}) as self._load:
            tasks = [asyncio.create_task(self._ledger.run()), asyncio.create_task(self._slots.run())]
            tasks.append(asyncio.create_task(self._sample()))
            try:
                await self._load.wait_turnover({host.name for host in self.world.hosts})
                yield
            finally:
                for task in tasks:
                    task.cancel()
                for outcome in await asyncio.gather(*tasks, return_exceptions=True):
                    if isinstance(outcome, Exception):
                        raise outcome

    async def suffer(self, step: Step) -> None:
        """One fault from beginning to end. Raises NotWell when the cluster cannot be used for another."""
        outcome = Outcome(step.index, step.kind, at=time.monotonic() - self._start)
        self.report.outcomes.append(outcome)
        began, answered = time.monotonic(), self._load.answered.total()
        failures, self._ledger.longest = len(self._load.failures), 0.0
        fault = BY_TITLE[step.kind](self.world, step.chance)
        await self._happen(fault, outcome)
        healed = time.monotonic()
        wrong = await self._wait_well(fault.settle)
        outcome.mended = time.monotonic() - healed
        if wrong:
            outcome.findings += [f"not well {fault.settle:g} s after the fault: {what}" for what in wrong]
            await self._keep(outcome)
            late = await self._wait_well(RECOVERY)
            seconds = time.monotonic() - healed
            outcome.findings.append(f"{'still not well' if late else 'well'} {seconds:.0f} s after the fault")
            wrong = late
        until = time.monotonic()
        self.world.doubted.clear()
        if not wrong:
            outcome.findings += await self._rest()
        outcome.findings = self._unknown(outcome.findings)
        self._judge(outcome, self._load.failures[failures:], fault, (began, until))
        outcome.answered = self._load.answered.total() - answered
        outcome.write_pause = self._ledger.longest
        if outcome.findings and not outcome.kept:
            await self._keep(outcome)
        self._tell(outcome.line())
        if wrong:
            raise NotWell

    async def _keep(self, outcome: Outcome) -> None:
        folder = self._settings.folder / f"{self.report.seed}-{outcome.index}"
        outcome.kept = str(await evidence.keep(self.world, folder))

    async def _happen(self, fault: Fault, outcome: Outcome) -> None:
        """Inject, hold, heal; what the cluster refused meanwhile is a finding."""
        try:
            await fault.choose()
            outcome.target = fault.target
            self._tell(f"#{outcome.index} {outcome.kind} ({outcome.target}) ...")
            await self._carefully(fault.inject, outcome)
            outcome.target = fault.target
            await asyncio.sleep(fault.hold)
            outcome.held = time.monotonic() - self._start - outcome.at
            await self._carefully(fault.heal, outcome)
        except (*RETRIED, ClientError, AssertionError) as error:
            outcome.findings.append(f"no target was found: {error}")
        finally:
            self.world.away.clear()

    async def _carefully(self, act: Callable[[], Awaitable[None]], outcome: Outcome) -> None:
        try:
            async with asyncio.timeout(120):
                await act()
        except (*RETRIED, ClientError, AssertionError) as error:
            outcome.findings.append(f"{getattr(act, '__name__', 'act')}: {type(error).__name__}: {error}")

    async def _wait_well(self, deadline: float) -> list[str]:
        """Until every invariant holds; what is wrong if they do not in time."""
        end = time.monotonic() + deadline
        while True:
            late = time.monotonic() > end
            wrong = await self._wrong(every=late)
            if not wrong or late:
                return wrong
            await asyncio.sleep(0.5)

    def _unknown(self, texts: list[str]) -> list[str]:
        return [text for text in texts if not self._known.search(text)]

    async def _wrong(self, *, every: bool) -> list[str]:
        """What is wrong now: the first check's complaints, or those of all."""
        wrong: list[str] = []
        for check in (nodes_ready, replicas_run, containers_match, nothing_left):
            try:
                wrong += await check(self.world)
            except (*RETRIED, KeyError) as error:
                wrong.append(f"{check.__name__}: {type(error).__name__}: {error}")
            wrong = self._unknown(wrong)
            if wrong and not every:
                return wrong
        try:
            wrong += await writes_kept(self.world, self._ledger.book)
        except RETRIED as error:
            wrong.append(f"writes_kept: {error}")
        return self._unknown(wrong)

    async def _rest(self) -> list[str]:
        """With nothing going on: every port is served through every node, and no daemon is busy."""
        try:
            await self._load.wait_turnover({host.name for host in self.world.hosts})
        except AssertionError as error:
            return [str(error)]
        found = await self._hot(REST)
        if found:
            found = await self._hot(3 * REST)
        return found + await self._excess()

    async def _excess(self) -> list[str]:
        """What is beyond the bounds for good: a flood's sessions keep their sockets until they have been idle."""
        end = time.monotonic() + IDLE
        while True:
            found = [text for series in self.resources.look() for text in series.excess()]
            if not found or time.monotonic() > end:
                return found
            await asyncio.sleep(1)

    async def _hot(self, seconds: float) -> list[str]:
        before = {id(s): s.samples[-1] for s in self.resources.look()}
        await asyncio.sleep(seconds)
        found = []
        for series in self.resources.look():
            last = series.samples[-1]
            if (first := before.get(id(series))) and "essaimd" in series.name:
                share = (last.cpu - first.cpu) / (last.at - first.at)
                if share > HOT:
                    found.append(f"{series.name} uses {share:.0%} of a core at rest")
        return found

    def _judge(self, outcome: Outcome, failures: list[Failure], fault: Fault, span: tuple[float, float]) -> None:
        bad = unexplained(failures, list(fault.permits()), *span)
        outcome.failed = len(failures) - len(bad)
        outcome.findings += [f"a request failed at {f.began - span[0]:.1f} s: {f}" for f in bad[:SHOWN]]
        if len(bad) > SHOWN:
            outcome.findings.append(f"and {len(bad) - SHOWN} more requests failed")
        outcome.findings += self._slots.findings()[:SHOWN]
        logged = [text for text in self._logs.look() if not re.search(fault.excused, text)]
        outcome.findings += self._unknown(logged)[:SHOWN]

    async def _sample(self) -> None:
        while True:
            await asyncio.sleep(10)
            self.resources.look()
