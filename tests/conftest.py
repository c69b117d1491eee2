"""Rules for every test: a blocked event loop fails, a warning fails (pyproject), a hang ends (pytest-timeout)."""

from collections.abc import Iterator

import pytest
from blockbuster import BlockBuster, blockbuster_ctx
from hypothesis import settings

# A busy machine is no failure; a hang ends by pytest-timeout.
settings.register_profile("essaim", deadline=None)
settings.load_profile("essaim")


@pytest.fixture(autouse=True)
def _no_blocked_loop(request: pytest.FixtureRequest) -> Iterator[BlockBuster | None]:
    """Blocking calls inside a running event loop raise. `@pytest.mark.blocking_allowed` is for tests' own set-up."""
    if request.node.get_closest_marker("blocking_allowed"):
        yield None
        return
    with blockbuster_ctx(scanned_modules=["essaim"]) as blockbuster:
        yield blockbuster
