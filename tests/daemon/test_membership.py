from datetime import UTC, datetime
from random import Random

import pytest

from essaim.cluster import changes
from essaim.cluster.changes import ChangeSet
from essaim.cluster.errors import InvalidArgument
from essaim.cluster.node import NodeDescription
from essaim.cluster.store import Store
from essaim.cluster.swarm import DispatcherConfig, JoinTokens, OrchestrationConfig, RootCA, SwarmSpec
from essaim.daemon.membership.joins import JoinMessage, admit, role_of_token
from essaim.daemon.node.bootstrap import first_objects, merged_spec
from essaim.secrets.ca import new_authority

AUTHORITY = new_authority(datetime.now(UTC))
ROOT = RootCA(certificate=AUTHORITY.certificate.decode(), key=AUTHORITY.key.decode())
TOKENS = JoinTokens(worker="SWMTKN-1-aaa-bbb", manager="SWMTKN-1-aaa-ccc")


@pytest.fixture
def store() -> Store:
    made = Store()
    first = first_objects(
        cluster_id="k", spec=SwarmSpec(), tokens=TOKENS, node_id="m", authority=ROOT,
        description=NodeDescription(hostname="h"), availability="active", advertise="10.0.0.1:2377", ip="10.0.0.1",
        raft_id=7, chance=Random(1),
    )  # fmt: skip
    assert made.apply(1, changes.encode(ChangeSet(list(first), datetime.now(UTC)))).ok
    return made


def test_role_of_token_knows_both_and_refuses_others(store: Store) -> None:
    assert role_of_token(store, TOKENS.worker) == "worker"
    assert role_of_token(store, TOKENS.manager) == "manager"
    for wrong in ("", "SWMTKN-1-aaa-bb", "été"):
        with pytest.raises(InvalidArgument, match="valid join token"):
            role_of_token(store, wrong)


def test_admit_makes_a_node_that_is_down_until_it_says_hello(store: Store) -> None:
    message = JoinMessage("t", "10.0.0.2:2377", "10.0.0.2", "drain", NodeDescription(hostname="w"), b"")
    wanted = admit(message, role="worker", node_id="w", raft_id=9, after=0)
    assert store.apply(2, changes.encode(ChangeSet(list(wanted), datetime.now(UTC)))).ok
    node = store.nodes.get("w")
    assert node is not None
    assert (node.spec.role, node.spec.availability, node.status.state) == ("worker", "drain", "down")
    assert node.manager_status is None


def test_merged_spec_keeps_defaults_of_what_was_not_given() -> None:
    merged = merged_spec(
        SwarmSpec(orchestration=OrchestrationConfig(task_history_retention_limit=2), dispatcher=DispatcherConfig())
    )
    assert merged.orchestration == OrchestrationConfig(task_history_retention_limit=2)
    assert merged.name == "default"
    assert merged.dispatcher is not None
    assert merged.dispatcher.heartbeat_period == 1_000_000_000
