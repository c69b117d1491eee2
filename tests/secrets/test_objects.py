"""Names and sizes of secrets and configs."""

import pytest

from essaim.cluster.objects import ConfigSpec, SecretSpec
from essaim.secrets import objects


@pytest.mark.parametrize("name", ["a", "my_secret_data", "a.b-c_d", "x" * 64, "0"])
def test_name_that_swarm_takes_is_valid(name: str) -> None:
    assert objects.name_error(name) is None


@pytest.mark.parametrize("name", ["", None, "a b", "-a", "a-", "x" * 65, "é", "a/b", "a\n"])
def test_name_that_swarm_refuses_is_invalid(name: str | None) -> None:
    assert objects.name_error(name) is not None


@pytest.mark.parametrize(("size", "valid"), [(0, False), (1, True), (500 * 1024 - 1, True), (500 * 1024, False)])
def test_secret_of_a_size_is_judged_by_the_limit(size: int, valid: bool) -> None:
    assert (objects.secret_error(SecretSpec(name="a", data=b"x" * size)) is None) is valid


@pytest.mark.parametrize(("size", "valid"), [(0, False), (1, True), (1000 * 1024 - 1, True), (1000 * 1024, False)])
def test_config_of_a_size_is_judged_by_the_limit(size: int, valid: bool) -> None:
    assert (objects.config_error(ConfigSpec(name="a", data=b"x" * size)) is None) is valid


def test_change_of_data_is_refused_and_of_labels_allowed() -> None:
    old = SecretSpec(name="a", data=b"x")
    assert objects.change_error(old, SecretSpec(name="a", labels={"k": "v"})) is None
    assert objects.change_error(old, SecretSpec(name="a", data=b"x")) is None
    assert objects.change_error(old, SecretSpec(name="a", data=b"y")) == objects.ONLY_LABELS
    assert objects.change_error(old, SecretSpec(name="b", data=b"x")) == objects.ONLY_LABELS
