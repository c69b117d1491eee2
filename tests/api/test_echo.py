"""A service's specification comes back as an Engine sends it back: pairs recorded from a real one (echoes.jsonl)."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from essaim.api import bodies
from essaim.api.control.normalise import stored, with_defaults
from essaim.cluster.container import NANOSECONDS
from essaim.cluster.service import ServiceSpec
from essaim.cluster.shape import to_json

PAIRS = [json.loads(line) for line in Path(__file__).with_name("echoes.jsonl").read_text().splitlines()]


def plain(value: Any) -> Any:
    """Without what this comparison is not about: networks' IDs, and nulls and empty texts inside Privileges."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {k: plain(v) for k, v in value.items() if k not in ("Target",) or str(v).startswith("/")}
    if "SELinuxContext" in kept:
        return {"SELinuxContext": {k: v for k, v in kept["SELinuxContext"].items() if v}}
    return kept


@pytest.mark.parametrize("pair", PAIRS, ids=range(len(PAIRS)))
def test_specification_is_echoed_as_an_engine_does(pair: dict[str, Any]) -> None:
    spec = bodies.convert(pair["sent"], ServiceSpec)
    assert plain(json.loads(to_json(stored(spec)))) == plain(pair["echoed"])


@pytest.mark.parametrize("pair", PAIRS, ids=range(len(PAIRS)))
def test_normalisation_done_twice_changes_nothing(pair: dict[str, Any]) -> None:
    once = stored(bodies.convert(pair["sent"], ServiceSpec))
    assert stored(once) == once
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(once), type=ServiceSpec) == once


def test_defaults_are_inserted_only_on_request() -> None:
    spec = stored(bodies.convert(PAIRS[0]["sent"], ServiceSpec))
    full = json.loads(to_json(with_defaults(spec)))
    update = {"Parallelism": 1, "FailureAction": "pause", "Monitor": 5 * NANOSECONDS, "MaxFailureRatio": 0.0}
    assert full["UpdateConfig"] == full["RollbackConfig"] == update | {"Order": "stop-first"}
    assert full["TaskTemplate"]["RestartPolicy"] == {"Condition": "any", "Delay": 5 * NANOSECONDS, "MaxAttempts": 0}
    assert full["TaskTemplate"]["ContainerSpec"]["StopGracePeriod"] == 10 * NANOSECONDS
    assert spec.update_config is None
