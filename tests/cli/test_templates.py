"""Go templates: what text/template makes of the same source and data."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from essaim.cli.template.evaluate import Template
from essaim.cli.template.syntax import TemplateError

DATA: dict[str, Any] = {
    "ID": "abc",
    "Name": "Web",
    "N": 3,
    "F": 1.5,
    "Yes": True,
    "No": False,
    "Nil": None,
    "List": ["a", "b", "c"],
    "Map": {"z": "1", "a": {"b": "deep"}},
    "Rows": [{"X": 1}, {"X": 2}],
}


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("plain", "plain"),
        ("{{.ID}} {{.Name}}", "abc Web"),
        ("{{.}}x", None),
        ("{{json .List}}", '["a","b","c"]'),
        ("{{json .Map}}", '{"z":"1","a":{"b":"deep"}}'),
        ("{{.Map.a.b}}", "deep"),
        ("{{.Map}}", "map[a:map[b:deep] z:1]"),
        ("{{.List}}", "[a b c]"),
        ("{{.Nil}}", "<nil>"),
        ("{{.Yes}} {{.F}} {{.N}}", "true 1.5 3"),
        ("{{upper .Name}} {{lower .Name}} {{title .ID}}", "WEB web Abc"),
        ("{{.Name | upper | printf `%s!`}}", "WEB!"),
        ('{{printf "%-5s|%5d|%05d|%q" .ID .N .N .ID}}', 'abc  |    3|00003|"abc"'),
        ('{{printf "%v|%t|%x|%.2f" .List .Yes .N .F}}', "[a b c]|true|3|1.50"),
        ('{{printf "%d" .ID}}', "%!d(string=abc)"),
        ('{{printf "%s %s" .ID}}', "abc %!s(MISSING)"),
        ('{{join .List ", "}}', "a, b, c"),
        ('{{split "a,b" ","}}', "[a b]"),
        ("{{truncate .Name 2}}", "We"),
        ("{{pad .ID 1 2}}|", " abc  |"),
        ("{{len .List}} {{len .Name}}", "3 3"),
        ('{{index .List 1}} {{index .Map "z"}} {{index .Map "a" "b"}}', "b 1 deep"),
        ('{{index .Map "nosuch"}}|', "|"),
        ("{{slice .Name 1 2}}", "e"),
        ("{{if .Yes}}y{{else}}n{{end}}{{if .No}}y{{else}}n{{end}}", "yn"),
        ("{{if .No}}1{{else if .Yes}}2{{else}}3{{end}}", "2"),
        ("{{if eq .N 3}}three{{end}}{{if ne .ID `abc`}}x{{end}}", "three"),
        ("{{if and .Yes (gt .N 2)}}a{{end}}{{if or .No .Nil}}b{{end}}{{not .No}}", "atrue"),
        ("{{and .Yes .ID}} {{or .Nil .ID}}", "abc abc"),
        ("{{range .List}}<{{.}}>{{end}}", "<a><b><c>"),
        ("{{range $i, $v := .List}}{{$i}}{{$v}} {{end}}", "0a 1b 2c "),
        ("{{range $k, $v := .Map}}{{$k}} {{end}}", "a z "),
        ("{{range .Rows}}{{.X}}{{$.ID}}{{end}}", "1abc2abc"),
        ("{{range .Nil}}x{{else}}none{{end}}", "none"),
        ("{{range .List}}{{if eq . `b`}}{{continue}}{{end}}{{.}}{{end}}", "ac"),
        ("{{range .List}}{{if eq . `b`}}{{break}}{{end}}{{.}}{{end}}", "a"),
        ("{{with .Map}}{{.z}}{{end}}{{with .Nil}}x{{else}}no{{end}}", "1no"),
        ("{{$x := .ID}}{{$x}}{{$x = .Name}}{{$x}}", "abcWeb"),
        ("a {{- .ID -}} b", "aabcb"),
        ("a{{/* gone */}}b", "ab"),
        ("{{`raw`}} {{\"q\\t\"}}|{{'a'}} {{0x10}} {{1e3}}", "raw q\t|97 16 1000"),
        ("{{(index .Rows 1).X}}", "2"),
        ("{{println .ID 1}}", "abc 1\n"),
        ("{{print .ID 1}}", "abc1"),
        ("{{html `<a>`}} {{urlquery `a b`}}", "&lt;a&gt; a+b"),
    ],
)  # fmt: skip
def test_template_renders_as_go_does(source: str, text: str | None) -> None:
    rendered = Template(source).render(DATA)
    if text is not None:
        assert rendered == text


@pytest.mark.parametrize(
    ("source", "part"),
    [
        ("{{.ID", "unclosed action"),
        ("{{if .ID}}x", "missing {{end}}"),
        ("{{end}}", "unexpected {{end}}"),
        ("{{nosuch .ID}}", 'function "nosuch" not defined'),
        ("{{.Nosuch}}", "can't evaluate field Nosuch"),
        ("{{.ID.X}}", "can't evaluate field X in type string"),
        ("{{.Nil.X}}", "nil pointer evaluating field X"),
        ("{{index .List 9}}", "index out of range"),
        ("{{$x}}", 'undefined variable "$x"'),
        ("{{upper .N}}", "expected string"),
        ("{{lt .ID .N}}", "incompatible types"),
        ("{{range .N.X}}{{end}}", "can't evaluate"),
        ("{{}}", "missing value for command"),
        ("{{(.ID}}", "unclosed left paren"),
        ("{{template `x`}}", "not supported"),
        ("{{truncate .Name}}", "wrong arguments for truncate"),
        ("{{. @}}", "unexpected '@'"),
    ],
)
def test_template_with_a_mistake_says_which(source: str, part: str) -> None:
    with pytest.raises(TemplateError) as caught:
        Template(source).render(DATA)
    assert part in str(caught.value)


def test_template_known_field_that_is_missing_is_nil() -> None:
    template = Template("{{if .UpdateStatus}}y{{else}}n{{end}} {{.UpdateStatus}}", known={"UpdateStatus"})
    assert template.render({}) == "n <nil>"


@given(st.text(alphabet="{}.|()$:=\"'` abAIDNrangeifdl-/*,09\\\n", max_size=60))
def test_template_of_any_text_renders_or_explains(source: str) -> None:
    try:
        Template(source).render(DATA)
    except TemplateError as error:
        explained = str(error)
        assert explained


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(VALUES)
def test_json_of_any_value_reads_back(value: Any) -> None:
    import json

    assert json.loads(Template("{{json .V}}").render({"V": value})) == value
