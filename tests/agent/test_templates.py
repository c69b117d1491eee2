"""Placeholders as in Swarm's documentation, and what bad ones get."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from essaim.agent.templates import TemplateError, context, expand

from .doubles import NODE, make_task

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
        ('{{secret "x"}}', "is not understood"),
        ("{{index .Service.Labels x}}", "needs a name in quotes"),
    ],
)
def test_expand_refuses_and_says_what_is_possible(text: str, words: str) -> None:
    with pytest.raises(TemplateError, match=words.replace(".", r"\.")):
        expand(text, VALUES)


@given(st.text(alphabet='{}. "`abTaskSlot-', max_size=40))
def test_expand_answers_any_text_or_refuses_it(text: str) -> None:
    with contextlib.suppress(TemplateError):
        expand(text, VALUES)
