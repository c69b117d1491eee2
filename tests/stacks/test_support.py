"""The table of keys, the text made of it, and the file that is printed."""

import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from essaim.cluster.service import ServiceSpec
from essaim.stacks.check.schema import service_keys
from essaim.stacks.check.support import SERVICE, Answer, document
from essaim.stacks.convert.convert import convert
from essaim.stacks.plan.operations import Existing
from essaim.stacks.plan.plan import plan
from essaim.stacks.read.load import Document, Source, load, read_environment
from essaim.stacks.render import render

from .large_file import large

CORPUS = Path(__file__).parent / "corpus"
SERVICES = 500


def test_every_key_of_the_schema_has_an_answer_and_no_other() -> None:
    assert set(SERVICE) == set(service_keys())


def test_every_answer_that_is_not_plain_says_why() -> None:
    assert [key for key, found in SERVICE.items() if found.answer is not Answer.CARRIED and not found.note] == []


def test_documentation_is_what_the_table_says() -> None:
    written = (Path(__file__).parents[2] / "docs" / "compose.md").read_text()
    assert written == document(), "run tools/compose_docs.py"


def by_name(document: Document) -> dict[str | None, ServiceSpec]:
    return {spec.name: spec for spec in convert(document, "ns").services}


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*.yml")), ids=lambda path: path.stem)
def test_config_reads_back_as_the_same_stack(path: Path) -> None:
    variables = {"B": "b", "HOME": "/root"}
    first = load([Source(path.name, path.read_text())], variables, CORPUS)
    again = load([Source("printed", render(first))], {}, Path("/elsewhere"))
    assert render(again) == render(first)
    assert by_name(again) == by_name(first)


def shuffled(value: Any, order: random.Random) -> Any:
    """The same mappings in another order."""
    if isinstance(value, dict):
        pairs = [(key, shuffled(child, order)) for key, child in value.items()]
        order.shuffle(pairs)
        return dict(pairs)
    return [shuffled(child, order) for child in value] if isinstance(value, list) else value


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*.yml")), ids=lambda path: path.stem)
def test_config_is_the_same_text_however_the_file_is_ordered(path: Path) -> None:
    variables = {"B": "b", "HOME": "/root"}
    first = render(load([Source(path.name, path.read_text())], variables, CORPUS))
    data = yaml.safe_load(first)
    for seed in range(5):
        other = yaml.safe_dump(shuffled(data, random.Random(seed)), sort_keys=False)
        assert render(load([Source("f.yml", other)], {}, CORPUS)) == first


def test_config_quotes_what_would_read_back_as_something_else(document_of: Callable[..., Document]) -> None:
    values = ["0o17", "1e3", "on", "22:22", "~", "", "0644", "a: b", "${X}", "\u0085", "- x", "*a", "!t", "2001-01-01"]
    text = "services: {a: {image: x, environment: {%s}}}"
    body = ", ".join(f"K{n}: {value.replace('$', '$$')!r}" for n, value in enumerate(values) if value.isprintable())
    first = document_of(text % body)
    again = document_of(render(first))
    assert render(again) == render(first)
    assert [node.value for node in again.services["a"].value["environment"].value.values()] == [
        node.value for node in first.services["a"].value["environment"].value.values()
    ]


def test_config_without_interpolation_keeps_variables_as_they_are_written(document_of: Callable[..., Document]) -> None:
    text = render(document_of("services: {a: {image: 'x:${TAG:-1}', user: $$U}}", interpolate=False))
    assert "image: x:${TAG:-1}" in text
    assert "user: $$U" in text


def test_environment_of_the_caller_wins_over_the_env_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("A=file\nB=file\nC=${A}\n")
    (tmp_path / "other.env").write_text("B=other\n")
    assert read_environment(tmp_path, {"A": "own"}) == {"A": "own", "B": "file", "C": "own"}
    assert read_environment(tmp_path, {}, [Path("other.env")]) == {"B": "other"}


def test_500_services_are_read_checked_and_planned_within_a_second(tmp_path: Path) -> None:
    text = large(SERVICES)
    costs = []
    for _ in range(3):  # the best of three: other work on the machine slows a run down, nothing speeds one up
        start = time.process_time()
        found = plan(convert(load([Source("large.yml", text)], os.environ, tmp_path), "ns"), Existing())
        costs.append(time.process_time() - start)
        assert len(found.operations) == SERVICES + 2
    assert min(costs) < 1.0
