"""Figures of the bench suite: medians, and whether they are as wanted."""

from __future__ import annotations

import math

import pytest

from bench.outcome import Figure, Options


@pytest.mark.parametrize(
    ("runs", "most", "least", "passed"),
    [
        ([1.0, 9.0, 2.0], 2.0, None, True),
        ([1.0, 9.0, 2.1], 2.0, None, False),
        ([1.0, 9.0, 2.5], None, 2.5, True),
        ([1.0, 9.0, 2.4], None, 2.5, False),
        ([3.0], 4.0, 2.0, True),
        ([1.0], 4.0, 2.0, False),
        ([1.0], None, None, None),
        ([], 4.0, None, False),
    ],
)
def test_the_median_is_held_to_what_is_wanted(
    runs: list[float], most: float | None, least: float | None, passed: bool | None
) -> None:
    assert Figure(name="time", unit="s", runs=runs, most=most, least=least).passed is passed


def test_without_runs_there_is_no_median() -> None:
    assert math.isnan(Figure(name="time", unit="s", runs=[]).median)


def test_a_size_makes_counts_smaller_but_not_nothing() -> None:
    assert Options(size=0.1).count(1000) == 100
    assert Options(size=0.0001).count(1000) == 1
    assert Options(size=0.001).count(1000, least=8) == 8
