"""1,000 users send one program per language with the same 20 tests, all at once, and nothing is known before.

C, C++, Python and Java. Nothing of it is cached: each run has sources that were never sent. What the users have in
common is judged once, as when a course tries the sample solution: so this shows single flight, and the caches.
"""

from __future__ import annotations

import asyncio

from bench.driver import judging
from bench.load import PARTITIONS, Batch
from bench.outcome import Figure, Options, Outcome, Say

NAME = "burst"
USERS = 1000
LANGUAGES = ("c", "cpp-17", "python", "java-21")
MOST_S = 2.5


def batches_of(users: int, number: int) -> list[Batch]:
    """What the users of a run send: all of one language the same."""
    return [Batch(number, LANGUAGES[user % len(LANGUAGES)], number) for user in range(users)]


async def measure(options: Options, say: Say) -> Outcome:
    """Send all at once and wait for all results, each time with other sources and tests."""
    users = options.count(USERS, least=len(LANGUAGES))
    seconds, executed, cpu = [], [], []
    with judging(LANGUAGES, in_bulk=True) as (_, load, worker):
        for number in range(options.repeats):
            say(f"run {number + 1} of {options.repeats}: {users:,} users")
            before = worker.cpu_s
            done = await asyncio.to_thread(
                load.send, batches_of(users, number), at_once=users, partitions=range(PARTITIONS)
            )
            seconds.append(done.seconds)
            executed.append(float(done.sources.get("executed", 0)))
            cpu.append(worker.cpu_s - before)
        wrong = load.wrong
    figures = [
        Figure(name="seconds until the last result", unit="s", runs=seconds, most=options.wanted(MOST_S)),
        Figure(name="batches that were run", unit="", runs=executed, most=len(LANGUAGES)),
        Figure(name="worker's CPU time", unit="s", runs=cpu),
    ]
    return Outcome(bench=NAME, figures=figures, wrong=wrong)
