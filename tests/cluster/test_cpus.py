"""Numbers of CPUs, against a second version that moves the point by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from essaim.cluster.cpus import MOST, NANO, BadCpus, parse_cpus


@given(st.integers(0, 10**6), st.text("0123456789", max_size=12))
def test_cpus_of_a_decimal_are_its_digits_with_the_point_moved(whole: int, fraction: str) -> None:
    moved = f"{whole}{fraction.ljust(9, '0')}"
    if moved[len(str(whole)) + 9 :].strip("0"):
        with pytest.raises(BadCpus, match="too precise"):
            parse_cpus(f"{whole}.{fraction}")
    else:
        assert parse_cpus(f"{whole}.{fraction}") == int(moved[: len(str(whole)) + 9])


@given(st.integers(0, 1000), st.integers(0, 1000))
def test_cpus_of_a_ratio_are_exact_or_refused(one: int, other: int) -> None:
    if other and not one * NANO % other:
        assert parse_cpus(f"{one}/{other}") == one * NANO // other
    else:
        with pytest.raises(BadCpus, match=r"too precise|as a rational number"):
            parse_cpus(f"{one}/{other}")


@pytest.mark.parametrize(
    "text",
    ["", "x", "-1", "-1/2", "1/0", "1/-2", "0.5/0.5", "0x1", "010/2", "1p2", "1__0", "_1", "\u00b2", "\u0665", "inf",
     "nan", "1e999999999", " 1", "1 ", ".", "9223372037", "1e10", "9" * 5000, "1" + "0" * 90, "1/3", "1e-10"],
)  # fmt: skip
def test_cpus_that_are_none_are_refused_in_one_line(text: str) -> None:
    words = r"^(failed to parse .* as a rational number|value is too precise|.* is more CPUs)"
    with pytest.raises(BadCpus, match=words) as refused:
        parse_cpus(text)
    assert len(str(refused.value)) < 150


@given(st.text(max_size=20))
def test_cpus_of_any_text_are_read_or_refused(text: str) -> None:
    found = 0
    try:
        found = parse_cpus(text)
    except BadCpus:
        assert not text.isascii() or not text.isdigit() or int(text) * NANO > MOST
    assert 0 <= found <= MOST
