"""A quarter of the headline against the bare loop of the same run, held to the committed bench/reference.json.

Seconds say little on a machine that is not known; how many times as fast as a bare loop evalx is says more. What runs
beside makes both slower, never faster, and not to the same degree: a chain of broker, worker and sandboxes suffers more
than a loop. So they take turns, the fastest run of each counts, and what falls short is measured again, up to three
times in all, before it fails: a second on a quiet machine is enough, and what has become slower has no such second.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from bench import headline
from bench.contenders import FLOOR, Samples
from bench.outcome import Figure, Options, Outcome, Say

NAME = "ci"
REFERENCE = Path(__file__).parent / "reference.json"
#: Of the headline's batches: one to two seconds a run on two cores.
SIZE = 0.25
#: The figure that decides.
HELD = f"times as fast as {FLOOR}, the fastest run of each"
#: How much of the reference must be kept.
KEPT = 0.7
#: Times that all is measured before it fails.
ATTEMPTS = 3


class Reference(msgspec.Struct, frozen=True):
    """``times``: as fast as the bare loop, by the fastest run of each. ``made_on``: where and when."""

    times: float
    made_on: str


def reference() -> Reference:
    """The committed one."""
    return msgspec.json.decode(REFERENCE.read_bytes(), type=Reference)


async def measure(options: Options, say: Say) -> Outcome:
    """Evalx and the bare loop, again when it falls short."""
    known = reference()
    outcome = judged(await _measure(options, say), known)
    for attempt in range(2, ATTEMPTS + 1):
        if held(outcome):
            break
        say(f"it falls short: measuring for the {attempt}. time")
        outcome = judged(merged(outcome, await _measure(options, say)), known)
    return outcome


async def _measure(options: Options, say: Say) -> Outcome:
    trial = msgspec.structs.replace(options, size=SIZE)
    size = headline.amount(trial.count(headline.BATCHES))
    return await headline.compare(NAME, trial, size, Samples(floor=size.tests), say)


def judged(outcome: Outcome, known: Reference) -> Outcome:
    """With the figure that decides."""
    runs = {figure.name: figure.runs for figure in outcome.figures}
    times = min(runs[headline.as_many(FLOOR)]) / min(runs[headline.SECONDS])
    decides = Figure(name=HELD, unit="x", runs=[times], least=round(KEPT * known.times, 3))
    # The last line of the report, which is what a log of steps shows.
    note = (
        f"{times:.2f} times as fast as the {FLOOR}, at least {decides.least:.2f} is wanted: {1 - KEPT:.0%} below the "
        f"reference, which is {known.times:g} ({known.made_on})."
    )
    return msgspec.structs.replace(
        outcome,
        figures=[decides, *(figure for figure in outcome.figures if figure.name != decides.name)],
        notes=[*outcome.notes, note],
    )


def merged(first: Outcome, second: Outcome) -> Outcome:
    """The runs of both."""
    return msgspec.structs.replace(
        second, figures=list(_together(first, second)), plots=[], tables=[*first.tables, *second.tables],
        wrong=first.wrong + second.wrong,
    )  # fmt: skip


def _together(first: Outcome, second: Outcome) -> Iterator[Figure]:
    earlier = {figure.name: figure.runs for figure in first.figures}
    for figure in second.figures:
        yield msgspec.structs.replace(figure, runs=[*earlier.get(figure.name, []), *figure.runs])


def held(outcome: Outcome) -> bool:
    """Whether evalx is as fast as it has to be; of other benches nothing has to be so."""
    return outcome.bench != NAME or all(figure.passed is not False for figure in outcome.figures)
