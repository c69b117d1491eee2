"""Specs as Docker's clients send them come back as an Engine would echo them."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from essaim.cluster.service import Service, ServiceSpec
from essaim.cluster.shape import docker_name
from essaim.cluster.task import Task, TaskState


@pytest.mark.parametrize(
    ("attribute", "key"),
    [
        ("id", "ID"), ("node_id", "NodeID"), ("nano_cpus", "NanoCPUs"), ("dns_config", "DNSConfig"), ("tty", "TTY"),
        ("global_", "Global"), ("tls_info", "TLSInfo"), ("virtual_ips", "VirtualIPs"), ("os", "OS"),
        ("selinux_context", "SELinuxContext"), ("external_cas", "ExternalCAs"), ("host_ip", "HostIP"),
        ("max_failure_ratio", "MaxFailureRatio"), ("oom_score_adj", "OomScoreAdj"),
    ],
)  # fmt: skip
def test_docker_name_gives_the_api_key(attribute: str, key: str) -> None:
    assert docker_name(attribute) == key


def test_service_spec_round_trip_keeps_what_was_sent_and_adds_nothing() -> None:
    sent: dict[str, Any] = {
        "Name": "web",
        "Labels": {},
        "TaskTemplate": {
            "ContainerSpec": {"Image": "a", "Init": False, "DNSConfig": {}, "Env": [], "StopGracePeriod": 0},
            "Resources": {"Limits": {}, "Reservations": {}},
            "RestartPolicy": {"Condition": "on-failure", "Window": 0},
            "ForceUpdate": 0,
        },
        "Mode": {"Global": {}},
        "UpdateConfig": {"Parallelism": 0, "MaxFailureRatio": 0},
    }
    spec = msgspec.json.decode(json.dumps(sent), type=ServiceSpec)
    assert json.loads(msgspec.json.encode(spec)) == sent


def test_null_counts_as_absent() -> None:
    spec = msgspec.json.decode(b'{"Name":"x","TaskTemplate":{"ContainerSpec":{"Args":null}}}', type=ServiceSpec)
    assert msgspec.json.encode(spec) == b'{"Name":"x","TaskTemplate":{"ContainerSpec":{}}}'


def test_recorded_service_and_task_decode_and_keep_their_content() -> None:
    """What a real Engine said of a service and a task has a place in our shapes."""
    folder = Path(__file__).parents[2].parent / "shared/reference/docker-api/samples"
    if not folder.is_dir():
        pytest.skip("the recorded samples are not beside this checkout")
    service = msgspec.json.decode((folder / "services_web.json").read_bytes(), type=Service)
    recorded = json.loads((folder / "services_web.json").read_text())
    echoed = json.loads(msgspec.json.encode(service))
    assert echoed["Spec"] == recorded["Spec"]
    assert echoed["Endpoint"] == recorded["Endpoint"]
    task = msgspec.json.decode((folder / "task.json").read_bytes(), type=Task)
    assert (task.state, task.slot, task.desired) == (TaskState.RUNNING, 1, TaskState.RUNNING)
