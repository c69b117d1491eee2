"""Growth and its bounds, out of samples."""

import os

import pytest

from .resources import DESCRIPTORS_MOST, MEMORY_MOST, WARM, Sample, Series, measured


def series(memory: list[float], *, every: float = 30.0, descriptors: int = 50) -> Series:
    samples = [Sample(number * every, value, descriptors, 0.0) for number, value in enumerate(memory)]
    return Series("h1 essaimd", samples)


def test_growth_is_counted_once_a_process_is_warm() -> None:
    warm = int(WARM / 30)
    assert series([20.0] * warm + [100.0] * 8).slope == 0
    assert series([20.0] * warm + [100.0 + number for number in range(8)]).slope == pytest.approx(2.0)


def test_growth_of_a_young_process_is_none() -> None:
    assert series([1.0, 100.0]).slope == 0


def test_growth_in_the_second_half_of_a_long_life_is_told() -> None:
    filling = [90.0 + number for number in range(30)]
    plateau = [120.0 + number % 3 for number in range(90)]
    assert series(filling + plateau).growth() == []
    assert series([90.0 + number for number in range(10)]).growth() == [], "it is young"
    (text,) = series([90.0 + number / 2 for number in range(120)]).growth()
    assert "h1 essaimd has no plateau: after 60 minutes it still grows by 1.00 MiB a minute" in text


def test_excess_names_the_process_and_the_limit() -> None:
    assert series([MEMORY_MOST]).excess() == []
    (text,) = series([MEMORY_MOST + 1]).excess()
    assert text.startswith(f"h1 essaimd has {MEMORY_MOST + 1:.0f} MiB")
    assert f"limit {MEMORY_MOST:.0f}" in text
    (text,) = series([1.0], descriptors=DESCRIPTORS_MOST + 1).excess()
    assert "descriptors" in text


def test_measured_tells_of_this_process() -> None:
    start, sample = measured(os.getpid())
    assert start.isdecimal()
    assert 5 < sample.memory < 4000
    assert sample.descriptors > 2
