"""What of the headline and its peers can be checked without measuring: loads, figures, parts, what CI holds."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from bench import ci, contenders, headline, load, parts
from bench.contenders import DOCKER_EXEC, FLOOR, GO_JUDGE, Peer, Peers, Samples, Turn
from bench.measure import Sample
from bench.outcome import Figure, Options, Outcome
from evalx.settings import Settings

CPU = dict.fromkeys(parts.PARTS, 0.5)
FULL = headline.Amount()


def run_of(seconds: float, stack_bytes: int | None = 900_000_000) -> headline.Run:
    return headline.Run(seconds=seconds, cpu_s=CPU, worker_peak_bytes=120_000_000, stack_bytes=stack_bytes)


def outcome_of(
    seconds: list[float], floor: list[float], options: Options | None = None, name: str = headline.NAME, wrong: int = 0
) -> Outcome:
    turns = {FLOOR: [Turn(seconds=one, ran=5000, wrong=wrong) for one in floor]}
    runs = [run_of(one) for one in seconds]
    return headline.outcome(name, options or Options(), FULL, runs, turns, wrong=0, notes=["a note"])


def figures_of(outcome: Outcome) -> dict[str, Figure]:
    return {figure.name: figure for figure in outcome.figures}


def test_every_test_of_the_headline_is_another_one():
    runs = [headline.make_batches(100, number) for number in range(3)]
    batches = [batch for run in runs for batch in run]
    assert len({one.seed for one in batches}) == 300
    for run in runs:
        assert len({(one.language, one.variant) for one in run}) == headline.SOURCES
    assert not {one.variant for one in runs[0]} & {one.variant for one in runs[1]}


def test_what_was_compiled_to_warm_up_is_not_known():
    runs = [headline.make_batches(count, number, sources) for number, (count, sources) in enumerate([(16, 8), (9, 2)])]
    known, measured = ({(one.language, one.variant) for one in run} for run in runs)
    assert not known & measured


@pytest.mark.parametrize(("batches", "sources"), [(1000, 8), (500, 4), (250, 2), (10, 2), (1, 2)])
def test_a_smaller_headline_has_fewer_sources(batches: int, sources: int):
    assert headline.amount(batches) == headline.Amount(batches, sources)
    assert {one.language for one in headline.make_batches(10, 0, sources)} == set(headline.LANGUAGES)


def test_each_run_is_compared_with_its_neighbour():
    figures = figures_of(outcome_of([4.0, 5.0, 8.0], [8.0, 15.0, 16.0]))
    assert figures["times as fast as bare loop"].runs == [2.0, 3.0, 2.0]
    assert figures["times as fast as bare loop"].passed is False
    assert figures[headline.SECONDS].passed is True
    assert figures["tests a second"].runs == [5000.0, 4000.0, 2500.0]
    assert figures["CPU of a test, all parts"].median == pytest.approx(0.15)


def test_of_a_trial_nothing_is_wanted():
    assert {one.passed for one in outcome_of([4.0], [8.0], Options(size=0.5)).figures} == {None}


def test_memory_that_cannot_be_read_is_no_figure():
    done = headline.outcome("headline", Options(), FULL, [run_of(4.0, None)], {}, wrong=0, notes=[])
    assert not [one for one in done.figures if "Kafka" in one.name]


def test_wrong_outputs_of_a_peer_count():
    done = outcome_of([4.0, 4.0], [8.0, 8.0], wrong=3)
    assert done.wrong == 6
    assert "bare loop: 6 wrong outputs." in done.notes


class Loop:
    """Half a millisecond a test."""

    def __init__(self, wrong: int = 0) -> None:
        self.asked: list[tuple[int, int]] = []
        self._wrong = wrong

    async def run(self, batches: int, setting: int) -> Sample:
        self.asked.append((batches, setting))
        tests = batches * load.TESTS
        return Sample(tests=tests, seconds=tests / 2000, wrong=self._wrong, cpu_ms={})

    async def __aenter__(self) -> object:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, value: object, trace: object) -> None: ...


async def test_a_sample_is_scaled_to_all_tests():
    loops = [Loop(wrong=1), Loop()]
    turn = await Peer(name=FLOOR, tests=2000, setting=2, contenders=[*loops]).measure(20_000)
    assert [loop.asked for loop in loops] == [[(50, 2)], [(50, 2)]]
    assert turn == Turn(seconds=10.0, ran=2000, wrong=1)


async def test_a_sample_has_a_batch_of_each_language():
    loops = [Loop(), Loop()]
    turn = await Peer(name=DOCKER_EXEC, tests=0, setting=1, contenders=[*loops]).measure(20_000)
    assert turn.ran == 2 * load.TESTS


def test_a_peer_that_is_not_there_is_named():
    samples = Samples(floor=100, go_judge=100)
    assert "not measured" in " ".join(Peers(["c"], samples, None, Settings()).notes)
    assert Peers(["c"], Samples(floor=100), None, Settings()).notes == []
    assert set(contenders.ABOUT) >= {FLOOR, GO_JUDGE, DOCKER_EXEC}


def test_parts_add_up_to_the_machine():
    before = {(parts.REST, ""): 1000.0, ("worker", ""): 100.0, ("sandboxes", "a"): 50.0, ("sandboxes", "gone"): 70.0}
    after = {(parts.REST, ""): 3000.0, ("worker", ""): 400.0, ("sandboxes", "a"): 150.0, ("sandboxes", "new"): 200.0}
    used = parts.used(before, after)
    assert (used["worker"], used["sandboxes"]) == (pytest.approx(0.3), pytest.approx(0.3))
    assert sum(used.values()) == pytest.approx(2.0)
    table = parts.as_table([used, used], 1000)
    assert len(table.head) == len(table.rows[0])
    assert table.rows[-1][-2:] == ["2.000", "100%"]


def test_the_fastest_run_of_each_decides():
    done = ci.judged(outcome_of([9.0, 2.0, 3.0], [4.0, 9.0, 5.0], name=ci.NAME), ci.Reference(2.0, "here"))
    assert figures_of(done)[ci.HELD].runs == [2.0]
    assert done.notes[-1].startswith("2.00 times as fast as the bare loop, at least 1.40 is wanted")
    assert "2 (here)" in done.notes[-1]


@pytest.mark.parametrize(("floor", "holds"), [(2.9, True), (2.7, False)])
def test_a_third_less_than_the_reference_fails(floor: float, holds: bool):
    done = outcome_of([2.0], [floor], Options(size=ci.SIZE), name=ci.NAME)
    assert ci.held(ci.judged(done, ci.Reference(2.0, "here"))) is holds


def test_measured_again_the_runs_of_both_count():
    options = Options(size=ci.SIZE)
    known = ci.Reference(2.0, "here")
    first = ci.judged(outcome_of([4.0, 5.0], [4.0, 4.0], options, name=ci.NAME), known)
    assert not ci.held(first)
    done = ci.judged(ci.merged(first, outcome_of([2.0, 5.0], [5.0, 5.0], options, name=ci.NAME)), known)
    assert ci.held(done)
    assert figures_of(done)[headline.SECONDS].runs == [4.0, 5.0, 2.0, 5.0]
    assert len([one for one in done.figures if one.name == ci.HELD]) == 1
    assert len([note for note in done.notes if "is wanted" in note]) == 1


def test_other_benches_do_not_fail_by_figures():
    assert ci.held(outcome_of([50.0], [1.0]))


def test_the_reference_can_be_read():
    assert ci.reference().times > 0


class Consumer:
    """Knows where partitions end once it was asked often enough."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.assigned: list[TopicPartition] = []

    def get_watermark_offsets(self, place: TopicPartition, timeout: float) -> tuple[int, int]:
        self.failures -= 1
        if self.failures >= 0:
            raise KafkaException(KafkaError(KafkaError.NOT_LEADER_FOR_PARTITION))
        return 0, 7

    def assign(self, places: list[TopicPartition]) -> None:
        self.assigned = places


def loader(consumer: Consumer) -> load.Load:
    made = object.__new__(load.Load)
    made._topics, made._consumer = ("in", "out"), consumer
    return made


def test_partitions_without_a_leader_are_asked_again(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(load, "POLL_S", 0.0)
    consumer = Consumer(failures=3)
    loader(consumer)._read_from_the_end()
    assert {place.offset for place in consumer.assigned} == {7}


def test_but_not_for_ever(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(load, "LEADER_S", 0.0)
    with pytest.raises(KafkaException):
        loader(Consumer(failures=10**9))._read_from_the_end()
