"""Sizes as Docker's tools read them, and Go's booleans."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from essaim.cluster.booleans import parse_bool
from essaim.cluster.sizes import DECIMAL, MOST, parse_size


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("32", 32),
        ("32b", 32),
        ("32B", 32),
        ("32k", 32 << 10),
        ("32Kb", 32 << 10),
        ("32Kib", 32 << 10),
        ("32mb", 32 << 20),
        ("32.5kB", 33280),
        ("32.5 kB", 33280),
        ("64 m", 64 << 20),
        ("1.5GB", 3 << 29),
        ("2gib", 2 << 30),
        ("32Tb", 32 << 40),
        ("32P", 32 << 50),
        ("0.3 K", 307),
        (".5k", 512),
        (" 7 ", 7),
        ("5.k", 5120),
    ],
)
def test_size_in_every_spelling(text: str, expected: int) -> None:
    assert parse_size(text) == expected


def test_size_of_log_files_counts_in_thousands() -> None:
    assert (parse_size("10m", DECIMAL), parse_size("64kb", DECIMAL), parse_size("7", DECIMAL)) == (
        10_000_000,
        64_000,
        7,
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "-32",
        ".",
        " . ",
        "32kk",
        "32bb",
        "32 mb b",
        "32ib",
        "²k",
        "1e3",
        "inf",
        "0x10",
        "1_0",
        "9" * 31,
        "9" * 30 + "p",
        "32m32",
    ],
)
def test_size_that_is_none_says_so_in_one_line(text: str) -> None:
    with pytest.raises(ValueError, match=r"^invalid (size|suffix): ") as refused:
        parse_size(text)
    assert len(str(refused.value)) < 150


@given(st.integers(0, MOST), st.sampled_from(["", "b", "k", "K", "mb", "GiB", "t"]))
def test_size_is_number_times_unit(number: int, unit: str) -> None:
    expected = number * 1024 ** "bkmgt".index((unit or "b")[0].lower())
    if expected > MOST:
        with pytest.raises(ValueError, match="is more than"):
            parse_size(f"{number}{unit}")
    else:
        assert parse_size(f"{number}{unit}") == expected


def test_booleans_are_the_twelve_spellings_of_go() -> None:
    assert [parse_bool(text) for text in ("1", "t", "T", "TRUE", "true", "True")] == [True] * 6
    assert [parse_bool(text) for text in ("0", "f", "F", "FALSE", "false", "False")] == [False] * 6
    assert [parse_bool(text) for text in ("", "yes", "on", "tRUE", "2", " true", "²")] == [None] * 7
