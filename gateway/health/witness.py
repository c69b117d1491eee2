"""Whether anything on a node answers, looked at now: what the leader asks when the node's daemon has fallen silent.

A few of the node's endpoints that are not known to be down are checked at once, with little patience. One that passes
is proof that the host lives, and its replicas with it.
"""

import asyncio
from collections.abc import Iterable
from itertools import islice

import msgspec

from .monitor import Checker
from .targets import Target

MOST = 5
"""Endpoints that are looked at."""
PATIENCE = 1.0
"""Seconds: a host that is gone does not answer at all, and the leader waits."""


async def answers(targets: Iterable[Target], checker: Checker) -> bool | None:
    """None when there are no targets."""
    checks = [asyncio.ensure_future(_passes(target, checker)) for target in islice(targets, MOST)]
    if not checks:
        return None
    try:
        for check in asyncio.as_completed(checks):
            if await check:
                return True
        return False
    finally:
        for one in checks:
            one.cancel()
        await asyncio.gather(*checks, return_exceptions=True)


async def _passes(target: Target, checker: Checker) -> bool:
    _, _, address, port, options = target
    hurried = msgspec.structs.replace(options, timeout=min(options.timeout, PATIENCE))
    return await checker(hurried, address, port) is None
