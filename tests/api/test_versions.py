"""API versions: which are spoken, and which fields an older client gets."""

from typing import Any

import msgspec
import msgspec.inspect
import pytest
from hypothesis import given
from hypothesis import strategies as st

from essaim.api import versions
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
