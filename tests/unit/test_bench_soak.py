"""What of the soak can be checked without measuring: its load, and what counts as flat."""

from __future__ import annotations

import itertools

import pytest

from bench import headline, soak
from bench.load import Batch


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


def test_every_test_of_the_headline_is_another_one():
    runs = [headline.make_batches(100, number) for number in range(3)]
    batches = [batch for run in runs for batch in run]
    assert len({one.seed for one in batches}) == 300
    for run in runs:
        assert len({(one.language, one.variant) for one in run}) == headline.SOURCES
    assert not {one.variant for one in runs[0]} & {one.variant for one in runs[1]}
    assert isinstance(batches[0], Batch)


def test_the_reports_say_what_failed():
    trends = soak.trends(samples(memory=1e6))
    report = soak.Report(machine={"commit": "abc"}, minutes=10, batches=5, wrong=0, trends=trends, samples=[])
    assert soak.as_markdown(report).count("**FAIL**") == 1
    run = headline.Run(seconds=5.5, worker_cpu_s=2.0, worker_bytes=10**8)
    text = headline.as_markdown(headline.Report(machine={}, batches=1000, runs=[run], wrong=0))
    assert "5.50 s for 20,000 tests" in text
    assert "**FAIL**" in text
