"""Bodies as lenient as an Engine reads them, and no further."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from essaim.api import bodies
from essaim.cluster.errors import InvalidArgument
from essaim.cluster.service import ServiceSpec
from essaim.cluster.swarm import SwarmSpec

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
KEYS = ["Name", "TaskTemplate", "ContainerSpec", "Mode", "replicated", "Replicas", "Labels", "EndpointSpec", "Ports"]
SHAPED = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=20,
)


def read(value: Any) -> ServiceSpec:
    return bodies.decode(json.dumps(value).encode(), ServiceSpec)


def test_keys_in_any_case_are_read() -> None:
    spec = read({"name": "a", "tasktemplate": {"CONTAINERSPEC": {"image": "x", "ttY": True}}, "Mode": {"global": {}}})
    assert spec.name == "a"
    assert spec.task_template
    assert spec.task_template.container_spec
    assert spec.task_template.container_spec.tty is True
    assert spec.mode
    assert spec.mode.global_ is not None


def test_null_counts_as_absent_and_unknown_keys_are_ignored() -> None:
    spec = read({"Name": None, "Labels": {"a": None}, "Nonsense": {"x": 1}})
    assert spec.name is None
    assert spec.labels == {"a": ""}


def test_labels_keep_their_case() -> None:
    assert read({"Labels": {"KeY": "VaLue"}}).labels == {"KeY": "VaLue"}


def test_empty_body_counts_as_an_empty_object() -> None:
    assert bodies.decode(b" \n", SwarmSpec) == SwarmSpec()


@pytest.mark.parametrize(
    "data",
    [
        b"{",
        b'{"Name": 5}',
        b"[]",
        b'"x"',
        b"null",
        b"\xff\xfe",
        b'{"Name": "\xff"}',
        b'{"Name": "\\ud800"}',
        b'{"Mode": {"Replicated": {"Replicas": 99999999999999999999}}}',
        b'{"Mode": {"Replicated": {"Replicas": "3"}}}',
        b'{"TaskTemplate": {"PluginSpec": {"a": 99999999999999999999999}}}',
        b"[" * 100_000,
        b'{"TaskTemplate": {"PluginSpec": ' + b'{"a":' * 500 + b"1" + b"}" * 502,
        b'{"Name": NaN}',
    ],
    ids=lambda data: repr(data[:30]),
)
def test_body_that_makes_no_sense_is_an_invalid_argument(data: bytes) -> None:
    with pytest.raises(InvalidArgument, match="invalid"):
        bodies.decode(data, ServiceSpec)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(InvalidArgument):
        bodies.decode(data, ServiceSpec)


@given(ANYTHING | SHAPED)
def test_any_json_is_read_or_refused(value: Any) -> None:
    with contextlib.suppress(InvalidArgument):
        read(value)
