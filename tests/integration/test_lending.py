"""A long batch of the low lane makes way for the high one between two of its tests, in real containers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from evalx.execution import compile_program, run_tests
from evalx.languages import Registry
from evalx.messages import LinesChecker, Submission, TestCase
from evalx.messages.submission import Limits
from evalx.sandbox.runtime import SandboxRuntime
from evalx.settings import Settings
from evalx.verdicts import Verdict

REGISTRY = Registry.load()
HIGH, LOW = 0, 2
TESTS, EACH_S = 8, 0.3
COMPUTES = "import time\nwhile time.process_time() < 0.3: pass\nprint(int(input()) ** 2)"
COMPUTES_IN_C = """#include <stdio.h>
#include <time.h>
int main(void) {
    long n;
    while (clock() < 3 * CLOCKS_PER_SEC / 10) {}
    if (scanf("%ld", &n) == 1) printf("%ld\\n", n * n);
}
"""
SHORT = "print(int(input()) ** 2)"

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sandbox() -> AsyncIterator[SandboxRuntime]:
    """One slot, and two containers of each image."""
    images = {REGISTRY.resolve(name).image for name in ("python", "c")}
    settings = Settings.load(cpu_slots=1, container_cap=4, container_pool_size=4)
    runtime = SandboxRuntime(settings, images, REGISTRY.interpreters)
    await runtime.start(owner="test-lending", warm=[*images, *images])
    try:
        yield runtime
    finally:
        await runtime.close()


def submission(language: str, code: str, count: int) -> Submission:
    tests = tuple(TestCase(id=str(n), stdin=f"{n}\n", expected_output=f"{n * n}\n") for n in range(count))
    limits = Limits(cpu_time_ms=4000, wall_time_ms=8000)
    return Submission(id="x", language=language, code=code, tests=tests, limits=limits, checker=LinesChecker())


async def judge(sandbox: SandboxRuntime, name: str, code: str, count: int, lane: int) -> list[Verdict]:
    language = REGISTRY.resolve(name)
    artifact = await compile_program(sandbox, language, code, lane)
    results = await run_tests(sandbox, language, artifact.files, submission(name, code, count), lane)
    return [one.verdict for one in results]


@pytest.mark.parametrize(("name", "code"), [("python", COMPUTES), ("c", COMPUTES_IN_C)])
async def test_the_high_lane_waits_for_a_test_and_not_for_a_batch(sandbox: SandboxRuntime, name: str, code: str):
    low = asyncio.create_task(judge(sandbox, name, code, TESTS, LOW))
    await asyncio.sleep(3 * EACH_S)
    took = []
    for _ in range(3):
        assert not low.done()
        began = time.monotonic()
        assert await judge(sandbox, "python", SHORT, 2, HIGH) == [Verdict.AC] * 2
        took.append(time.monotonic() - began)
    # Those behind the first one come while the low batch waits, or has begun its next test.
    assert not low.done(), took
    assert await low == [Verdict.AC] * TESTS


async def test_the_low_lane_gets_on_below_a_lane_that_is_never_empty(sandbox: SandboxRuntime):
    over = asyncio.Event()

    async def pour() -> int:
        count = 0
        while not over.is_set():
            assert await judge(sandbox, "python", SHORT, 1, HIGH) == [Verdict.AC]
            count += 1
        return count

    pouring = [asyncio.create_task(pour()) for _ in range(3)]
    await asyncio.sleep(0.2)
    assert await judge(sandbox, "python", COMPUTES, TESTS, LOW) == [Verdict.AC] * TESTS
    over.set()
    assert min(await asyncio.gather(*pouring)) > 0
