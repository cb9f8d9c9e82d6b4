"""When a worker counts as stuck: by what the broker says, and never for what cannot be seen."""

from __future__ import annotations

from typing import Any

import pytest

from evalx.agents.lag import PartitionLag
from evalx.agents.standstill import GRACE_S, StandstillWatch, Work, allowance_s, longest_s
from evalx.languages import Registry
from evalx.messages import Limits, Submission, TestCase

GRACE = 10.0


def lag(committed: int | None = 5, end: int = 9, partition: int = 4) -> PartitionLag:
    return PartitionLag(partition, "normal", committed, end, end - (committed or 0))


def work(**fields: Any) -> Work:
    return Work(**{"assigned": frozenset({4, 5}), **fields})


IN_FLIGHT = work(in_flight=frozenset({4}), pending={4: 3}, allowance_s=100.0)


@pytest.fixture
def watch() -> StandstillWatch:
    return StandstillWatch(GRACE)


def test_work_in_flight_may_take_what_its_limits_allow(watch: StandstillWatch):
    for now in (0, 50, 110):
        assert not watch.look(now, [lag()], IN_FLIGHT)
    (stalled,) = watch.look(111, [lag()], IN_FLIGHT)
    assert (stalled.partition, stalled.limit_s, stalled.in_flight) == (4, 110.0, True)
    assert "partition 4 stands at offset 5 for 111 s with work in flight" in str(stalled)


def test_a_commit_starts_the_time_anew(watch: StandstillWatch):
    for now in range(0, 1000, 50):
        assert not watch.look(now, [lag(committed=now, end=2000)], IN_FLIGHT)


def test_a_record_that_is_never_fetched_is_noticed(watch: StandstillWatch):
    """Faust's fetcher has died: nothing is in flight, nothing waits here, and Faust sees no lag."""
    assert not watch.look(0, [lag()], work())
    assert not watch.look(10, [lag()], work())
    assert watch.look(10.1, [lag()], work())


def test_a_commit_that_never_comes_is_noticed(watch: StandstillWatch):
    """Everything is finished here, and the broker has not been told."""
    assert not watch.look(0, [lag(committed=None)], work(pending={4: 0}))
    assert watch.look(11, [lag(committed=None)], work(pending={4: 0}))


@pytest.mark.parametrize("why", [{"pending": {4: 2}}, {"held_back": frozenset({4})}])
def test_what_waits_behind_others_may_wait(watch: StandstillWatch, why: dict[str, Any]):
    for now in range(0, 1000, 50):
        assert not watch.look(now, [lag()], work(in_flight=frozenset({5}), **why))
    # When nothing is in flight at all, what waits is not waiting its turn: the places are gone.
    assert not watch.look(955, [lag()], work(**why))
    assert watch.look(961, [lag()], work(**why))


def test_one_partition_that_moves_does_not_cover_for_another(watch: StandstillWatch):
    flying = work(in_flight=frozenset({4, 5}), allowance_s=5.0)
    for now in range(0, 15, 5):
        assert not watch.look(now, [lag(), lag(partition=5, committed=now)], flying)
    (stalled,) = watch.look(20, [lag(), lag(partition=5, committed=20, end=30)], flying)
    assert stalled.partition == 4


@pytest.mark.parametrize(
    ("lags", "now"), [([lag(9, 9)], 50.0), ([lag()], 50.0)], ids=["nothing to do", "not ours for a while"]
)
def test_what_is_not_ours_to_do_does_not_count(watch: StandstillWatch, lags: list[PartitionLag], now: float):
    mine = work() if not lags[0].waiting else work(assigned=frozenset())
    assert not watch.look(0, [lag()], work())
    assert not watch.look(now, lags, mine)
    assert not watch.look(now + GRACE, [lag()], work())


def test_what_was_not_seen_does_not_count(watch: StandstillWatch):
    watch.look(0, [lag()], work())
    watch.forget()
    assert not watch.look(100, [lag()], work())
    watch.excuse(4, 105)
    assert not watch.look(115, [lag()], work())
    assert watch.look(115.1, [lag()], work())


def submission(language: str, tests: int, wall_ms: int) -> Submission:
    cases = [TestCase(id=str(number)) for number in range(tests)]
    version = Registry.load().versions(language)[0]
    return Submission(
        id="s", language=language, version=version, code="", tests=cases, limits=Limits(wall_time_ms=wall_ms)
    )


def test_the_allowance_follows_from_limits():
    registry = Registry.load()
    python = submission("python", 20, 7000)
    assert longest_s(python, registry) == 20 * 7 + 20
    c = submission("c", 20, 1000)
    assert longest_s(c, registry) == 30 + 2 * 20 * 1 + 20
    assert allowance_s([], registry, 2) == 0
    assert allowance_s([python], registry, 2) == 320
    assert allowance_s([python] * 8, registry, 2) == 1280


def test_the_sum_is_what_the_module_says():
    assert pytest.approx(GRACE_S, abs=0.1) == 141.8
