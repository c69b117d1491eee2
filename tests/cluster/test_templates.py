"""Placeholders as in Swarm's documentation, and what bad ones get."""

import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from essaim.agent.runtime.templates import context
from essaim.cluster.templates import SHAPE, TemplateError, check, expand
from tests.agent.doubles import NODE, make_task

VALUES = context(make_task(service_labels={"a.b": "label"}), NODE)


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("{{.Task.Slot}}", "1"),
        ("x-{{ .Service.Name }}-y", "x-web-y"),
        ("{{.Node.Hostname}}/{{.Node.ID}}/{{.Task.ID}}", "host1/node1/t1"),
        ("{{.Task.Name}}", "web.1.t1"),
        ('{{index .Service.Labels "a.b"}}', "label"),
        ("{{index .Service.Labels `none`}}", ""),
        ("{{.Service.Labels.none}}", ""),
        ("{{/* nothing */}}", ""),
        ("a {{- .Task.Slot -}} b", "a1b"),
        ('{{"literal"}}', "literal"),
        ('{{env "HOME"}}', "env:HOME"),
        ("{ not one }", "{ not one }"),
    ],
)
def test_expand_fills_in(text: str, filled: str) -> None:
    assert expand(text, VALUES, {"env": lambda name: f"env:{name}"}) == filled


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{{.Task.Nothing}}", "below .Task: .Task.ID, .Task.Name, .Task.Slot"),
        ("{{.Task}}", "is a group of fields; name one of: ID, Name, Slot"),
        ("{{range .Service.Labels}}", "is not understood; possible are"),
        ('{{secret "x"}}', "asks for secret, which is unknown; possible are"),
        ("{{index .Service.Labels .Task.ID}}", "needs a name in quotes"),
    ],
)
def test_expand_refuses_and_says_what_is_possible(text: str, words: str) -> None:
    with pytest.raises(TemplateError, match=words.replace(".", r"\.")):
        expand(text, VALUES)


@given(st.text(alphabet='{}. "`abTaskSlot-', max_size=40))
def test_expand_answers_any_text_or_refuses_it(text: str) -> None:
    with contextlib.suppress(TemplateError):
        expand(text, VALUES)


# What Docker 20.10 said of `service create --env X=TEXT`, after `template: expansion:`.
REFUSED_BY_DOCKER = [
    ("{{.Foo}}", '1:2: executing "expansion" at <.Foo>: can\'t evaluate field Foo in type *template.Context'),
    (
        "{{.Task.Foo}}",
        (
            '1:7: executing "expansion" at <.Task.Foo>: can\'t evaluate field Foo in type '
            "struct { ID string; Name string; Slot string }"
        ),
    ),
    ("{{.Task.Slot", "1: unclosed action"),
    ("{{", "1: unclosed action"),
    ("{{}}", "1: missing value for command"),
    ("{{foo}}", '1: function "foo" not defined'),
    (
        "{{.Node.Foo}}",
        (
            '1:7: executing "expansion" at <.Node.Foo>: can\'t evaluate field Foo in type '
            "struct { ID string; Hostname string; Platform template.Platform }"
        ),
    ),
    (
        "{{.Node.Platform.Foo}}",
        '1:7: executing "expansion" at <.Node.Platform.Foo>: can\'t evaluate field Foo in type template.Platform',
    ),
    (
        "{{.Service.Foo}}",
        (
            '1:10: executing "expansion" at <.Service.Foo>: can\'t evaluate field Foo in type '
            "struct { ID string; Name string; Labels map[string]string }"
        ),
    ),
    ("{{index .Service.Labels a}}", '1: function "a" not defined'),
    ('{{secret "x"}}', '1: function "secret" not defined'),
    ('{{env "A"}}', '1: function "env" not defined'),
    (
        "{{.task.slot}}",
        '1:7: executing "expansion" at <.task.slot>: can\'t evaluate field task in type *template.Context',
    ),
    ("{{.Task.Slot.Foo}}", '1:7: executing "expansion" at <.Task.Slot.Foo>: can\'t evaluate field Foo in type string'),
    ("{{.Task.Slot foo}}", '1: function "foo" not defined'),
    (
        '{{.Task.Slot "a"}}',
        '1:7: executing "expansion" at <.Task.Slot>: Slot has arguments but cannot be invoked as function',
    ),
    ("{{ .Task.ID extra }}", '1: function "extra" not defined'),
    ('{{"unterminated}}', "1: unterminated quoted string"),
    ("{{.Task.Slot}", "1: bad character U+007D '}'"),
    ("{{Foo}}", '1: function "Foo" not defined'),
    ("{{.Service.Name.}}", "1: unexpected <.> in operand"),
    ("{{..}}", "1: unexpected <.> in operand"),
    ("{{.Foo}} {{.Bar}}", '1:2: executing "expansion" at <.Foo>: can\'t evaluate field Foo in type *template.Context'),
    ("{{CONTAINER_IP}}", '1: function "CONTAINER_IP" not defined'),
    ("{{__CONTAINER_IP__}}", '1: function "__CONTAINER_IP__" not defined'),
    ("{{foo-bar}}", "1: bad character U+002D '-'"),
    ("{{foo:bar}}", '1: function "foo" not defined'),
    ('{{{"a":1}}}', '1: unexpected "{" in command'),
    ("{{@x}}", '1: unexpected "@" in command'),
    ("{{a b}}", '1: function "a" not defined'),
    ("{{lower .Task.Name}}", '1: function "lower" not defined'),
    ("{{title .Task.Name}}", '1: function "title" not defined'),
    ("\na {{.Bar}}", '2:4: executing "expansion" at <.Bar>: can\'t evaluate field Bar in type *template.Context'),
]
TAKEN_BY_DOCKER = [
    "a}}b",
    "{{.Task.Slot}} {{.Node.Hostname}}",
    "{{.Node.Platform.OS}}",
    '{{index .Service.Labels "a"}}',
    '{{"lit"}}',
    "{{/* c */}}",
    "{{- .Task.Slot -}}",
    "{{.Task.ID}}",
    "{{`raw`}}",
    "{ {.Foo} }",
    "{{.Service.ID}}{{.Service.Name}}",
    '{"a":{"b":1}}',
]
ONLY_IN_GO = [
    "{{.Task}}",
    "{{.Node.Platform}}",
    "{{.Service.Labels}}",
    "{{index .Service.Labels}}",
    "{{if .Task.Slot}}1{{end}}",
    '{{join .Service.Name "b"}}',
    '{{printf "%s" .Task.Name}}',
    "{{.Task.Name | len}}",
    "{{$x := 1}}{{$x}}",
    "{{.}}",
    "{{1}}",
    "{{(.Task.Name)}}",
    "{{true}}",
    "{{'a'}}",
]
REFUSED_IN_OTHER_WORDS = [
    '{{index .Service "a"}}',
    "{{if .Task.Slot}}1",
    "{{end}}",
    "{{not.field}}",
    '{{template "x"}}',
    "{{nil}}",
    '{{index .Service.Labels "a" "b"}}',
    "{{index .Service.Labels 1}}",
]


@pytest.mark.parametrize(("text", "words"), REFUSED_BY_DOCKER)
def test_check_refuses_in_dockers_words_and_in_its_own(text: str, words: str) -> None:
    with pytest.raises(TemplateError, match=r"^the placeholder ") as caught:
        check(text)
    assert caught.value.go == f"template: expansion:{words}"


@pytest.mark.parametrize("text", TAKEN_BY_DOCKER)
def test_check_takes_what_docker_takes(text: str) -> None:
    check(text)


@pytest.mark.parametrize("text", [*ONLY_IN_GO, *REFUSED_IN_OTHER_WORDS])
def test_check_refuses_the_rest_of_gos_language_and_says_what_is_possible(text: str) -> None:
    with pytest.raises(TemplateError) as caught:
        check(text)
    assert not caught.value.go
    assert any(words in str(caught.value) for words in ("possible are: a field", "name one of: ", "a name in quotes"))


def test_malformed_text_is_seen_before_a_wrong_field_in_front_of_it() -> None:
    with pytest.raises(TemplateError, match="is not closed"):
        check("{{.Foo}} {{.Task.Slot")


def test_check_knows_the_fields_of_a_real_task() -> None:
    def names(values: object) -> object:
        return {k: names(v) for k, v in values.items() if k != "Labels"} if isinstance(values, dict) else None

    assert names(VALUES) == names(SHAPE)


def test_many_placeholders_cost_time_in_proportion_to_their_number() -> None:
    one, many = ("{{ .Task.Slot }}\n" * count for count in (1000, 10_000))
    begun = time.process_time()
    expand(one, VALUES)
    middle = time.process_time()
    assert expand(many, VALUES) == "1\n" * 10_000
    assert time.process_time() - middle < 40 * (middle - begun) + 0.1


def naive(text: str) -> str | None:
    """A second version for texts of plain fields, word by word; None is refused."""
    out = ""
    while text:
        if not text.startswith("{{"):
            out, text = out + text[0], text[1:]
            continue
        inside, closed, text = text[2:].partition("}}")
        field = inside.strip(" ")
        known = {".Task.Slot": "1", ".Service.Name": "web", ".Node.ID": "node1"}
        if not closed or field not in known:
            return None
        out += known[field]
    return out


PIECES = ["{{", "}}", " ", ".Task", ".Slot", ".Service.Name", ".Node.ID", ".", "x", "{{.Task.Slot}}", "{{ .Node.ID }}"]


@given(st.lists(st.sampled_from(PIECES), max_size=8).map("".join))
def test_expand_agrees_with_a_naive_version(text: str) -> None:
    try:
        found: str | None = expand(text, VALUES)
    except TemplateError:
        found = None
    assert found == naive(text)
