"""Durations and sizes in all spellings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from essaim.cluster.durations import format_duration
from essaim.stacks.canonical.units import parse_cpus, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [("10s", 10**10), ("1m30s", 90 * 10**9), ("1.5h", 5400 * 10**9), ("500ms", 5 * 10**8), (".5s", 5 * 10**8),
     ("1us", 1000), ("1µs", 1000), ("1ns", 1), ("0", 0), ("2d", 172800 * 10**9), ("1h0m", 3600 * 10**9),
     ("-5s", -5 * 10**9)],
)  # fmt: skip
def test_duration_is_read(text: str, nanoseconds: int) -> None:
    assert parse_duration(text) == nanoseconds


@pytest.mark.parametrize("text", ["", "10", "s", "1x", "1 s", "1s2", "--1s", "9" * 70 + "s", "1e3s", "99999999999h"])
def test_duration_without_a_unit_or_with_a_wrong_one_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [(0, "0s"), (1, "1ns"), (1500, "1.5µs"), (5 * 10**8, "500ms"), (90 * 10**9, "1m30s"), (5400 * 10**9, "1h30m0s"),
     (1_500_000_000, "1.5s"), (-(10**9), "-1s")],
)  # fmt: skip
def test_duration_prints_as_go_prints_it(nanoseconds: int, text: str) -> None:
    assert format_duration(nanoseconds) == text


@given(st.integers(min_value=-(2**60), max_value=2**60))
def test_duration_printed_reads_back(nanoseconds: int) -> None:
    assert parse_duration(format_duration(nanoseconds)) == nanoseconds


@pytest.mark.parametrize(
    ("text", "size"),
    [("50M", 52428800), ("50MB", 52428800), ("50mib", 52428800), ("1.5g", 1610612736), ("10 k", 10240), ("512", 512),
     ("1t", 2**40), ("0", 0), ("-1", -1), ("7b", 7), ("8191p", 8191 * 2**50)],
)  # fmt: skip
def test_size_is_read(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "x", "5x", "5mm", "1 2", "m", "9" * 30 + "p", "8192p", "-8193p"])
def test_size_with_a_wrong_unit_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "nano"), [("0.1", 10**8), ("1", 10**9), ("1/2", 5 * 10**8), ("1e-3", 10**6), (".5", 5 * 10**8)]
)
def test_cpus_are_billionths_of_a_core(text: str, nano: int) -> None:
    assert parse_cpus(text) == nano


@pytest.mark.parametrize("text", ["", "x", "-1", "0.0000000001", "1/0", "1e999", "."])
def test_cpus_that_are_no_number_or_too_precise_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        parse_cpus(text)
