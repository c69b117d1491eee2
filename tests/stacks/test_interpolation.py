"""Variables in values: every form, nesting, escapes, and the words of errors."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from essaim.stacks.read.interpolation import InterpolationError, Interpolator

VARIABLES = {"A": "a", "EMPTY": "", "B": "b", "DOLLAR": "$A", "NESTED": "${A}"}


def value(text: str) -> str:
    return Interpolator(VARIABLES).substitute(text)


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("plain", "plain"), ("$A", "a"), ("${A}", "a"), ("x$A-y", "xa-y"), ("${A}${B}", "ab"), ("$A$B", "ab"),
        ("${EMPTY:-d}", "d"), ("${EMPTY-d}", ""), ("${UNSET-d}", "d"), ("${UNSET:-d}", "d"), ("${A:-d}", "a"),
        ("${A:+x}", "x"), ("${EMPTY:+x}", ""), ("${EMPTY+x}", "x"), ("${UNSET+x}", ""), ("${UNSET:+x}", ""),
        ("${A:?no}", "a"), ("${EMPTY?no}", ""), ("$$A", "$A"), ("$${A}", "${A}"), ("$$$A", "$a"), ("${UNSET}", ""),
        ("${UNSET:-${A}}", "a"), ("${UNSET:-${UNSET2:-${B}}}", "b"), ("${UNSET:-x${A}y$B}", "xayb"),
        ("${UNSET:-a:b-c?d}", "a:b-c?d"), ("${DOLLAR}", "$A"), ("${NESTED}", "${A}"), ("${UNSET:-$$}", "$"),
        ("a}b", "a}b"), ("{$A}", "{a}"), ("${A:+${B}}", "b"), ("${A:-${UNSET:?no}}", "a"), ("${UNSET:-}", ""),
        ("${UNSET:-{\"k\": 1}", '{"k": 1'), ("${A:+}", ""), ("${UNSET:+${UNSET:?no}}", ""),
        ("$_x", ""), ("${A}}", "a}"),
    ],
)  # fmt: skip
def test_substitute_form_gives_value(text: str, result: str) -> None:
    assert value(text) == result


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("${A", "no closing brace"), ("$1", "is no variable; write $$"), ("${}", "no variable name"),
        ("${A!x}", "is no operator"), ("${UNSET:?say why}", "the variable UNSET is required: say why"),
        ("${UNSET?}", "the variable UNSET is required and has no value"), ("${EMPTY:?}", "EMPTY is required"),
        ("${UNSET:-${A}", "no closing brace"), ("a $ b", "is no variable"), ("${A:-" * 30 + "}" * 30, "nested deeper"),
    ],
)  # fmt: skip
def test_substitute_mistake_says_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(InterpolationError) as caught:
        value(text)
    assert message in str(caught.value)


def test_unset_variables_are_remembered_but_not_those_with_defaults() -> None:
    interpolator = Interpolator(VARIABLES)
    interpolator.substitute("$NOPE ${GONE} ${D:-x} ${A:-$SKIPPED}")
    assert list(interpolator.unset) == ["NOPE", "GONE"]


@given(st.text(alphabet="$ABC{}:-?+ x", max_size=60))
def test_any_text_is_substituted_or_refused(text: str) -> None:
    message = "none"
    try:
        value(text)
    except InterpolationError as caught:
        message = str(caught)
    assert message


@given(st.text(max_size=80))
def test_text_with_doubled_dollars_is_itself_again(text: str) -> None:
    assert value(text.replace("$", "$$")) == text
