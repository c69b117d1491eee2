"""Faults of essaim's own programs: daemons and gateway workers killed, ended, stopped."""

import signal
from collections.abc import Sequence

from tests.lab.host import Host
from tests.soak.judge import Permit, through, to
from tests.soak.world import blocking, signal_all

from .fault import Fault


class DaemonFault(Fault):
    host: Host

    def permits(self) -> Sequence[Permit]:
        # Names are not served on a node while its daemon is away, and the probe asks by name.
        return [to("probe")]

    async def choose(self) -> None:
        self.host = await self.any_host()

    async def heal(self) -> None:
        daemon = self.world.cluster.daemons[self.host.name]
        daemon.signal(signal.SIGCONT)
        if daemon.poll() is not None:
            await self.world.start_daemon(self.host)
        self.world.away.discard(self.host.name)


class DaemonKilled(DaemonFault):
    """kill -9. Tasks and gateways go on: no request may fail."""

    async def inject(self) -> None:
        self.world.away.add(self.host.name)
        self.world.doubted.add(self.host.name)
        await blocking(self.world.cluster.daemons[self.host.name].kill)


class DaemonRestarted(DaemonFault):
    """SIGTERM and a new start at once, as an upgrade does it."""

    hold = 0.0

    def permits(self) -> Sequence[Permit]:
        # Between the end of the old workers and the first of the new, nobody listens on this node.
        return [through(self.host.name), to("probe")]

    async def inject(self) -> None:
        self.world.away.add(self.host.name)
        await blocking(self.world.cluster.daemons[self.host.name].terminate, 30.0)


class DaemonStopped(DaemonFault):
    """SIGSTOP, longer than a node may be silent: its tasks move, and are taken back from it when it goes on."""

    hold = 8.0

    async def inject(self) -> None:
        self.world.away.add(self.host.name)
        self.world.doubted.add(self.host.name)
        self.world.cluster.daemons[self.host.name].signal(signal.SIGSTOP)


class DaemonPaused(DaemonStopped):
    """SIGSTOP for a moment, shorter than a node may be silent."""

    hold = 1.5


class WorkerKilled(Fault):
    """kill -9 of a node's gateway workers: their connections end, others take over."""

    host: Host

    async def choose(self) -> None:
        self.host = await self.any_host()

    def permits(self) -> Sequence[Permit]:
        return [through(self.host.name)]

    async def inject(self) -> None:
        workers = self.world.gateway_workers(self.host)
        assert workers, f"{self.host.name} has no gateway worker"
        signal_all(workers, signal.SIGKILL)


class WorkerStopped(WorkerKilled):
    """SIGSTOP of a node's gateway workers: found to be hung and replaced while it lasts."""

    hold = 8.0
    excused = "a gateway worker does not answer and is replaced"
    stopped: Sequence[int] = ()

    async def inject(self) -> None:
        self.stopped = self.world.gateway_workers(self.host)
        signal_all(list(self.stopped), signal.SIGSTOP)

    async def heal(self) -> None:
        left = [pid for pid in self.stopped if pid in self.world.gateway_workers(self.host)]
        signal_all(left, signal.SIGCONT)
        assert not left, f"{self.host.name}: a worker that hung for {self.hold:g} s was not replaced"
