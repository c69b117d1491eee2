"""The examples: the course's stack, which a user deploys first, and a larger one."""

from pathlib import Path

import pytest

from essaim.cluster.service import ServiceSpec
from essaim.stacks.convert.convert import Stack, convert
from essaim.stacks.plan.operations import Existing
from essaim.stacks.plan.plan import plan
from essaim.stacks.read.load import Source, load

EXAMPLES = Path(__file__).parents[2] / "examples"


def stack(name: str) -> Stack:
    path = EXAMPLES / name
    return convert(load([Source(path.name, path.read_text())], {}, EXAMPLES), "demo")


def only_service(name: str) -> ServiceSpec:
    (service,) = stack(name).services
    return service


def test_example_web_has_the_courses_replicas_limits_and_policy() -> None:
    spec = only_service("web.yml")
    assert spec.name == "demo_web"
    assert spec.mode is not None
    assert spec.mode.replicated is not None
    assert spec.mode.replicated.replicas == 5
    task = spec.task_template
    assert task is not None
    assert task.resources is not None
    assert task.resources.limits is not None
    assert (task.resources.limits.nano_cpus, task.resources.limits.memory_bytes) == (100_000_000, 50 * 1024 * 1024)
    assert task.restart_policy is not None
    assert task.restart_policy.condition == "on-failure"


def test_example_web_publishes_4000_and_joins_webnet() -> None:
    found = stack("web.yml")
    spec = found.services[0]
    assert spec.endpoint_spec is not None
    assert spec.endpoint_spec.ports is not None
    (port,) = spec.endpoint_spec.ports
    assert (port.published_port, port.target_port, port.protocol, port.publish_mode) == (4000, 80, "tcp", "ingress")
    assert [network.name for network in found.networks] == ["demo_webnet"]
    assert spec.task_template is not None
    assert spec.task_template.networks is not None
    assert [network.target for network in spec.task_template.networks] == ["demo_webnet"]
    assert found.warnings == []


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yml")), ids=lambda path: path.stem)
def test_example_deploys_without_a_warning(path: Path) -> None:
    found = stack(path.name)
    assert found.warnings == []
    assert "to create" in str(plan(found, Existing()))


def test_example_shop_starts_its_stock_first_and_routes_by_request() -> None:
    found = stack("shop.yml")
    assert [spec.name for spec in found.services] == ["demo_stock", "demo_shop"]
    shop = found.services[1]
    assert shop.endpoint_spec is not None
    assert shop.endpoint_spec.ports is not None
    assert shop.endpoint_spec.ports[0].app_protocol == "http"
