"""The soak as a test: a slice of a few minutes in every run, hours with --long.

The slice is the same in every run: one round of seed 1 without the kinds of `NOT_YET` and `SLOW`. With --long
`ESSAIM_SOAK_SEED` chooses the seed and `ESSAIM_SOAK_MINUTES` how long; `ESSAIM_SOAK_IGNORE` is a pattern of what is
known to be wrong. A failure says how to repeat the one fault. The summary with every process's memory is in
`build/soak/`.
"""

import os
from pathlib import Path

import pytest

from .faults import BY_TITLE, NOT_YET, SLOW
from .soak import Settings, soak

LONG = bool(os.environ.get("ESSAIM_TEST_LONG"))
SEED = os.environ.get("ESSAIM_SOAK_SEED", "1") if LONG else "1"
MINUTES = float(os.environ.get("ESSAIM_SOAK_MINUTES", "180")) if LONG else 6.0
"""No fault begins later than this; the last one may take two minutes more."""
FOLDER = Path(__file__).parents[2] / "build" / "soak"

pytestmark = [pytest.mark.lab, pytest.mark.long, pytest.mark.timeout(MINUTES * 60 + 420), pytest.mark.blocking_allowed]


async def test_soak_of_seeded_faults_leaves_everything_as_it_must_be() -> None:
    known = os.environ.get("ESSAIM_SOAK_IGNORE", "")
    settings = Settings(SEED, seconds=MINUTES * 60, ignore=known, folder=FOLDER)
    if not LONG:
        settings.skip = frozenset({*NOT_YET, *SLOW})
        settings.count = len(BY_TITLE) - len(settings.skip)
    report = await soak(settings)
    report.save(FOLDER / f"{SEED}.json")
    print(report.text())
    assert report.outcomes, "no fault happened"
    assert not report.failed, report.text()
