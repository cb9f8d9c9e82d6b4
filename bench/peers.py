"""The headline beside all that its peers do: every test in bare loops and go-judge, more of them by docker exec."""

from __future__ import annotations

from bench import headline
from bench.contenders import Samples
from bench.load import TESTS
from bench.outcome import Options, Outcome, Say

NAME = "peers"


async def measure(options: Options, say: Say) -> Outcome:
    """As many tests for each, but for docker exec, which would take an hour."""
    size = headline.amount(options.count(headline.BATCHES))
    samples = Samples(
        floor=size.tests, plain_floor=size.tests, go_judge=size.tests, docker_exec=options.count(400, 2 * TESTS)
    )
    return await headline.compare(NAME, options, size, samples, say)
