"""API versions: which are spoken, and which fields an older client gets."""

import copy
import json
from typing import Any

import msgspec
import msgspec.inspect
import pytest
from hypothesis import given
from hypothesis import strategies as st

from essaim.api import present, versions
from essaim.cluster.errors import InvalidArgument
from essaim.cluster.node import Node
from essaim.cluster.objects import Config, Secret
from essaim.cluster.service import Service
from essaim.cluster.swarm import Cluster
from essaim.cluster.task import Task

KINDS = {"service": Service, "task": Task, "node": Node, "secret": Secret, "config": Config, "swarm": Cluster}


def keys_below(kind: Any, path: list[str]) -> bool:
    """Whether the path of keys exists in a type's JSON."""
    info = kind if isinstance(kind, msgspec.inspect.Type) else msgspec.inspect.type_info(kind)
    if isinstance(info, msgspec.inspect.UnionType):
        return any(keys_below(t, path) for t in info.types if not isinstance(t, msgspec.inspect.NoneType))
    if isinstance(info, msgspec.inspect.ListType):
        return keys_below(info.item_type, path)
    if not path:
        return True
    if not isinstance(info, msgspec.inspect.StructType):
        return False
    found = {field.encode_name: field.type for field in info.fields}
    return path[0] in found and keys_below(found[path[0]], path[1:])


@pytest.mark.parametrize("noun", KINDS)
def test_every_path_of_the_table_exists(noun: str) -> None:
    assert [p for p in versions.FIELDS[noun] if not keys_below(KINDS[noun], p.split("."))] == []


@given(st.integers(24, 56))
def test_every_version_between_is_spoken(minor: int) -> None:
    assert versions.parse(f"1.{minor}") == (1, minor)


@pytest.mark.parametrize("wanted", ["1.23", "1.57", "2.0", "0.1", "1", "1.", ".1", "1.2.3", "x", "1.99999999"])
def test_version_outside_is_refused(wanted: str) -> None:
    with pytest.raises(InvalidArgument):
        versions.parse(wanted)


def test_fields_are_taken_out_at_any_depth_and_in_lists() -> None:
    mounts = [{"Target": "/a", "VolumeOptions": {"Subpath": "x", "NoCopy": True}}, {"Target": "/b"}]
    service = {"Spec": {"TaskTemplate": {"ContainerSpec": {"Mounts": mounts}}}, "JobStatus": {}}
    versions.trim("service", service, (1, 44))
    assert mounts == [{"Target": "/a", "VolumeOptions": {"NoCopy": True}}, {"Target": "/b"}]
    assert "JobStatus" in service
    versions.trim("service", service, (1, 40))
    assert "JobStatus" not in service


@pytest.mark.parametrize("noun", versions.FIELDS)
def test_newest_clients_get_everything(noun: str) -> None:
    assert versions.knows_all(noun, versions.NEWEST)
    assert not versions.knows_all(noun, versions.OLDEST)


def placed(paths: list[str]) -> dict[str, Any]:
    """An object with these fields, and others of the same names where the table does not mean them."""
    value: dict[str, Any] = {"Labels": {path.rpartition(".")[2]: "mine" for path in paths}, "Name": '"Sysctls"'}
    for path in sorted(paths):
        *above, last = path.split(".")
        inner = value
        for key in above:
            inner = inner.setdefault(key, {}) if isinstance(inner.get(key, {}), dict) else {}
        inner.setdefault(last, 1)
    return value


@given(st.data())
def test_encoding_leaves_out_what_trimming_takes_out(data: st.DataObject) -> None:
    noun = data.draw(st.sampled_from(sorted(versions.FIELDS)))
    value = placed(data.draw(st.lists(st.sampled_from(sorted(versions.FIELDS[noun])), unique=True, max_size=6)))
    version = (1, data.draw(st.integers(24, 56)))
    expected = copy.deepcopy(value)
    versions.trim(noun, expected, version)
    assert json.loads(present.encode(noun, value, version)) == expected
