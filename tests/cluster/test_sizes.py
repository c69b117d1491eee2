"""Sizes as Docker's tools read them, and Go's booleans."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from essaim.cluster.booleans import parse_bool
from essaim.cluster.sizes import BINARY, DECIMAL, MOST, UNLIMITED, BadSize, parse_limit, parse_size


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
        ("7 ", 7),
        ("5.k", 5120),
        ("+5", 5),
        ("-0", 0),
        ("1e3", 1000),
        ("1.5E2k", 150 << 10),
        ("1_000", 1000),
        ("1e-999999999k", 0),
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
        "1²",
        "1\tk",
        "1\nk",
        " 7",
        "7  k",
        "7k ",
        "inf",
        "nan",
        "0x10",
        "1__0",
        "_1",
        "1e",
        "1e999999999k",
        "1e" + "9" * 30,
        "9" * 31,
        "9" * 30 + "p",
        "9" * 5000,
        "x" * 5000,
        "32m32",
        "8192p",
        "\ud8001",
    ],
)
def test_size_that_is_none_says_so_in_one_line(text: str) -> None:
    with pytest.raises(BadSize, match=r"^(invalid (size|suffix): |strconv.ParseFloat: parsing )") as refused:
        parse_size(text)
    assert len(str(refused.value)) < 150
    assert str(refused.value).isprintable()


@given(st.text(alphabet="0123456789.eE+-_ kKmMiIbBx\u0665", max_size=12), st.sampled_from([BINARY, DECIMAL]))
def test_size_of_any_text_is_what_a_scan_from_its_end_finds(text: str, base: int) -> None:
    assert read(text, base) == scanned(text, base)


def read(text: str, base: int) -> int | None:
    try:
        return parse_size(text, base)
    except BadSize:
        return None


def scanned(text: str, base: int) -> int | None:
    """A second version, by a table of all units and Python's own numbers."""
    powers = {"": 0, "b": 0} | {one + tail: n for n, one in enumerate("kmgtp", 1) for tail in ("", "b", "ib")}
    end = len(text)
    while end and text[end - 1] not in "0123456789. ":
        end -= 1
    number, unit = text[:end], text[end:].lower()
    number = number[:-1] if number.endswith(" ") else number
    if unit not in powers or not number or set(number) - set("0123456789.eE+-_"):
        return None
    try:
        exact = Fraction(number) if "e" not in number.lower() or abs(int(number.lower().split("e")[1])) < 40 else None
        float(number)
    except ValueError:
        return None
    if exact is None:
        return 0 if float(number) < 1 and not number.startswith("-") else None
    if exact < 0 or exact * base ** powers[unit] > MOST:
        return None
    return int(exact * base ** powers[unit])


def test_limit_takes_minus_one_for_none_and_nothing_else_below_zero() -> None:
    assert (parse_limit("-1"), parse_limit("64m")) == (UNLIMITED, 64 << 20)
    with pytest.raises(BadSize, match="invalid size: '-2'"):
        parse_limit("-2")


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
