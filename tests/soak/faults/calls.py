"""The Engine's answers go wrong while it is needed: refused, lost, late, cut. A service is updated in the middle."""

from collections.abc import Sequence
from typing import ClassVar

from tests.lab.host import Host
from tests.soak.judge import Permit
from tools.engine_faults import Rule

from .changes import set_number
from .fault import Fault

CALLS = {
    "create": ("POST", "/containers/create"),
    "start": ("POST", "/containers/.*/start"),
    "stop": ("POST", "/containers/.*/(stop|kill)"),
    "remove": ("DELETE", "/containers/.*"),
    "inspect": ("GET", "/containers/.*/json"),
    "list": ("GET", "/containers/json"),
    "connect": ("POST", "/networks/.*/connect"),
    "network": ("GET|POST", "/networks(/create)?"),
    "image": ("GET", "/images/.*"),
    "events": ("GET", "/events"),
    "any": (".*", ".*"),
}
ACTIONS = ("refuse", "refuse-after", "drop", "drop-after", "hang", "hang-after")


class EngineCalls(Fault):
    """What one host's daemon asks of its Engine meets a fault; its replicas are exchanged meanwhile."""

    hold = 8.0
    settle = 90.0
    updated: ClassVar[Sequence[str]] = ("soak_web", "soak_echo", "soak_store")
    host: Host

    async def choose(self) -> None:
        self.host = await self.any_host()
        self.service = self.chance.choice(self.updated)

    def permits(self) -> Sequence[Permit]:
        return ()

    async def inject(self) -> None:
        # What the manager is told of this host's containers is late or wrong.
        self.world.doubted.add(self.host.name)
        await self.meet()
        await self.world.change("services", self.service, set_number)

    async def meet(self) -> None:
        raise NotImplementedError

    async def heal(self) -> None:
        proxy = self.world.proxies[self.host.name]
        proxy.rules()
        await proxy.set_gate("open")
        proxy.plan.calls.clear()


class CallsFail(EngineCalls):
    """Calls of one kind fail: every one, or the first few."""

    async def choose(self) -> None:
        await super().choose()
        self.action = self.chance.choice(ACTIONS)
        self.call = self.chance.choice(sorted(CALLS))
        self.times = self.chance.choice([0, 1, 3])
        self.target += f", {self.call} {self.action} {self.times or 'always'}, {self.service} updated"

    async def meet(self) -> None:
        method, path = CALLS[self.call]
        rule = Rule(self.action, method, path, message="the soak's", times=self.times)
        self.world.proxies[self.host.name].rules(rule)


class CallsLate(EngineCalls):
    """Every call takes a while longer."""

    async def choose(self) -> None:
        await super().choose()
        self.seconds = self.chance.choice([0.3, 1.5, 4.0])
        self.action = self.chance.choice(["delay", "delay-answer"])
        self.target += f", {self.action} of {self.seconds} s, {self.service} updated"

    async def meet(self) -> None:
        self.world.proxies[self.host.name].rules(Rule(self.action, seconds=self.seconds))


class GateClosed(EngineCalls):
    """The Engine's socket is not there."""

    gate: ClassVar[str] = "closed"

    async def meet(self) -> None:
        await self.world.proxies[self.host.name].set_gate(self.gate)


class GateDeaf(GateClosed):
    """Connections are taken and nothing is answered."""

    gate = "deaf"
