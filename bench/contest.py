"""1,000 batches of 50 sources in C, C++ and Python with 20 distinct tests each, and 100 in Java and JavaScript.

Every test of every run is another one, so each of them is really run; the sources come again and again, as in a contest
where many take part, and are new in each run. Beside each run the floor is measured: the compiles and runs of the same
programs, bare, two at a time, of which a sample is made.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence

import msgspec

from bench.driver import Load, judging
from bench.floor import Floor, Work, seconds_of
from bench.load import PARTITIONS, TESTS, Batch
from bench.outcome import Figure, Options, Outcome, Say
from evalx.settings import Settings

NAME = "contest"


class Contest(msgspec.Struct, frozen=True):
    """Batches of so many sources, the languages in turn, and the most of the floor's time that they may take."""

    title: str
    languages: Sequence[str]
    batches: int
    sources: int
    most: float

    def scaled(self, options: Options) -> Contest:
        """As many as were asked for, with a source at least of each language."""
        least = len(self.languages)
        return msgspec.structs.replace(
            self, batches=options.count(self.batches, least), sources=options.count(self.sources, least)
        )


CONTESTS = (
    Contest("C, C++, Python", ("c", "cpp-17", "python"), 1000, 50, 0.5),
    Contest("Java, JavaScript", ("java-21", "javascript"), 100, 50, 1.1),
)
LANGUAGES = tuple(itertools.chain.from_iterable(contest.languages for contest in CONTESTS))


def batches_of(contest: Contest, number: int) -> list[Batch]:
    """The batches of a run: its sources in turn, every test another one than all others of all runs."""
    sources = [
        (contest.languages[place % len(contest.languages)], contest.sources * number + place)
        for place in range(contest.sources)
    ]
    return [Batch(contest.batches * number + place, *sources[place % len(sources)]) for place in range(contest.batches)]


def work_of(batches: Sequence[Batch]) -> dict[str, Work]:
    """What has to be done for them, by language."""
    work = {}
    for language in dict.fromkeys(batch.language for batch in batches):
        own = [batch for batch in batches if batch.language == language]
        work[language] = Work(len({batch.variant for batch in own}), sum(batch.tests for batch in own))
    return work


async def measure(options: Options, say: Say) -> Outcome:
    """Run each contest with the floor beside it."""
    figures: list[Figure] = []
    with judging(LANGUAGES, in_bulk=True) as (_, load, _):
        async with Floor(Settings.load().image_prefix, LANGUAGES) as floor:
            for contest in CONTESTS:
                figures += await _run(contest.scaled(options), options, load, floor, say)
            wrong = load.wrong + floor.wrong
    note = f"The floor was measured in samples; a batch has {TESTS} tests, and every one of them was run."
    return Outcome(bench=NAME, figures=figures, notes=[note], wrong=wrong)


async def _run(contest: Contest, options: Options, load: Load, floor: Floor, say: Say) -> list[Figure]:
    seconds, floors = [], []
    for number in range(options.repeats):
        batches = batches_of(contest, number)
        say(f"{contest.title}, run {number + 1} of {options.repeats}: {len(batches):,} batches")
        done = await asyncio.to_thread(load.send, batches, at_once=len(batches), partitions=range(PARTITIONS))
        seconds.append(done.seconds)
        work = work_of(batches)
        floors.append(seconds_of(work, await floor.sample(work)))
    ratios = [own / bare for own, bare in zip(seconds, floors, strict=True)]
    return [
        Figure(
            name=f"{contest.title}: against the floor's time",
            unit="x",
            runs=ratios,
            most=options.wanted(contest.most),
        ),
        Figure(name=f"{contest.title}: seconds until the last result", unit="s", runs=seconds),
        Figure(name=f"{contest.title}: the floor", unit="s", runs=floors),
    ]
