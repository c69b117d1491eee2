"""A Docker Engine that is frozen (SIGSTOP): it takes connections and answers nothing. Its node's daemon stops, starts
and leaves in bounded time, its tasks are left in peace meanwhile, and other nodes go on."""

import time
from collections.abc import Iterator

import pytest

from tests.lab.cluster import BIN, Cluster
from tests.lab.images import busybox_image
from tests.lab.lab import Lab
from tests.lab.wait import eventually

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]
LAB_HOSTS = 2
IMAGE = "still:1"
STOPS_WITHIN = 12.0
LEAVES_WITHIN = 25.0


@pytest.fixture
def cluster(lab: Lab) -> Iterator[Cluster]:
    lab.load_image(busybox_image(IMAGE, ["sleep", "1000"]))
    with Cluster(lab, managers=1) as made:
        yield made


def test_node_whose_engine_is_frozen_keeps_its_tasks_and_its_daemon_stops_and_leaves(cluster: Cluster) -> None:
    first, second = cluster.lab.hosts
    create = ["service", "create", "--detach", "--no-resolve-image", "--mode", "global", "--name"]
    cluster.essaim(*create, "web", IMAGE)
    before = {task["ID"] for task in cluster.wait_running("web", 2)}
    second.freeze_engine()
    try:
        # Another node's tasks come up, and nothing that runs is moved or called failed.
        cluster.essaim(*create, "other", "--constraint", f"node.hostname=={first.name}", IMAGE)
        cluster.wait_running("other", 1)
        assert {task["ID"] for task in cluster.running("web")} == before
        began = time.monotonic()
        cluster.daemons[second.name].terminate(STOPS_WITHIN + 10)
        assert time.monotonic() - began < STOPS_WITHIN
        cluster.start_daemon(second)
        cluster.wait_up(second)
        assert "said nothing for" in cluster.daemons[second.name].stderr_path.read_text()
        assert {task["ID"] for task in cluster.running("web")} == before, "its daemon has its time to come back"
        began = time.monotonic()
        left = second.run([BIN / "essaim", "swarm", "leave", "--force"], timeout=LEAVES_WITHIN + 10)
        assert time.monotonic() - began < LEAVES_WITHIN
        assert "may still run" in left.stderr
    finally:
        second.thaw_engine()
    assert len(second.docker("ps", "--quiet").split()) == 1, "what it was told is left"
    eventually(lambda: "Down" in [node["Status"] for node in cluster.nodes()], 30, "the node is known to have left")
    cluster.essaim("node", "rm", second.name)
    eventually(lambda: len(cluster.running("web")) == 1, 30, "the cluster counts on what is left")
