"""Durations as Go has them, against a second version that adds up exact fractions."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from essaim.cluster.durations import LONG_UNITS, MOST, SECOND, UNITS, BadDuration, format_duration, nanoseconds, seconds

parts = st.lists(
    st.tuples(st.integers(0, 10**5), st.none() | st.text("0123456789", max_size=6), st.sampled_from(sorted(UNITS))),
    min_size=1,
    max_size=4,
)


@given(parts, st.sampled_from(["", "+", "-"]))
def test_nanoseconds_is_the_sum_of_the_parts(given: list[tuple[int, str | None, str]], sign: str) -> None:
    text = sign + "".join(f"{whole}{'' if part is None else '.' + part}{unit}" for whole, part, unit in given)
    total = sum(
        whole * UNITS[unit] + int(Fraction(int(part or "0") * UNITS[unit], 10 ** len(part or "")))
        for whole, part, unit in given
    )
    assert abs(abs(nanoseconds(text)) - total) <= len(given)  # Go reckons fractions as floats
    assert (nanoseconds(text) < 0) == (sign == "-" and total > 0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("-0", 0),
        ("5s", 5 * SECOND),
        ("30s", 30 * SECOND),
        ("1478s", 1478 * SECOND),
        ("+5s", 5 * SECOND),
        ("5.s", 5 * SECOND),
        (".5s", SECOND // 2),
        ("1.004s", 1_004_000_000),
        ("1.00400s", 1_004_000_000),
        ("100.00100s", 100_001_000_000),
        ("10ns", 10),
        ("11us", 11_000),
        ("12µs", 12_000),
        ("12μs", 12_000),
        ("13ms", 13_000_000),
        ("14s", 14 * SECOND),
        ("15m", 900 * SECOND),
        ("16h", 57_600 * SECOND),
        ("-2m3.4s", -123_400_000_000),
        ("1h2m3s4ms5us6ns", 3_723_004_005_006),
        ("39h9m14.425s", 140_954_425_000_000),
        ("52763797000ns", 52_763_797_000),
        ("0.3333333333333333333h", 1200 * SECOND),
        ("9007199254740993ns", 9007199254740993),
        ("9223372036854775807ns", MOST),
        ("-9223372036854775808ns", -MOST - 1),
        ("0.100000000000000000000h", 360 * SECOND),
        ("0.830103483285477580700h", 2_988_372_539_827),
        ("0" * 30 + "5s", 5 * SECOND),
    ],
)
def test_nanoseconds_of_the_cases_that_go_is_tested_with(text: str, expected: int) -> None:
    assert nanoseconds(text) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", 'invalid duration ""'),
        ("3", "missing unit"),
        ("-", "invalid duration"),
        ("s", "invalid duration"),
        (".", "invalid duration"),
        ("-.", "invalid duration"),
        (".s", "invalid duration"),
        ("+.s", "invalid duration"),
        ("1d", 'unknown unit "d"'),
        ("9223372036854775808ns", "invalid duration"),
        ("3000000h", "invalid duration"),
        ("9223372036854775.808us", "invalid duration"),
        ("1.2.3s", "missing unit"),
        ("²s", "invalid duration"),
        ("1²s", r'unknown unit "\xc2\xb2s"'),
        ('1"s', r'unknown unit "\"s" in duration "1\"s"'),
        ("1\ts", r'unknown unit "\x09s"'),
        ("9" * 5000 + "s", "invalid duration"),
        ("1 s", 'unknown unit " s"'),
        ("1e3s", 'unknown unit "e"'),
        ("inf", "invalid duration"),
    ],
)
def test_nanoseconds_of_what_is_none_says_go_s_words(text: str, said: str) -> None:
    with pytest.raises(BadDuration, match=r"^time: ") as refused:
        nanoseconds(text)
    assert said in str(refused.value)
    assert len(str(refused.value)) < 250


@given(st.text(alphabet="0123456789.+-hmsnuµ d²\n", max_size=20))
def test_nanoseconds_any_text_is_read_or_refused(text: str) -> None:
    said = ""
    try:
        assert -MOST - 1 <= nanoseconds(text, LONG_UNITS) <= MOST
    except BadDuration as error:
        said = str(error)
    assert said.isprintable()


@given(st.integers(-MOST, MOST))
def test_format_is_read_back_the_same_below_the_exactness_of_floats(value: int) -> None:
    value %= 10**15
    assert nanoseconds(format_duration(value)) == value
    assert nanoseconds(format_duration(-value)) == -value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (1100, "1.1µs"),
        (2_200_000, "2.2ms"),
        (3_300_000_000, "3.3s"),
        (245 * SECOND, "4m5s"),
        (245_001_000_000, "4m5.001s"),
        (18_367_001_000_000, "5h6m7.001s"),
        (3600 * SECOND, "1h0m0s"),
        (-SECOND, "-1s"),
    ],
)
def test_format_is_go_s(value: int, text: str) -> None:
    assert format_duration(value) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [("90", 90.0), ("1m30s", 90.0), (" 2s ", 2.0), ("0.5", 0.5), ("0", 0.0), ("500ms", 0.5), ("8784h", 31_622_400.0)],
)
def test_seconds_of_a_label(text: str, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not a duration"),
        ("soon", "is not a duration"),
        ("-5s", "is negative"),
        ("-5", "is not a duration"),
        ("8785h", "a year at most"),
        ("9" * 400, "is not a duration"),
        ("20000000h", "a year at most"),
        ("1_0", "is not a duration"),
        ("nan", "is not a duration"),
    ],
)
def test_seconds_of_a_label_that_is_none_says_what_to_write(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        seconds(text)
