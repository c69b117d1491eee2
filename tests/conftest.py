"""Rules for every test: a blocked event loop fails, a warning fails (pyproject), a hang ends (pytest-timeout)."""

import signal
from collections.abc import Iterator

import pytest
from blockbuster import BlockBuster, blockbuster_ctx
from hypothesis import HealthCheck, settings

# How long an example takes says what else the machine does, not what the code does: hypothesis' own limits (200 ms an
# example) failed property tests on a busy machine. pytest-timeout ends what hangs.
settings.register_profile("essaim", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("essaim")

# A shell starts what it puts in the background with SIGINT ignored, and so would every program that a test interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _no_blocked_loop(request: pytest.FixtureRequest) -> Iterator[BlockBuster | None]:
    """Blocking calls inside a running event loop raise. `@pytest.mark.blocking_allowed` is for tests' own set-up."""
    if request.node.get_closest_marker("blocking_allowed"):
        yield None
        return
    with blockbuster_ctx(scanned_modules=["essaim"]) as blockbuster:
        yield blockbuster
