"""`evalx top`: what two looks at the workers' metrics show, and what is drawn of it."""

from __future__ import annotations

import io
import socket

import pytest
from aiohttp import web
from rich.console import Console

from evalx.agents.lag import LaneLag
from evalx.agents.slowest import KEPT, TURN_S, Slow, Slowest
from evalx.cache.roster import Place, Roster
from evalx.cli.screen import draw, duration
from evalx.cli.vitals import Look, Picture, parse, picture, quantile
from evalx.cli.workers import Workers, place
from evalx.errors import UsageError
from evalx.settings import Settings
from evalx.stages import STAGES

#: Of a worker, shortened: what it said at first, with the numbers that grow left open.
RECORDED = """\
# HELP process_start_time_seconds Start time of the process since unix epoch in seconds.
# TYPE process_start_time_seconds gauge
process_start_time_seconds {started}
# HELP evalx_lane_waiting Submissions that wait in this worker
# TYPE evalx_lane_waiting gauge
evalx_lane_waiting{{lane="high"}} 2.0
# HELP evalx_lane_in_flight Submissions that are being judged
# TYPE evalx_lane_in_flight gauge
evalx_lane_in_flight{{lane="high"}} 1.0
# HELP evalx_submissions_total Results published
# TYPE evalx_submissions_total counter
evalx_submissions_total{{lane="high",source="executed",status="judged"}} {judged}
evalx_submissions_total{{lane="high",source="result_cache",status="judged"}} 4.0
# HELP evalx_submission_seconds Time of a submission
# TYPE evalx_submission_seconds histogram
evalx_submission_seconds_bucket{{lane="high",le="0.1"}} 4.0
evalx_submission_seconds_bucket{{lane="high",le="1.0"}} {count}
evalx_submission_seconds_bucket{{lane="high",le="+Inf"}} {count}
evalx_submission_seconds_count{{lane="high"}} {count}
evalx_submission_seconds_sum{{lane="high"}} {whole}
# HELP evalx_stage_seconds Time of a submission by stage
# TYPE evalx_stage_seconds histogram
evalx_stage_seconds_bucket{{le="1.0",stage="run"}} {count}
evalx_stage_seconds_bucket{{le="+Inf",stage="run"}} {count}
evalx_stage_seconds_count{{stage="run"}} {count}
evalx_stage_seconds_sum{{stage="run"}} {run}
# HELP evalx_cache_lookups_total Cache look-ups
# TYPE evalx_cache_lookups_total counter
evalx_cache_lookups_total{{level="result",outcome="hit"}} 4.0
evalx_cache_lookups_total{{level="result",outcome="miss"}} {judged}
# HELP evalx_redis_available 1 while Redis answers
# TYPE evalx_redis_available gauge
evalx_redis_available {redis}
# HELP evalx_pool_containers Sandbox containers
# TYPE evalx_pool_containers gauge
evalx_pool_containers{{image="c",state="idle"}} 3.0
evalx_pool_containers{{image="c",state="busy"}} 1.0
# HELP evalx_pool_breaker_open 1 while starts are held back
# TYPE evalx_pool_breaker_open gauge
evalx_pool_breaker_open{{breaker="docker"}} 0.0
# HELP evalx_cpu_slots Programs that may run at one time
# TYPE evalx_cpu_slots gauge
evalx_cpu_slots 2.0
# HELP evalx_cpu_slot_busy_seconds_total Time for which slots were busy
# TYPE evalx_cpu_slot_busy_seconds_total counter
evalx_cpu_slot_busy_seconds_total {run}
"""
LAGS = [LaneLag("high", 7, 1.5, ()), LaneLag("low", 0, None, ())]


def said(judged: float, *, started: float = 1000.0, redis: int = 1) -> str:
    count = judged + 4
    return RECORDED.format(
        judged=judged, count=count, whole=count * 0.5, run=count * 0.25, started=started, redis=redis
    )


def look(judged: float, address: str = "a:1", **other: float) -> Look:
    return Look(address, parse(said(judged, **other)))  # type: ignore[arg-type]


def test_rates_are_what_grew_between_two_looks_of_each_worker():
    shown = picture([look(30), look(11, "b:1")], [look(10), look(1, "b:1")], 2.0, LAGS)
    assert (shown.workers, shown.troubles) == (2, ())
    assert (shown.rates["submissions"], shown.rates["from_cache"]) == (15.0, 0.0)
    high, low = shown.lanes
    assert (high.lane, high.lag, high.oldest_s, high.waiting, high.in_flight, high.per_s) == ("high", 7, 1.5, 4, 2, 15)
    assert (low.lane, low.lag, low.waiting, low.times.p50_s) == ("low", 0, 0, None)
    assert (high.times.since, high.times.p50_s) == ("period", pytest.approx(0.55))
    assert shown.stages["run"].share == 0.5
    assert list(shown.stages) == list(STAGES)
    assert (shown.slots.slots, shown.slots.utilisation) == (4, 0.938)
    assert (shown.pool[0].image, shown.pool[0].idle, shown.pool[0].busy) == ("c", 6, 2)
    assert (shown.cache[0].hit_rate, shown.cache[0].lookups_per_s) == (0.0, 15.0)


def test_a_worker_that_was_started_in_between_counts_from_zero_and_a_new_one_not_at_all():
    shown = picture([look(6, started=2000.0), look(500, "new:1")], [look(100)], 2.0, [])
    assert shown.rates["submissions"] == 5.0


def test_when_nothing_ended_times_are_since_the_start():
    shown = picture([look(36)], [look(36)], 2.0, [])
    assert (shown.rates["submissions"], shown.lanes[0].lag) == (0.0, None)
    assert shown.lanes[0].times.since == "start"
    assert shown.lanes[0].times.p95_s == pytest.approx(0.1 + 0.9 * 34 / 36)
    assert (shown.cache[0].since, shown.cache[0].hit_rate) == ("start", 0.1)


def test_who_is_in_trouble_is_named():
    shown = picture([look(1, redis=0), Look("b:1", error="refused")], [], 2.0, [], ["Kafka is away"])
    assert shown.troubles == ("Kafka is away", "a:1: Redis does not answer, memory stands in", "b:1: refused")
    assert shown.workers == 1


@pytest.mark.parametrize(
    ("buckets", "p50"),
    [
        ([], None),
        ([(1.0, 0.0), (float("inf"), 0.0)], None),
        ([(1.0, 0.0), (2.0, 10.0), (float("inf"), 10.0)], 1.5),
        ([(1.0, 1.0), (float("inf"), 10.0)], 1.0),
    ],
)
def test_quantiles(buckets: list[tuple[float, float]], p50: float | None):
    assert quantile(0.5, buckets) == p50


# --- drawing


def drawn(shown: Picture) -> str:
    console = Console(width=160, file=io.StringIO())
    with console.capture() as captured:
        console.print(draw(shown))
    return captured.get()


def test_everything_is_drawn_and_an_id_cannot_drive_the_terminal():
    slow = Slow("\x1b[2Jevil", "high", "c", "TLE", 12.34, {"run": 12.0}, 0.0)
    text = drawn(picture([Look("a:1", parse(said(30)), (slow,))], [look(10)], 2.0, LAGS, ["Kafka is away"]))
    for part in ("1 workers", "10.0 submissions/s", "Kafka is away", "TLE", "12.3 s", "550 ms", *STAGES):
        assert part in text
    assert "\x1b" not in text
    assert drawn(picture([], [], 2.0, []))


def test_durations_have_few_digits():
    cases = (None, 0.00123, 0.25, 1.26, 99.96)
    assert [duration(one) for one in cases] == ["-", "1.2 ms", "250 ms", "1.3 s", "100 s"]


# --- asking workers


@pytest.mark.parametrize(
    ("text", "found"),
    [("a", ("a", 6066)), ("a:1", ("a", 1)), ("[::1]:7", ("::1", 7)), ("", None), ("a/b", None), ("a:x", None)],
)
def test_addresses(text: str, found: tuple[str, int] | None):
    if found is not None:
        assert place(text, 6066) == found
        return
    with pytest.raises(UsageError, match="is not the address of a worker"):
        place(text, 6066)


async def test_a_worker_is_asked_and_others_are_told_apart(unused_tcp_port_factory: object):
    async def metrics(_request: web.Request) -> web.Response:
        return web.Response(text=said(3))

    async def slowest(_request: web.Request) -> web.Response:
        return web.json_response([])

    app, ports = web.Application(), [unused_tcp_port_factory() for _ in range(2)]  # type: ignore[operator]
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/slowest", slowest)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", ports[0]).start()
    try:
        addresses = tuple(f"127.0.0.1:{port}" for port in ports)
        async with Workers(Settings(worker_addresses=addresses)) as workers:
            there, away = await workers.look()
    finally:
        await runner.cleanup()
    assert (there.address, there.error) == (addresses[0], None)
    assert there.samples is not None
    assert away.samples is None
    assert away.error


async def test_who_is_not_named_is_found_and_what_is_elsewhere_is_told(monkeypatch: pytest.MonkeyPatch):
    places = [Place(socket.gethostname(), "127.0.0.1:9"), Place("elsewhere", "127.0.0.1:8"), Place("far", "[::1]:7")]
    monkeypatch.setattr(Roster, "read", lambda _self: answer(places))
    async with Workers(Settings()) as workers:
        assert [one.address for one in await workers.look()] == ["127.0.0.1:9"]
        assert workers.troubles == (
            "elsewhere: the worker answers on 127.0.0.1:8 there only",
            "far: the worker answers on [::1]:7 there only",
        )
        # With Redis away, those that are known are asked.
        monkeypatch.setattr(Roster, "read", lambda _self: answer(OSError("refused")))
        assert [one.address for one in await workers.look()] == ["127.0.0.1:9"]
        assert "Redis, where workers are found, is away: refused" in workers.troubles[0]


async def test_who_finds_nobody_asks_this_machine(monkeypatch: pytest.MonkeyPatch):
    for found in ([], OSError()):
        monkeypatch.setattr(Roster, "read", lambda _self, found=found: answer(found))
        async with Workers(Settings(health_port=9)) as workers:
            assert [one.address for one in await workers.look()] == ["127.0.0.1:9"]
            assert len(workers.troubles) == isinstance(found, OSError)


async def answer(found: list[Place] | OSError) -> list[Place]:
    if isinstance(found, OSError):
        raise found
    return found


# --- the slowest


class FakeRecord:
    lane, verdict = "low", "AC"

    def __init__(self, name: str) -> None:
        self.submission = type("Named", (), {"id": name, "language": "c"})()


def test_the_slowest_are_kept_and_forgotten_after_two_turns(monkeypatch: pytest.MonkeyPatch):
    now = 1000.0
    monkeypatch.setattr("evalx.agents.slowest.time.monotonic", lambda: now)
    kept = Slowest()
    for second in range(3 * KEPT):
        kept.offer(FakeRecord(str(second)), float(second), {"run": 1.0})  # type: ignore[arg-type]
    assert [one.seconds for one in kept.told()] == [float(3 * KEPT - 1 - n) for n in range(KEPT)]
    now += TURN_S + 1
    kept.offer(FakeRecord("late"), 0.5, {})  # type: ignore[arg-type]
    assert kept.told()[0].submission == str(3 * KEPT - 1)
    now += TURN_S + 1
    kept.offer(FakeRecord("later"), 0.25, {})  # type: ignore[arg-type]
    assert [one.submission for one in kept.told()] == ["late", "later"]
    now += 3 * TURN_S
    assert kept.told() == []
