"""Rules for every test: a blocked event loop fails, a warning fails (pyproject), a hang ends (pytest-timeout)."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator

import pytest
import structlog
from blockbuster import BlockBuster, blockbuster_ctx
from hypothesis import HealthCheck, settings

# How long an example takes says what else the machine does, not what the code does: hypothesis' own limits (200 ms an
# example) failed property tests on a busy machine. pytest-timeout ends what hangs.
# A usual run tries the same examples each time, so that it fails for what was changed; with --long they are new ones.
settings.register_profile(
    "essaim",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize="ESSAIM_TEST_LONG" not in os.environ,
)
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


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """A test that runs essaimd's own set-up in this process configures the logs of all that follow."""
    yield
    if structlog.is_configured():
        structlog.reset_defaults()


@pytest.fixture(autouse=True)
async def _no_connection_left() -> AsyncIterator[None]:
    """What a test leaves open ends with it. Left to the garbage collector, it warns in whichever test runs then.

    A test's own connections are closed here; one of the product's that outlives what made it fails the test.
    """
    yield
    # A connection that a server has just accepted becomes a transport in the loop's next turns.
    for _ in range(3):
        await asyncio.sleep(0)
    loop = asyncio.get_running_loop()
    every = list(getattr(loop, "_transports", {}).values())
    left = [transport for transport in every if not transport.is_closing()]
    kinds = {f"{type(one).__module__}.{type(one).__qualname__}" for one in (t.get_protocol() for t in left)}
    for transport in every:
        # One that is closing may wait for an end of TLS that never comes.
        transport.abort()
    # An aborted connection is lost in the loop's next turn, and one of TLS tells who stands on it a turn later.
    for _ in range(3):
        await asyncio.sleep(0)
    ours = sorted(name for name in kinds if name.startswith("essaim."))
    assert not ours, f"left open by the product: {ours}"
