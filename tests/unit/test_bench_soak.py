"""What of the soak can be checked without measuring: its load, and what counts as flat."""

from __future__ import annotations

import itertools

import pytest

from bench import soak


def samples(**growth: float) -> list[soak.Sample]:
    values = {"memory": 100e6, "descriptors": 50, "containers": 5, "keys": 1000}
    return [
        soak.Sample(
            at_s=10.0 * number,
            batches=number,
            caches=number * 10**6,
            **{name: int(value + number * growth.get(name, 0)) for name, value in values.items()},
        )
        for number in range(60)
    ]


def test_what_does_not_grow_is_flat():
    assert all(one.flat for one in soak.trends(samples()))


@pytest.mark.parametrize(
    ("name", "each"), [("memory", 400_000), ("descriptors", 0.5), ("containers", 0.1), ("keys", 30)]
)
def test_what_grows_is_not(name: str, each: float):
    trends = {one.name: one for one in soak.trends(samples(**{name: each}))}
    assert [one for one in trends if not trends[one].flat] == [name]
    assert trends[name].an_hour == pytest.approx(each * 360, rel=0.1)


def test_half_of_a_round_was_in_the_one_before():
    first, second = itertools.islice(soak.rounds(), 2)
    assert len(set(first)) == soak.ROUND
    assert 0.3 < len([one for one in second if one in first]) / soak.ROUND < 0.7
    assert {one.language for one in first} == set(soak.LANGUAGES)


def test_the_report_says_what_failed():
    trends = soak.trends(samples(memory=1e6))
    report = soak.Report(machine={"commit": "abc"}, minutes=10, batches=5, wrong=0, trends=trends, samples=[])
    assert soak.as_markdown(report).count("**FAIL**") == 1
