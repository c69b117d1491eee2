"""Environment files: Compose's rules and the raw format."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from essaim.stacks.read.dotenv import read_env, read_raw
from essaim.stacks.source.errors import StackError

ENVIRONMENT = {"HOME": "/root", "SET": "outside"}


def read(text: str) -> dict[str, str | None]:
    return read_env(text, ".env", ENVIRONMENT).values


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("K=v", "v"), ("K = v ", "v"), ("export K=v", "v"), ("K: v", "v"), ("K=", ""), ("K=a b", "a b"),
        ("K=a # comment", "a"), ("K=a#b", "a#b"), ("K=# comment", ""), ("K='a # $HOME \\n'", "a # $HOME \\n"),
        ('K="a\\nb"', "a\nb"), ('K="a\\"b"', 'a"b'), ('K="$HOME/x"', "/root/x"), ("K=${HOME}/x", "/root/x"),
        ("K=${NOPE:-d}", "d"), ('K="\\$HOME"', "$HOME"), ('K="a\nb"', "a\nb"), ("K='a\nb'", "a\nb"), ("K=v\r\n", "v"),
        ("\ufeffK=v", "v"), ("# c\n\n  # d\nK=v\n\n", "v"), ("K=a=b=c", "a=b=c"), ("K='x' # c", "x"), ("K=a$$b", "a$b"),
        ("SET=inside\nK=$SET", "outside"), ("J=inside\nK=$J", "inside"), ("K='it'", "it"), ('K=""', ""),
        ("K='Let\\'s go!' # c", "Let's go!"), ("K='a\\\\'", "a\\\\"), ("K:v", "v"), ("K:", ""),
    ],
)  # fmt: skip
def test_read_env_line_gives_value(text: str, value: str) -> None:
    assert read(text)["K"] == value


@pytest.mark.parametrize("name", ["2FA_ENABLED", "1", "a.b-c", "É"])
def test_read_env_name_may_start_with_a_digit_or_another_alphabets_letter(name: str) -> None:
    assert read(f"{name}=on") == {name: "on"}


def test_read_env_name_alone_takes_the_environments_value() -> None:
    assert read("SET\nNOPE\nexport HOME # c\n") == {"SET": "outside", "NOPE": None, "HOME": "/root"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("A=1\n=x", '.env:2:1: "=x" is not NAME=value'), ("A='x", "the ' at A is never closed"),
        ('A="x" y', "unexpected characters after the closing"), ("A=1\nB=${", ".env:"), ("a b=c", "is not NAME=value"),
    ],
)  # fmt: skip
def test_read_env_mistake_names_the_line(text: str, message: str) -> None:
    with pytest.raises(StackError) as caught:
        read(text)
    assert message in str(caught.value)


def test_read_env_names_the_variables_that_raw_reading_would_change() -> None:
    assert read_env('A=plain\nB="q"\nC=x # c\nD=\n', ".env", {}).differs == ("B", "C")


def test_read_raw_takes_lines_as_they_stand() -> None:
    text = 'A="q" # c\r\n#x\n  B=$HOME\nSET\nC=\'\n'
    assert read_raw(text, "e", ENVIRONMENT).values == {"A": '"q" # c', "B": "$HOME", "SET": "outside", "C": "'"}


def test_read_raw_refuses_a_name_with_blanks() -> None:
    with pytest.raises(StackError) as caught:
        read_raw("A=1\nB C=2", "e", {})
    assert "e:2:1" in str(caught.value)


@given(st.text(alphabet="AB=\"'\\ #\n$:{}x", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    place = ".env"
    try:
        read(text)
    except StackError as caught:
        place = caught.problems[0].place.file
    assert place == ".env"


@given(st.text(alphabet=st.characters(exclude_characters="\\\r\ufeff", exclude_categories=["Cs"])))
def test_single_quotes_keep_any_text_whose_quotes_are_escaped(text: str) -> None:
    escaped = text.replace("'", "\\'")
    assert read(f"K='{escaped}'")["K"] == text
