"""YAML to nodes: places, types, anchors, and the limits."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from essaim.stacks.source import yamlreader
from essaim.stacks.source.errors import Problem, StackError
from essaim.stacks.source.scalars import resolve, text_of
from essaim.stacks.source.tree import Node, plain
from essaim.stacks.source.yamlreader import MAX_DEPTH, read_yaml


def read(text: str) -> Any:
    (node,) = read_yaml(text, "f.yml")
    return plain(node)


def error(text: str) -> str:
    with pytest.raises(StackError) as caught:
        read_yaml(text, "f.yml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0644", 420), ("0o17", 15), ("0x1F", 31), ("1_000", 1000), ("09", 9.0), ("1e3", 1000.0), (".5", 0.5),
        ("on", "on"), ("yes", "yes"), ("22:22", "22:22"), ("2001-01-01", "2001-01-01"), ("1.2.3", "1.2.3"),
        ("True", True), ("~", None), ("", None), ("-5", -5), ("+5", 5), ("0b11", 3), ("1__", 1), ("-", "-"), (".", "."),
    ],
)  # fmt: skip
def test_scalar_plain_has_the_type_that_dockers_tools_give_it(text: str, value: object) -> None:
    assert resolve(text) == value
    assert type(resolve(text)) is type(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.1, "1.1"), (1000.0, "1000"), (1e21, "1e+21"), (0.00001, "1e-05"), (True, "true"), (420, "420"), (None, ""),
     (float("inf"), "+Inf"), (-1.5, "-1.5"), (123456789.125, "123456789.125")],
)  # fmt: skip
def test_scalar_as_text_prints_as_go_prints_it(value: object, text: str) -> None:
    assert text_of(value) == text


def test_quoted_scalar_stays_a_string() -> None:
    assert read("a: '1'\nb: \"true\"\nc: |\n  5\nd: !!str 5\ne: !!int '7'") == {
        "a": "1", "b": "true", "c": "5\n", "d": "5", "e": 7,
    }  # fmt: skip


def test_nodes_know_where_key_and_value_stand() -> None:
    (node,) = read_yaml("a: 1\nbig:\n  - x\n  - {k: v}\n", "f.yml")
    item = node.value["big"].value[1].value["k"]
    assert (item.place.line, item.place.column) == (4, 9)
    assert (item.key_place.line, item.key_place.column) == (4, 6)
    assert str(item.place) == "f.yml:4:9"


def test_merge_key_fills_in_what_the_mapping_does_not_say() -> None:
    text = "base: &b {x: 1, y: 1}\nmore: &m {y: 2, z: 2}\none: {<<: *b, y: 9}\ntwo: {<<: [*m, *b]}\n"
    found = read(text)
    assert found["one"] == {"x": 1, "y": 9}
    assert found["two"] == {"x": 1, "y": 2, "z": 2}


def test_two_documents_are_both_read() -> None:
    assert [plain(node) for node in read_yaml("a: 1\n---\nb: 2\n", "f")] == [{"a": 1}, {"b": 2}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2", 'f.yml:2:1: the key "a" is already defined at line 1'),
        ("a: *nope", "f.yml:1:4: the anchor &nope is not defined before this alias"),
        ("a: !!python/object:os.system x", "f.yml:1:4: the tag tag:yaml.org,2002:python/object:os.system is not known"),
        ("a: !frob {}", "f.yml:1:4: the tag !frob is not known"),
        ("a: [1\n", "while parsing a flow sequence from line 1 on"),
        ("a:\n\t- x", "f.yml:2:1: not valid YAML"),
        ("? [a]\n: b", "f.yml:1:3: a key must be a string"),
        ("a: {<<: 5}", "<< takes a mapping"),
        ("a: !!int x", "is not of the type !!int"),
        ("a: \x00", "f.yml:1:4: not valid YAML: the character U+0000"),
        ("a: &a [*a]", "the anchor &a is not defined before this alias"),
    ],
)
def test_broken_text_is_refused_with_its_place(text: str, message: str) -> None:
    assert message in error(text)


def test_a_billion_laughs_are_refused_before_they_cost_anything() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    assert "with its aliases expanded the file holds more than" in error("\n".join(lines))


def test_laughs_through_merge_keys_are_refused() -> None:
    wide = ", ".join(f"k{n}: v" for n in range(1000))
    text = f"a: &a {{{wide}}}\n" + "\n".join(f"m{n}: {{<<: [{', '.join(['*a'] * 20)}]}}" for n in range(40))
    assert "more than" in error(text)


def test_deep_nesting_is_refused_not_overflowed() -> None:
    assert f"nested deeper than {MAX_DEPTH} levels" in error("[" * 5000 + "]" * 5000)


def test_huge_text_is_refused() -> None:
    assert "larger than 8 MiB" in error("x" * (9 * 1024 * 1024))


CORPUS = sorted((Path(__file__).parent / "corpus").glob("*.yml"))


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_reading_without_libyaml_gives_the_same_nodes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def places(node: Node) -> list[object]:
        children = node.value.values() if isinstance(node.value, dict) else node.value
        below = [places(child) for child in children] if isinstance(node.value, dict | list) else []
        # The two disagree only on where nothing stands.
        return [node.place if node.value is not None else None, node.key_place, *below]

    text = path.read_text()
    (fast,) = read_yaml(text, "f")
    monkeypatch.setattr(yamlreader, "Loader", yaml.SafeLoader)
    (slow,) = read_yaml(text, "f")
    assert plain(slow) == plain(fast)
    assert places(slow) == places(fast)


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused_with_a_place(text: str) -> None:
    problems: list[Problem] = []
    try:
        read_yaml(text, "f.yml")
    except StackError as caught:
        problems = caught.problems
    assert all(problem.place.file == "f.yml" for problem in problems)
