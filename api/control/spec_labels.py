"""Labels of a service that the scheduler acts by, refused where they can mean nothing: at once, and to whoever wrote
them. What gateways read of `essaim.*` is checked in `gateway_labels`; Traefik's labels stay warnings in `lb status`.

Pure: a specification in, nothing or an error out.
"""

import re

from essaim.cluster.durations import seconds
from essaim.cluster.errors import InvalidArgument
from essaim.cluster.numerals import port
from essaim.cluster.service import ServiceMode, ServiceSpec
from essaim.scheduler.orchestrate.cron import LABEL as SCHEDULE
from essaim.scheduler.orchestrate.cron import schedule_of
from essaim.scheduler.place.placement_loop import STRATEGY_LABEL
from essaim.scheduler.traffic.drain import LABEL as DRAIN

STRATEGIES = ("spread", "binpack")
PROTOCOLS = ("tcp", "http")
_PORT_PROTOCOL = re.compile(r"essaim\.port\.(.+)\.protocol")


def check_labels(spec: ServiceSpec) -> None:
    """Raises InvalidArgument."""
    if schedule_of(spec.labels) is not None and not is_job(spec.mode):
        raise InvalidArgument(
            "only jobs can be scheduled: create the service with --mode replicated-job or global-job, or leave out the "
            f"label {SCHEDULE}"
        )
    labels = spec.labels or {}
    drain = labels.get(DRAIN)
    if drain is not None:
        try:
            seconds(drain)
        except ValueError as error:
            raise _bad(DRAIN, drain, str(error)) from error
    strategy = labels.get(STRATEGY_LABEL)
    if strategy and strategy not in STRATEGIES:
        raise _bad(STRATEGY_LABEL, strategy, f"it is {' or '.join(STRATEGIES)}")
    for label, value in labels.items():
        _port_label(label, value)


def _port_label(label: str, value: str) -> None:
    if (found := _PORT_PROTOCOL.fullmatch(label)) is not None:
        if port(found[1]) is None:
            raise InvalidArgument(f"invalid label {label[:100]!r}: {found[1][:40]!r} is no port, 1 to 65535")
        if value not in PROTOCOLS:
            raise _bad(label, value, f"it is {' or '.join(PROTOCOLS)}")


def _bad(label: str, value: str, want: str) -> InvalidArgument:
    return InvalidArgument(f"invalid label {label[:100]}={value[:40]!r}: {want}")


def is_job(mode: ServiceMode | None) -> bool:
    return mode is not None and (mode.replicated_job is not None or mode.global_job is not None)
