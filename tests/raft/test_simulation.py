"""Seeded runs of whole clusters. `ESSAIM_TEST_LONG=1` runs ten times as many; `ESSAIM_SIM_SEEDS=FIRST:LAST` any."""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from mutations import (
    CHURN,
    ELECTIONS,
    FIGURE_8,
    JOINS,
    LAGGING,
    MUTATIONS,
    REPLACED,
    SPLITS,
    STABLE,
    STALE,
    Mutation,
)
from simulation import Faults, Violation, World, run

PROFILES = {
    "mixed": Faults(),
    "membership": CHURN,
    "replacement": REPLACED,
    "splits": SPLITS,
    "lagging": LAGGING,
    "elections": ELECTIONS,
    "figure 8": FIGURE_8,
    "stale": STALE,
    "joins": JOINS,
}
GROUPS = 10
SEEDS = 3000 if os.environ.get("ESSAIM_TEST_LONG") else 300
MOST = 1000  # seeds in which a mutation has to be found


def seeds(group: int) -> range:
    if chosen := os.environ.get("ESSAIM_SIM_SEEDS"):
        first, last = map(int, chosen.split(":"))
        return range(first + group, last, GROUPS)
    return range(group, SEEDS, GROUPS)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("group", range(GROUPS))
def test_simulation_seeds_keep_every_invariant(group: int) -> None:
    acknowledged = leaders = 0
    for seed in seeds(group):
        world = run(seed)
        acknowledged += len(world.acknowledged)
        leaders += len(world.leaders)
    assert acknowledged > 10 * len(seeds(group))
    assert leaders > 2 * len(seeds(group))


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("profile", PROFILES)
def test_simulation_profile_keeps_every_invariant(profile: str) -> None:
    for seed in range(10_000, 10_000 + SEEDS // 20):
        run(seed, PROFILES[profile], members=1 if profile == "joins" else 0)


def test_simulation_stable_leader_is_not_disturbed_by_members_that_return() -> None:
    for seed in range(SEEDS // 20):
        run(seed, STABLE, members=3)


def test_simulation_same_seed_gives_the_same_trace() -> None:
    first, second = World(7, traced=True), World(7, traced=True)
    first.run()
    second.run()
    assert len(first.lines) > 1000
    assert first.lines == second.lines


@pytest.mark.timeout(600)
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: m.name)
def test_simulation_finds_mutation(mutation: Mutation) -> None:
    with mutation.active():
        for seed in range(MOST):
            try:
                World(seed, mutation.faults, **mutation.options).run()
            except Violation:
                return
    pytest.fail(f"{MOST} seeds did not notice a core that {mutation.name}")
