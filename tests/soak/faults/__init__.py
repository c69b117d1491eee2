"""Every kind of fault, by its title, and which of them the slice of every run leaves out."""

from . import calls, changes, engines, hostile, hosts, programs, together
from .fault import Fault

KINDS: tuple[type[Fault], ...] = (
    programs.DaemonKilled,
    programs.DaemonRestarted,
    programs.DaemonStopped,
    programs.DaemonPaused,
    programs.WorkerKilled,
    programs.WorkerStopped,
    hosts.HostCrashed,
    hosts.HostFrozen,
    hosts.HostIsolated,
    hosts.HostUnplugged,
    hosts.LinkOneWay,
    hosts.LinkCut,
    engines.EngineKilled,
    engines.EngineRestarted,
    engines.EngineFrozen,
    engines.ContainerKilled,
    engines.ContainerRemoved,
    engines.ContainersRemoved,
    engines.NetworksPruned,
    engines.OverlayLinkRemoved,
    calls.CallsFail,
    calls.CallsLate,
    calls.GateClosed,
    calls.GateDeaf,
    changes.ServiceUpdated,
    changes.ServiceRolledBack,
    changes.ServiceScaled,
    changes.NodeDrained,
    changes.RoleChanged,
    changes.RoleChangedAtOnce,
    changes.LeaderDemoted,
    changes.NodeLeft,
    changes.SecretRotated,
    hostile.PoisonedLabels,
    hostile.ImageRejected,
    hostile.LogReaderStalled,
    hostile.IdleFlood,
    hostile.HalfHelloFlood,
    hostile.DatagramFlood,
    together.LeaderKilledInUpdate,
    together.HostCrashedInUpdate,
    together.QuorumLost,
)
BY_TITLE: dict[str, type[Fault]] = {kind.title(): kind for kind in KINDS}

NOT_YET: dict[str, str] = {
    "host-frozen": "a request that a replica took just before its host froze may get no answer for 10 s (1 of 2); "
    "what is permitted there now has not been seen often enough",
    "networks-pruned": "a task whose network goes between its container's creation and start fails, and the container "
    "stays until the task's history goes (1 of 4 times); the check that permits it has not been seen often enough",
}
"""Kinds that show a defect which is known and not cured, and which: the slice of every run leaves them out, so that it
tells what is new. They are part of every longer soak."""
SLOW: dict[str, str] = {
    "gate-closed": "gate-deaf",
    "host-crashed": "host-crashed-in-update",
    "host-unplugged": "host-isolated",
    "idle-flood": "half-hello-flood",
    "link-cut": "link-one-way",
    "engine-frozen": "gate-deaf",
    "role-changed": "leader-demoted",
}
"""Kinds that the slice leaves out for its time alone, and the kind in it that is most like each."""
