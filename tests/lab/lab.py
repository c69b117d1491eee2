"""Real hosts on one machine: `with Lab(hosts=3) as lab: ...`.

Hosts `h1`, `h2`, ... have addresses of their own on one bridge, know each other by name, and carry one Docker
Engine each. They can be cut off from each other, killed, frozen and booted again. Several labs run side by side.
Whatever becomes of the test, the lab is removed: see registry.py.
"""

import itertools
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import Popen

from . import keeper, registry
from .cgroups import Cgroup
from .commands import require_lab
from .host import Host
from .images import Image
from .network import TEST_SIDE, Network

Side = Host | Iterable[Host]


class Lab:
    """Construct, then `start` and `stop`, or `with`. Methods block (see host.py)."""

    def __init__(self, hosts: int = 3, *, engines: bool = True) -> None:
        """`hosts` is 1 to 250. Without `engines`, hosts are up in a tenth of the time and have no Docker."""
        if not 1 <= hosts <= 250:
            raise ValueError(f"a lab has 1 to 250 hosts, not {hosts}")
        self.hosts: list[Host] = []
        self._count = hosts
        self._engines = engines
        self._record: registry.Record | None = None
        self._keeper: Popen[bytes] | None = None
        self._cuts: set[tuple[int, int]] = set()

    def __enter__(self) -> "Lab":
        self.start()
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, Exception):
            error.add_note(self.report())
        self.stop()

    @property
    def number(self) -> int:
        """What this lab's interfaces (`elabN`), subnet (10.77.N.0/24) and control groups are named by."""
        return self._claimed.number

    @property
    def directory(self) -> Path:
        """For files of the test; removed with the lab."""
        return Path(self._claimed.directory)

    @property
    def test_address(self) -> str:
        """The test's own address on the lab's network."""
        return self._network.address(TEST_SIDE)

    def start(self) -> None:
        """Boot all hosts, in parallel. When that fails, nothing is left."""
        require_lab()
        self._record = registry.claim()
        try:
            self._keeper = keeper.start(self._record)
            self.directory.mkdir(mode=0o700)
            self._network = Network(self.number)
            self.hosts = [self._host(index) for index in range(1, self._count + 1)]
            names = "".join(f"{host.address} {host.name}\n" for host in self.hosts)
            (self.directory / "hosts").write_text(f"127.0.0.1 localhost\n{names}")
            self._network.create()
            self._on_all(Host.boot)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Remove everything of the lab. Should this be cut short, the keeper does it when the test process ends."""
        if self._record is None:
            return
        registry.remove(self._record)
        for host in self.hosts:
            host.reap()
        if self._keeper:
            self._keeper.terminate()
            self._keeper.wait()
        self._record = self._keeper = None

    def reset(self) -> None:
        """Back to a fresh lab for the next test: healed, all hosts and Engines up, no containers, no test processes.

        Images stay. What else a test changed on a host's disk is its own to undo.
        """
        self.heal()
        self._on_all(Host.reset)

    def load_image(self, image: Image, hosts: Iterable[Host] | None = None, *, timeout: float = 60.0) -> str:
        """Give the hosts (default: all) an image; returns its tag."""
        parts = image.parts()

        def load(host: Host) -> None:
            assert host.engine is not None, "the lab was made with engines=False"
            host.engine.import_image(parts, image.tag, image.changes, timeout)

        self._on_all(load, list(hosts) if hosts is not None else None)
        return image.tag

    def partition(self, *sides: Side) -> None:
        """Cut the network between the sides, each a host or several. Hosts of no side, and the test, see all."""
        groups = [[side] if isinstance(side, Host) else list(side) for side in sides]
        for here, there in itertools.permutations(groups, 2):
            self._cuts |= {(a.index, b.index) for a in here for b in there}
        self._network.apply_cuts(self._cuts)

    def isolate(self, host: Host) -> None:
        """Cut a host off from all others. The test still reaches it."""
        self.partition(host, [other for other in self.hosts if other is not host])

    def cut(self, source: Host, target: Host) -> None:
        """Drop what one host sends to another, not what comes back."""
        self._cuts.add((source.index, target.index))
        self._network.apply_cuts(self._cuts)

    def heal(self) -> None:
        """Undo every cut."""
        self._cuts.clear()
        self._network.apply_cuts(self._cuts)

    def report(self) -> str:
        """State and last log lines of every host, for a failed test's output."""
        cuts = ", ".join(f"h{a} -> h{b}" for a, b in sorted(self._cuts)) or "none"
        return "\n".join([f"lab {self.number}, cuts: {cuts}", *(host.report() for host in self.hosts)])

    @property
    def _claimed(self) -> registry.Record:
        assert self._record is not None, "the lab is not started"
        return self._record

    def _host(self, index: int) -> Host:
        cgroup = Cgroup(f"{self._claimed.cgroup.path}/h{index}")
        return Host(index, self._network, cgroup, self.directory / f"h{index}", with_engine=self._engines)

    def _on_all(self, action: Callable[[Host], None], hosts: list[Host] | None = None) -> None:
        """Do it on all hosts in parallel, to the end on each; raises the first host's error, if any."""
        chosen = self.hosts if hosts is None else hosts
        if not chosen:
            return
        with ThreadPoolExecutor(max_workers=min(len(chosen), 16)) as pool:
            for done in [pool.submit(action, host) for host in chosen]:
                done.result()
