"""Fixtures for tests that use a lab. A room's conftest.py takes them with

    from tests.lab.fixtures import lab, pytest_runtest_makereport, shared_lab

`lab` is one lab of three hosts for all tests of a module, reset after each. A test that needs another shape makes
its own: `with Lab(hosts=5) as lab`.
"""

from collections.abc import Generator, Iterator

import pytest

from .lab import Lab


@pytest.fixture(scope="module")
def shared_lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """The module's lab. `LAB_HOSTS = 5` in the module asks for another number of hosts than three."""
    with Lab(hosts=getattr(request.module, "LAB_HOSTS", 3)) as lab:
        yield lab


@pytest.fixture
def lab(shared_lab: Lab) -> Iterator[Lab]:
    """The module's lab, as fresh: healed, all hosts up, no containers, no processes of an earlier test."""
    yield shared_lab
    shared_lab.reset()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test shows what the hosts' programs wrote last, before its lab is reset."""
    report = yield
    used = getattr(item, "funcargs", {}).get("lab")
    if report.when == "call" and report.failed and isinstance(used, Lab):
        report.sections.append(("lab", used.report()))
    return report
