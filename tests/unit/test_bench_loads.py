"""What of the suite's loads can be checked without measuring: what they send, and what their figures say."""

from __future__ import annotations

import pytest

from bench import burst, contest, latency, priority, scale, workload
from bench.floor import Cost, Work, seconds_of
from bench.load import Batch, make_batch
from bench.outcome import Figure, Options
from bench.scale import Point
from evalx.languages import Registry
from evalx.messages import decode_submission
from evalx.settings import Settings

REGISTRY = Registry.load()


def by_name(figures: list[Figure]) -> dict[str, Figure]:
    return {figure.name: figure for figure in figures}


def test_users_of_a_language_send_the_same_and_no_run_knows_another():
    runs = [burst.batches_of(1000, number) for number in range(2)]
    assert [len(set(run)) for run in runs] == [len(burst.LANGUAGES)] * 2
    assert not set(runs[0]) & set(runs[1])
    assert not {batch.variant for batch in runs[0]} & {batch.variant for batch in runs[1]}


@pytest.mark.parametrize("one", contest.CONTESTS)
def test_every_test_of_a_contest_is_another_one_and_its_sources_are_new_in_each_run(one: contest.Contest):
    runs = [contest.batches_of(one, number) for number in range(3)]
    assert len({batch.seed for run in runs for batch in run}) == 3 * one.batches
    sources = [{(batch.language, batch.variant) for batch in run} for run in runs]
    assert [len(some) for some in sources] == [one.sources] * 3
    assert not sources[0] & sources[1]
    assert {batch.language for batch in runs[0]} == set(one.languages)


def test_the_work_of_a_contest_is_counted_by_language():
    work = contest.work_of([Batch(0, "c", 0), Batch(1, "c", 0, tests=5), Batch(2, "python", 1), Batch(3, "c", 7)])
    assert work == {"c": Work(2, 45), "python": Work(1, 20)}


def test_a_small_contest_has_a_source_of_each_language():
    small = contest.CONTESTS[0].scaled(Options(size=0.001))
    assert (small.batches, small.sources) == (3, 3)


def test_the_floor_is_what_all_of_the_work_takes():
    work = {"c": Work(2, 100), "python": Work(5, 10)}
    costs = {"c": Cost(compile_s=0.5, run_s=0.01), "python": Cost(compile_s=0.0, run_s=0.1)}
    assert seconds_of(work, costs) == pytest.approx(1 + 1 + 0 + 1)


def test_the_floor_compiles_without_what_was_prepared():
    for language in REGISTRY.languages:
        if language.compile is not None:
            assert not any("Archive" in word for word in workload.plain(language.compile.argv))


def test_latency_knows_what_it_says():
    options = Options(size=0.1)
    for name in latency.LANGUAGES:
        counts = {way: latency.count_of(name, way, options) for way in latency.COUNTS}
        known = set(latency.batches_of(name, "result cached", latency.PRIMED, 0))
        assert set(latency.batches_of(name, "result cached", counts["result cached"], 3)) <= known
        cold = [one for run in range(3) for one in latency.batches_of(name, "cold", counts["cold"], run)]
        assert len({one.variant for one in cold}) == len(cold)
        program = {one.variant for one in known}
        new = [one for run in range(3) for one in latency.batches_of(name, "artifact cached", 50, run)]
        assert {one.variant for one in new} == program
        assert len(set(new) - known) == len(new)


def test_p95():
    assert priority.p95([float(number) for number in range(1, 101)]) == 96
    assert priority.p95([7.0]) == 7


def test_a_high_batch_may_wait_for_half_as_much_again_and_one_batch():
    run = priority.Run(idle=[10.0] * 20, busy=[26.0] * 20, left=3)
    first = priority.figures_of([run], 1.0)[0]
    assert first.runs == [26.0 / 25.0]
    assert first.passed is False
    assert not {one.seed for one in priority.backlog(5000, 9)} & {one.seed for one in priority.singles(400, 0)}


def test_a_test_costs_as_much_in_large_batches():
    points = [
        Point(at=size, seconds=seconds, cpu_s=0.1)
        for size, seconds in zip(scale.SIZES, (9, 3, 1.1, 1.2, 1.0), strict=True)
    ]
    spread, *costs = scale.size_figures(points, Options())
    assert spread.runs == [pytest.approx(1.2)]
    assert spread.passed is False
    assert costs[0].runs == [9000]


def test_a_large_backlog_is_held_to_the_smallest():
    def point(at: int, rate: float, megabytes: float) -> Point:
        return Point(at=at, seconds=1 / rate, cpu_s=0.1, memory=[(0.0, 50.0), (1.0, megabytes)])

    points = [point(1000, 1000, 100), point(10_000, 1000, 110), point(1000, 900, 100), point(100_000, 800, 115)]
    figures = list(by_name(scale.backlog_figures(points, Options())).values())
    assert figures[0].runs == [pytest.approx(800 / 950)]
    assert figures[1].runs == [pytest.approx(1.15)]
    assert [figure.passed for figure in figures[:2]] == [False, False]


def test_outputs_are_as_long_as_asked_for_and_distinct():
    for size in (1, 27, 65_536):
        tests = workload.make_outputs(3, 5, size)
        assert [len(test.expected_output or "") for test in tests] == [size] * 3
        assert len({test.stdin for test in tests}) == 3
    assert workload.make_outputs(1, 2, 4)[0].expected_output == "cdef"


def test_a_batch_that_writes_much_is_a_submission():
    rules = REGISTRY.rules(Settings())
    body = b'{"id":"x",' + make_batch(Batch(1, tests=2, output_bytes=65_536), "use")
    submission = decode_submission(body, rules)
    assert [len(test.expected_output or "") for test in submission.tests] == [65_536] * 2
    assert submission.limits.output_bytes == 65_536
    assert len({test.stdin for test in submission.tests}) == 2
