from tests.lab.fixtures import lab, pytest_runtest_makereport, shared_lab

__all__ = ["lab", "pytest_runtest_makereport", "shared_lab"]
