"""What workers' metrics say, as `evalx top` shows it. Pure: two looks at the workers in, one picture out.

Counters count since a worker's start, so rates are what they grew by between two looks. A worker that was started in
between counts from zero; one that is seen for the first time says nothing about rates yet. Percentiles are of what
ended between the looks or, when nothing did, of all since the workers' start; ``since`` says which.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, TypeAlias

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from evalx.agents.lag import LaneLag
from evalx.agents.slowest import KEPT, Slow
from evalx.stages import STAGES

Labels: TypeAlias = frozenset[tuple[str, str]]
#: Samples of one worker, or of several added up, by name and labels.
Samples: TypeAlias = Mapping[tuple[str, Labels], float]

_STARTED = ("process_start_time_seconds", Labels())
_STATES = ("idle", "busy", "starting", "checking")


class Look(msgspec.Struct, frozen=True):
    """One worker at one moment; ``samples`` None, and an ``error``, when it did not answer."""

    address: str
    samples: Samples | None = None
    slowest: tuple[Slow, ...] = ()
    error: str | None = None


class Times(msgspec.Struct, frozen=True):
    """Percentiles in seconds, None while nothing was counted; ``share`` of the time of all submissions."""

    p50_s: float | None
    p95_s: float | None
    since: Literal["period", "start"]
    share: float | None = None


class Lane(msgspec.Struct, frozen=True):
    """``lag`` and ``oldest_s`` are the broker's word, None while it is away; the others are the workers'."""

    lane: str
    lag: int | None
    oldest_s: float | None
    waiting: int
    in_flight: int
    per_s: float
    times: Times


class PoolOfImage(msgspec.Struct, frozen=True):
    """Containers of one image by state; ``utilisation`` 0 to 1, the mean of the workers."""

    image: str
    idle: int
    busy: int
    starting: int
    checking: int
    utilisation: float


class CacheLevel(msgspec.Struct, frozen=True):
    """``hit_rate`` 0 to 1, None when nothing was looked up; of the period, or since the start."""

    level: str
    lookups_per_s: float
    hit_rate: float | None
    since: Literal["period", "start"]


class Slots(msgspec.Struct, frozen=True):
    """CPU slots; ``utilisation`` over the period."""

    slots: int
    busy: int
    waiting: int
    utilisation: float


class Picture(msgspec.Struct, frozen=True):
    """Everything that is shown. ``troubles`` are for people; empty while all is well."""

    period_s: float
    workers: int
    troubles: tuple[str, ...]
    lanes: tuple[Lane, ...]
    rates: dict[str, float]
    stages: dict[str, Times]
    pool: tuple[PoolOfImage, ...]
    slots: Slots
    cache: tuple[CacheLevel, ...]
    slowest: tuple[Slow, ...]


#: What is shown as a rate: the metric, and labels that it must have.
RATES: Mapping[str, tuple[str, dict[str, str]]] = {
    "submissions": ("evalx_submissions_total", {}),
    "from_cache": ("evalx_submissions_total", {"source": "result_cache"}),
    "joined": ("evalx_submissions_total", {"source": "joined"}),
    "judge_errors": ("evalx_submissions_total", {"status": "judge_error"}),
    "tests": ("evalx_tests_total", {}),
    "repeats": ("evalx_repeats_total", {}),
    "retries": ("evalx_retries_total", {}),
    "dead_letters": ("evalx_dead_letters_total", {}),
}


def parse(text: str) -> Samples:
    """The samples of a page of metrics; raises ValueError when it is none."""
    families = text_string_to_metric_families(text)
    return {
        (one.name, frozenset(one.labels.items())): one.value
        for family in families
        for one in family.samples
        if one.name.startswith("evalx_") or one.name == _STARTED[0]
    }


def picture(
    now: Sequence[Look], before: Sequence[Look], period_s: float, lags: Sequence[LaneLag], troubles: Iterable[str] = ()
) -> Picture:
    """What two looks show; ``lags`` is empty while the broker is away, ``troubles`` are what else is to be said."""
    total = _added(look.samples for look in now if look.samples is not None)
    grown = _added(_growth(now, before))
    return Picture(
        period_s=round(period_s, 3),
        workers=sum(look.samples is not None for look in now),
        troubles=(*troubles, *_troubles(now, total)),
        lanes=tuple(_lanes(total, grown, period_s, lags)),
        rates={name: _per_s(_sum(grown, metric, **labels), period_s) for name, (metric, labels) in RATES.items()},
        stages=_stages(total, grown),
        pool=tuple(_pool(now)),
        slots=_slots(total, grown, period_s),
        cache=tuple(_cache(total, grown, period_s)),
        slowest=tuple(sorted((one for look in now for one in look.slowest), key=lambda one: -one.seconds)[:KEPT]),
    )


def _growth(now: Sequence[Look], before: Sequence[Look]) -> Iterable[Samples]:
    earlier = {look.address: look.samples for look in before}
    for look in now:
        last = earlier.get(look.address)
        if look.samples is None or last is None:
            continue
        restarted = look.samples.get(_STARTED) != last.get(_STARTED)
        yield look.samples if restarted else {key: value - last.get(key, 0.0) for key, value in look.samples.items()}


def _added(parts: Iterable[Samples]) -> Samples:
    total: dict[tuple[str, Labels], float] = defaultdict(float)
    for part in parts:
        for key, value in part.items():
            total[key] += value
    return dict(total)


def _sum(samples: Samples, metric: str, **labels: str) -> float:
    wanted = labels.items()
    return sum(value for (name, has), value in samples.items() if name == metric and wanted <= has)


def _values_of(samples: Samples, metric: str, label: str) -> list[str]:
    return sorted({dict(labels)[label] for name, labels in samples if name == metric and label in dict(labels)})


def _per_s(growth: float, period_s: float) -> float:
    return round(growth / period_s, 3) if period_s > 0 else 0.0


def _lanes(total: Samples, grown: Samples, period_s: float, lags: Sequence[LaneLag]) -> Iterable[Lane]:
    names = [lag.lane for lag in lags]
    names += [one for one in _values_of(total, "evalx_lane_waiting", "lane") if one not in names]
    by_name = {lag.lane: lag for lag in lags}
    for name in names:
        lag = by_name.get(name)
        oldest_s = lag.oldest_s if lag is not None else None
        yield Lane(
            lane=name,
            lag=lag.waiting if lag is not None else None,
            oldest_s=oldest_s,
            waiting=int(_sum(total, "evalx_lane_waiting", lane=name)),
            in_flight=int(_sum(total, "evalx_lane_in_flight", lane=name)),
            per_s=_per_s(_sum(grown, "evalx_submissions_total", lane=name), period_s),
            times=_times(total, grown, "evalx_submission_seconds", lane=name),
        )


def _stages(total: Samples, grown: Samples) -> dict[str, Times]:
    whole, metric = _sum(grown, "evalx_submission_seconds_sum"), "evalx_stage_seconds"
    source = grown if whole > 0 else total
    whole = _sum(source, "evalx_submission_seconds_sum")
    found: dict[str, Times] = {}
    for stage in STAGES:
        spent = _sum(source, f"{metric}_sum", stage=stage)
        times = _times(total, grown, metric, stage=stage)
        found[stage] = msgspec.structs.replace(times, share=round(spent / whole, 4) if whole > 0 else None)
    return found


def _times(total: Samples, grown: Samples, metric: str, **labels: str) -> Times:
    recent = _sum(grown, f"{metric}_count", **labels) > 0
    buckets = _buckets(grown if recent else total, f"{metric}_bucket", **labels)
    return Times(quantile(0.5, buckets), quantile(0.95, buckets), "period" if recent else "start")


def _buckets(samples: Samples, metric: str, **labels: str) -> list[tuple[float, float]]:
    wanted = labels.items()
    found: dict[float, float] = defaultdict(float)
    for (name, has), value in samples.items():
        if name == metric and wanted <= has:
            found[float(dict(has)["le"])] += value
    return sorted(found.items())


def quantile(part: float, buckets: Sequence[tuple[float, float]]) -> float | None:
    """The value below which so much lies, by bounds and how many are at or below each; within a bucket a guess.

    What is beyond the last bound counts as the last bound. None when nothing was counted.
    """
    count = buckets[-1][1] if buckets else 0.0
    if count <= 0:
        return None
    rank, lower, below = part * count, 0.0, 0.0
    for bound, up_to in buckets:
        if up_to >= rank and up_to > below:
            if math.isinf(bound):
                return lower
            return round(lower + (bound - lower) * (rank - below) / (up_to - below), 6)
        lower, below = bound, up_to
    return lower


def _pool(looks: Sequence[Look]) -> Iterable[PoolOfImage]:
    workers = [look.samples for look in looks if look.samples is not None]
    total = _added(workers)
    for image in _values_of(total, "evalx_pool_containers", "image"):
        counts = {state: int(_sum(total, "evalx_pool_containers", image=image, state=state)) for state in _STATES}
        used = _sum(total, "evalx_pool_utilisation", image=image) / len(workers)
        yield PoolOfImage(image=image, utilisation=round(used, 3), **counts)


def _slots(total: Samples, grown: Samples, period_s: float) -> Slots:
    slots = int(_sum(total, "evalx_cpu_slots"))
    busy_s = _sum(grown, "evalx_cpu_slot_busy_seconds_total")
    # What ends in the period may have begun before it.
    used = min(1.0, busy_s / (slots * period_s)) if slots and period_s > 0 else 0.0
    busy, waiting = _sum(total, "evalx_cpu_slots_busy"), _sum(total, "evalx_cpu_slots_waiting")
    return Slots(slots, int(busy), int(waiting), round(used, 3))


def _cache(total: Samples, grown: Samples, period_s: float) -> Iterable[CacheLevel]:
    metric = "evalx_cache_lookups_total"
    for level in _values_of(total, metric, "level"):
        looked = _sum(grown, metric, level=level)
        source = grown if looked else total
        count = _sum(source, metric, level=level)
        hits = _sum(source, metric, level=level, outcome="hit")
        rate = round(hits / count, 4) if count else None
        yield CacheLevel(level, _per_s(looked, period_s), rate, "period" if looked else "start")


def _troubles(looks: Sequence[Look], total: Samples) -> Iterable[str]:
    for look in looks:
        if look.error is not None:
            yield f"{look.address}: {look.error}"
        elif look.samples is not None and look.samples.get(("evalx_redis_available", Labels())) == 0:
            yield f"{look.address}: Redis does not answer, memory stands in"
    for breaker in _values_of(total, "evalx_pool_breaker_open", "breaker"):
        if count := _sum(total, "evalx_pool_breaker_open", breaker=breaker):
            yield f"the breaker of {breaker} is open in {count:.0f} of {len(looks)} workers"
