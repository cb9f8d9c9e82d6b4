"""The batches of `contest`, Java and JavaScript among them, sent again when all of them are known.

The first time is not measured. Nothing may be run again.
"""

from __future__ import annotations

import asyncio

from bench.contest import CONTESTS, LANGUAGES, batches_of
from bench.driver import judging
from bench.load import PARTITIONS
from bench.outcome import Figure, Options, Outcome, Say

NAME = "resubmit"
MOST_S = 2.0
#: Seconds after the last result until it is remembered as well: results go out first.
REMEMBERED_S = 1.0


async def measure(options: Options, say: Say) -> Outcome:
    """Judge the contests once, then send them again and again."""
    batches = [batch for contest in CONTESTS for batch in batches_of(contest.scaled(options), 0)]
    seconds, known, cpu = [], [], []
    with judging(LANGUAGES, in_bulk=True) as (_, load, worker):
        say(f"{len(batches):,} batches for the first time")
        await asyncio.to_thread(load.send, batches, at_once=len(batches), partitions=range(PARTITIONS))
        await asyncio.sleep(REMEMBERED_S)
        for number in range(options.repeats):
            say(f"again, run {number + 1} of {options.repeats}")
            before = worker.cpu_s
            done = await asyncio.to_thread(load.send, batches, at_once=len(batches), partitions=range(PARTITIONS))
            seconds.append(done.seconds)
            known.append(100 * done.sources.get("result_cache", 0) / len(batches))
            cpu.append(1000 * (worker.cpu_s - before) / len(batches))
        wrong = load.wrong
    figures = [
        Figure(name="seconds until the last result", unit="s", runs=seconds, most=options.wanted(MOST_S)),
        Figure(name="answered from the cache", unit="%", runs=known, least=100.0),
        Figure(name="worker's CPU time of a batch", unit="ms", runs=cpu),
    ]
    return Outcome(bench=NAME, figures=figures, wrong=wrong)
