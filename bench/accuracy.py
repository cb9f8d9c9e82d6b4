"""How true the reported figures are: CPU time of a fixed work on an idle and on a busy machine, and peak memory."""

from __future__ import annotations

import statistics

import msgspec

from bench import workload
from bench.pooled import Pooled
from evalx.languages import Language
from evalx.messages import TestCase, TestResult
from evalx.settings import Settings
from evalx.verdicts import PASSED

#: Milliseconds of CPU time that the fixed work takes, about.
WORK_MS = 200.0
#: The most that the CPU time may differ between an idle machine and one with all slots busy.
CPU_TOLERANCE = 0.05
SIZES_MIB = (16, 64, 200)
#: The most that the peak memory may differ from what the program touched.
MEMORY_TOLERANCE, MEMORY_TOLERANCE_MIB = 0.05, 2.0
_TRIAL_ROUNDS = 20_000_000


class CpuTime(msgspec.Struct, frozen=True):
    """Milliseconds of CPU time reported for the same work: medians."""

    idle_ms: float
    busy_ms: float

    @property
    def difference(self) -> float:
        """As a part of the idle one."""
        return abs(self.busy_ms - self.idle_ms) / self.idle_ms

    @property
    def passed(self) -> bool:
        """Whether it is within the tolerance."""
        return self.difference <= CPU_TOLERANCE


class PeakMemory(msgspec.Struct, frozen=True):
    """MiB touched by the program and reported for it."""

    touched_mib: int
    reported_mib: float

    @property
    def passed(self) -> bool:
        """Whether it is within the tolerance."""
        allowed = self.touched_mib * MEMORY_TOLERANCE + MEMORY_TOLERANCE_MIB
        return abs(self.reported_mib - self.touched_mib) <= allowed


async def cpu_time(settings: Settings, language: Language, owner: str, repeats: int) -> CpuTime:
    """Run the work one at a time, then as many at a time as there are slots."""
    code = workload.source(language, "spin.c")
    async with Pooled(settings, language, owner, [1]) as pooled:
        trial = await _results(pooled, code, [str(_TRIAL_ROUNDS)] * 2)
        rounds = str(round(_TRIAL_ROUNDS * WORK_MS / statistics.median(one.cpu_time_ms for one in trial)))
        idle = [(await _results(pooled, code, [rounds]))[0] for _ in range(repeats)]
        busy = await _results(pooled, code, [rounds] * max(repeats, 2) * settings.cpu_slots)
    return CpuTime(*(statistics.median(one.cpu_time_ms for one in results) for results in (idle, busy)))


async def peak_memory(settings: Settings, language: Language, owner: str) -> list[PeakMemory]:
    """Touch memory, and see what is reported."""
    code = workload.source(language, "touch.c")
    async with Pooled(settings, language, owner, [1]) as pooled:
        results = await _results(pooled, code, [str(size) for size in SIZES_MIB])
    reported = [result.peak_memory_bytes / (1 << 20) for result in results]
    return [PeakMemory(size, mib) for size, mib in zip(SIZES_MIB, reported, strict=True)]


async def _results(pooled: Pooled, code: str, inputs: list[str]) -> list[TestResult]:
    """Raises RuntimeError if a test failed."""
    tests = tuple(TestCase(id=str(index), stdin=text) for index, text in enumerate(inputs))
    await pooled.compile(code, tests)
    results = list(await pooled.batch())
    failed = [result.verdict for result in results if result.verdict not in PASSED]
    if failed:
        raise RuntimeError(f"the program of the accuracy test failed: {failed[0]}")
    return results
