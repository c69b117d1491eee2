"""Files generated from the schema itself: never a traceback, always accepted or refused with a place."""

import json
import os
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from essaim.api.control.validate import check
from essaim.stacks.convert.convert import convert
from essaim.stacks.plan.operations import Existing
from essaim.stacks.plan.plan import plan
from essaim.stacks.read.load import Source, load
from essaim.stacks.render import render
from essaim.stacks.source.errors import Problem, StackError

SCHEMA = json.loads((resources.files("essaim.stacks.check") / "schemas" / "compose-spec.json").read_text())
NAMES = st.sampled_from(["a", "b", "web", "default", "x-y"])
TEXTS = st.sampled_from(
    ["", "a", "a b", "80:80", "1.5g", "10s", "/a:/b", "./a", "$A", "${A:-b}", "${", "$$", "true", "0", "-1", "nginx:1",
     "a=b", "host", "service:a", "=", ":", "::", "1-2:3-4", "{{.Task.Slot}}", "é\n", "99999999999999999999", "a/b/c@d"]
)  # fmt: skip
NUMBERS = st.sampled_from([-1, 0, 1, 80, 443, 70000, 2**63, 1.5, -0.5, 1e300])
ODD = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS, st.just([]), st.just({}), st.just([{}]), st.just([None]))
DEPTH = 7
LONG = bool(os.environ.get("ESSAIM_TEST_LONG"))
some = settings(
    max_examples=300 if LONG else 12, derandomize=not LONG, deadline=None, suppress_health_check=list(HealthCheck)
)


def strategy(schema: dict[str, Any], depth: int = 0) -> st.SearchStrategy[Any]:
    """Values that mostly fit the schema, and sometimes do not."""
    if "$ref" in schema:
        return strategy(SCHEMA["definitions"][schema["$ref"].rpartition("/")[2]], depth)
    if depth > DEPTH:
        return ODD
    if "oneOf" in schema:
        return st.one_of([strategy(option, depth) for option in schema["oneOf"]])
    kinds = schema.get("type", "string")
    options = [typed(kind, schema, depth) for kind in ([kinds] if isinstance(kinds, str) else kinds)]
    return st.one_of([*options, *options, *options, ODD]) if depth > 2 else st.one_of(options)


def typed(kind: str, schema: dict[str, Any], depth: int) -> st.SearchStrategy[Any]:
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if kind == "object":
        return mapping(schema, depth)
    if kind == "array":
        return st.lists(strategy(schema.get("items", {}), depth + 1), max_size=2)
    return {"string": TEXTS, "boolean": st.booleans(), "null": st.none()}.get(kind, NUMBERS)


def mapping(schema: dict[str, Any], depth: int) -> st.SearchStrategy[Any]:
    known = schema.get("properties", {})
    if not known:
        patterns = [value for key, value in schema.get("patternProperties", {}).items() if not key.startswith("^x-")]
        return st.dictionaries(NAMES, strategy(patterns[0] if patterns else {}, depth + 1), max_size=2)
    keys = st.lists(st.sampled_from(sorted(known)), max_size=3, unique=True)
    required = schema.get("required", [])
    return keys.flatmap(
        lambda chosen: st.fixed_dictionaries(
            {key: strategy(known[key], depth + 1) for key in dict.fromkeys([*required, *chosen]) if key in known}
        )
    )


def service_with(key: str) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries(
        {"image": st.just("example/a"), key: strategy(SCHEMA["definitions"]["service"]["properties"][key], 2)}
    )


class NoFiles:
    def read(self, path: Path) -> bytes:
        raise FileNotFoundError(2, "No such file or directory", str(path))


def outcome(text: str) -> None:
    """Refused with places, or accepted and consistent."""
    for problem in problems_of(text):
        assert str(problem.place).startswith(("f.yml", "/p/")), problem
        assert problem.message


def problems_of(text: str) -> list[Problem]:
    """None means accepted, and then it renders, reads back the same, and plans."""
    try:
        document = load([Source("f.yml", text)], {"A": "x"}, Path("/p"), ("*",), NoFiles())
        printed = render(document)
        stack = convert(document, "ns")
    except StackError as error:
        return error.problems
    again = load([Source("f.yml", printed)], {}, Path("/p"), ("*",), NoFiles())
    assert render(again) == printed
    assert convert(again, "ns").services == stack.services
    assert str(plan(stack, Existing()))
    for spec in stack.services:
        check(spec)  # no manager refuses in the middle of a deploy what was accepted here
    return []


@pytest.mark.parametrize("key", sorted(set(SCHEMA["definitions"]["service"]["properties"]) - {"extends"}))
@some
@given(data=st.data())
def test_any_value_of_a_service_key_is_accepted_or_refused_with_a_place(key: str, data: st.DataObject) -> None:
    service = data.draw(service_with(key))
    file = {"services": {"a": service, "b": {"image": "b"}}, "networks": {"web": {}}, "volumes": {"a": {}}}
    outcome(yaml.safe_dump(file))


@some
@given(strategy({"type": "object", "properties": SCHEMA["properties"]}))
def test_any_file_is_accepted_or_refused_with_a_place(file: Any) -> None:
    outcome(yaml.safe_dump(file))


@some
@given(st.recursive(ODD, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3)))
def test_any_yaml_is_accepted_or_refused_with_a_place(value: Any) -> None:
    outcome(yaml.safe_dump({"services": value}))
    outcome(yaml.safe_dump(value))
