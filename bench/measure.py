"""Measuring contenders side by side: a short search for the best setting of each, then runs that take turns."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

#: Seconds that the search for a setting spends on each one: enough to tell settings apart that differ by a tenth.
PROBE_S = 0.7


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One run of one contender. `cpu_ms` is by part of the system, per test; a part that cannot be read is missing."""

    tests: int
    seconds: float
    wrong: int
    cpu_ms: dict[str, float]

    @property
    def rate(self) -> float:
        """Tests per second."""
        return self.tests / self.seconds


class Contender(Protocol):
    """Something that runs batches of the tests. `settings` are the numbers of parallel things to try."""

    name: str
    settings: Sequence[int]
    #: What a setting counts.
    unit: str

    async def run(self, batches: int, setting: int) -> Sample:
        """Run so many batches as fast as it can."""


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """What a contender achieved."""

    name: str
    setting: int
    unit: str
    batches: int
    tried: dict[str, float]
    samples: list[Sample]

    @property
    def rates(self) -> list[float]:
        """Tests per second of each run."""
        return [sample.rate for sample in self.samples]

    @property
    def median(self) -> float:
        """Tests per second."""
        return statistics.median(self.rates)

    @property
    def wrong(self) -> int:
        """Tests with another output than the right one."""
        return sum(sample.wrong for sample in self.samples)

    @property
    def cpu_ms(self) -> dict[str, float]:
        """Milliseconds of CPU per test by part of the system: medians."""
        parts = {part for sample in self.samples for part in sample.cpu_ms}
        found = {part: [s.cpu_ms[part] for s in self.samples if part in s.cpu_ms] for part in sorted(parts)}
        return {part: statistics.median(values) for part, values in found.items()}


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How long to measure. `batches`: of each run; None = as many as take `seconds`."""

    repeats: int
    seconds: float
    batches: int | None


async def compare(contenders: Sequence[Contender], plan: Plan, say: Callable[[str], None]) -> list[Series]:
    """Search the best setting of each, then let them take turns, `plan.repeats` times."""
    prepared = [await _prepare(contender, plan) for contender in contenders]
    for series in prepared:
        say(f"  {series.name}: best with {series.setting} {series.unit} of {', '.join(series.tried)}")
    for _ in range(plan.repeats):
        for contender, series in zip(contenders, prepared, strict=True):
            series.samples.append(await contender.run(series.batches, series.setting))
    for series in prepared:
        say(f"  {series.name}: {' '.join(f'{rate:,.0f}' for rate in series.rates)} tests/s")
    return prepared


async def _prepare(contender: Contender, plan: Plan) -> Series:
    first = await contender.run(1, contender.settings[0])
    tried: dict[int, float] = {}
    for setting in contender.settings:
        batches = batches_for(first.rate / first.tests, PROBE_S)
        tried[setting] = (await contender.run(max(batches, setting), setting)).rate
    best = max(tried, key=lambda setting: tried[setting])
    return Series(
        name=contender.name,
        setting=best,
        unit=contender.unit,
        batches=plan.batches or batches_for(tried[best] / first.tests, plan.seconds),
        tried={str(setting): rate for setting, rate in tried.items()},
        samples=[],
    )


def batches_for(batches_per_second: float, seconds: float) -> int:
    """As many batches as take so long."""
    return max(1, round(batches_per_second * seconds))
