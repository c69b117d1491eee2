"""Whole projects generated from the schema: several files merged, variables in every form, environment files in both
formats, extends, include, profiles, !reset and !override. Never a traceback: accepted, or refused with a place."""

import os
from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from essaim.api.control.validate import check
from essaim.stacks.check.schema import compose_schema
from essaim.stacks.convert.convert import convert
from essaim.stacks.plan.operations import Existing
from essaim.stacks.plan.plan import plan
from essaim.stacks.read.load import Document, Source, load, read_environment
from essaim.stacks.render import render
from essaim.stacks.source.errors import Problem, StackError

from .conftest import MemoryFiles
from .test_generated import strategy

LONG = bool(os.environ.get("ESSAIM_TEST_LONG"))
some = settings(
    max_examples=2000 if LONG else 60, derandomize=not LONG, deadline=None, suppress_health_check=list(HealthCheck)
)
SERVICE = compose_schema()["definitions"]["service"]["properties"]
KEYS = sorted(set(SERVICE) - {"extends", "image", "build", "develop", "provider", "models", "post_start", "pre_stop"})
NAMES = ("a", "b", "c")
FILES = ("base.yml", "sub/other.yml", "inc.yml", "one.env", "sub/two.env", "gone.yml")


class Tagged(yaml.YAMLObject):
    """A value with a tag of Compose's."""

    def __init__(self, tag: str, value: Any) -> None:
        self.tag = tag
        self.value = value


class Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def represent_tagged(dumper: Dumper, tagged: Tagged) -> yaml.Node:
    node = dumper.represent_data(tagged.value)
    node.tag = tagged.tag
    return node


Dumper.add_representer(Tagged, represent_tagged)

NAME = st.sampled_from(["A", "B", "EMPTY", "UNSET", "1X", "a-b", ""])
WORD = st.sampled_from(["", "x", "8080:80", "10s", "true", "a b", "}", "{", "$$", "é"])
OPERATOR = st.sampled_from(["", ":-", "-", ":?", "?", ":+", "+", "!", ":"])


@st.composite
def variable(draw: st.DrawFn, depth: int = 0) -> str:
    """A variable in any form, right or wrong."""
    name = draw(NAME)
    if draw(st.integers(0, 3)) == 0:
        return f"${name}"
    inner = draw(variable(depth + 1)) if depth < 3 and draw(st.booleans()) else draw(WORD)
    end = draw(st.sampled_from(["}", "}", "}", "}", ""]))
    operator = draw(OPERATOR)
    return f"${{{name}{operator}{inner if operator else ''}{end}"


TEXT = st.one_of(variable(), st.builds("{}{}{}".format, WORD, variable(), WORD))
LINE = st.one_of(
    st.builds("{}={}\n".format, st.sampled_from(["A", "B", "export C", "D D", "1", ""]), TEXT),
    st.builds("{}={}{}{}\n".format, NAME, st.sampled_from("'\""), TEXT, st.sampled_from(["'", '"', ""])),
    st.sampled_from(
        ["# comment\n", "\n", "A\n", "A: x\n", "export B\n", '"multi\nline"\n', "A='multi\nline'\n", "=\n"]
    ),
)
ENV_FILE = st.lists(LINE, max_size=4).map("".join)
NAMED = st.sampled_from(FILES)


def tagged(value: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        value, value, value, st.builds(Tagged, st.just("!override"), value), st.just(Tagged("!reset", None)), TEXT
    )


@st.composite
def service(draw: st.DrawFn) -> Any:
    found: dict[str, Any] = {"image": draw(st.sampled_from(["x", "x:${A}", "${UNSET:-y}", "$B"]))}
    for key in draw(st.lists(st.sampled_from(KEYS), max_size=3, unique=True)):
        found[key] = draw(tagged(strategy(SERVICE[key], 3)))
    if draw(st.booleans()):
        other = {"service": draw(st.sampled_from(NAMES))}
        if draw(st.booleans()):
            other["file"] = draw(NAMED)
        found["extends"] = draw(st.sampled_from([other, other["service"]]))
    if draw(st.booleans()):
        found["profiles"] = draw(st.lists(st.sampled_from(["dev", "ops", "${A}"]), max_size=2))
    if draw(st.booleans()):
        entry = {"path": draw(NAMED), "required": draw(st.booleans()), "format": draw(st.sampled_from(["raw", "x"]))}
        for key in draw(st.lists(st.sampled_from(["required", "format"]), max_size=2)):
            entry.pop(key, None)
        found["env_file"] = draw(st.sampled_from([entry["path"], [entry], [entry["path"], entry]]))
    if draw(st.booleans()):
        need = {"condition": "service_healthy", "required": draw(st.booleans()), "restart": draw(st.booleans())}
        found["depends_on"] = draw(st.sampled_from([{draw(st.sampled_from(NAMES)): need}, ["b"]]))
    return found


@st.composite
def file(draw: st.DrawFn) -> str:
    found: dict[str, Any] = {
        "services": draw(tagged(st.dictionaries(st.sampled_from(NAMES), tagged(service()), max_size=3)))
    }
    for section, key in (("networks", "web"), ("volumes", "a"), ("secrets", "a"), ("configs", "b")):
        if draw(st.booleans()):
            found[section] = {key: draw(tagged(strategy({"$ref": f"#/definitions/{section[:-1]}"}, 3)))}
    if draw(st.integers(0, 3)) == 0:
        entry = {"path": draw(NAMED), "env_file": draw(NAMED), "project_directory": "sub"}
        found["include"] = draw(st.sampled_from([[entry["path"]], [entry], [{"path": [entry["path"]]}]]))
    return yaml.dump(found, Dumper=Dumper)


ENVIRONMENT = {"A": "a", "B": "dev", "EMPTY": ""}


def resolved(texts: list[str], files: dict[str, str]) -> tuple[Document | None, list[Problem]]:
    on_disk = MemoryFiles(files)
    try:
        environment = read_environment(Path("/project"), ENVIRONMENT, files=on_disk)
        sources = [Source(f"f{number}.yml", text) for number, text in enumerate(texts)]
        document = load(sources, environment, Path("/project"), ("dev",), on_disk)
        stack = convert(document, "ns")
        assert str(plan(stack, Existing(), prune=True))
        assert all(stack.warnings)
        for spec in stack.services:
            check(spec)
    except StackError as error:
        return None, error.problems
    return document, []


@some
@given(
    st.lists(file(), min_size=1, max_size=3),
    st.fixed_dictionaries({"base.yml": file(), "sub/other.yml": file(), "inc.yml": file()}),
    st.fixed_dictionaries({".env": ENV_FILE, "one.env": ENV_FILE, "sub/two.env": ENV_FILE}),
)
def test_any_project_is_accepted_or_refused_with_a_place(
    texts: list[str], files: dict[str, str], env_files: dict[str, str]
) -> None:
    document, problems = resolved(texts, files | env_files)
    for problem in problems:
        assert problem.place.file.startswith(("f", "/project/")), problem
        assert problem.message
    if document is None:
        return
    printed = render(document)
    assert render(load([Source("f", printed)], {}, Path("/project"), ("*",), MemoryFiles({}))) == printed
