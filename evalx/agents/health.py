"""Health and metrics of a worker over HTTP, and the watch over the worker's own life.

All of it lives in a thread with an event loop of its own: it answers while the worker's loop is busy, and it is there
to see when that loop hangs. What the worker does is on a *board* that the worker's loop writes to twice a second.
Kafka, Redis and Docker are asked from here, by clients of their own.

``/livez`` is 200 unless a new process would do better: the loop hangs, a partition stands still (see ``standstill``),
or the group has lost the worker. The worker then also ends itself, with an exit code that makes its supervisor start
another one; a supervisor need not look. ``/readyz`` is 200 while submissions are judged: partitions, Docker and the
pool are there. Redis away means degraded: judging goes on without it.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import threading
import time
from collections.abc import Awaitable
from typing import Any, Literal, TypeAlias

import aiodocker
import aiohttp
import msgspec
import redis.asyncio
import structlog
from aiohttp import web
from prometheus_client.exposition import choose_encoder

from evalx.agents.gauges import forget_lag, tell_lag
from evalx.agents.lag import CLIENT_PREFIX, LagReader, PartitionLag
from evalx.agents.standstill import GRACE_S, StandstillWatch, Work
from evalx.agents.timing import SLOWEST
from evalx.errors import ConfigurationError, EvalxError
from evalx.metrics import REGISTRY
from evalx.sandbox.daemon import close_docker, open_docker
from evalx.settings import Settings

log = structlog.get_logger(__name__)

#: Seconds that a service has to answer before it counts as away here: a probe usually waits for 1 to 3.
PROBE_TIMEOUT_S = 0.8
#: Seconds without a beat of the worker's loop after which it counts as busy, and as hanging. The longest that it works
#: at a stretch is some hundred milliseconds, decoding and encoding records of 16 MiB.
BUSY_S = 3.0
HANG_S = 60.0
#: Seconds between looks at the broker: three small requests.
LOOK_INTERVAL_S = 5.0
#: A pause between looks that is this many times too long means that the process itself did not run.
STOPPED_FACTOR = 3.0
#: Seconds for a worker that is stuck to end in order: what it holds is given back, its containers are removed.
ORDERLY_END_S = 10.0
#: Seconds for the thread to listen, and to end; its connections to a broker that is away may take longer to close, and
#: nothing hangs on them.
LISTEN_TIMEOUT_S = 10.0
END_TIMEOUT_S = 0.3

Phase: TypeAlias = Literal["starting", "judging", "stopping"]

_DOCKER_ERRORS = (aiodocker.DockerError, aiohttp.ClientError, OSError, TimeoutError)


class Board:
    """What the worker's loop tells the thread, and the other way round. Each field is replaced as a whole."""

    def __init__(self) -> None:
        self.phase: Phase = "starting"
        self.beat_at = time.monotonic()
        self.work = Work()
        self.pool_warm = False
        self.pool = ""
        #: Why the worker should end and another be started; empty while all is well.
        self.stuck = ""

    def beat(self, work: Work, *, pool_warm: bool, pool: str = "") -> None:
        """The worker's loop runs, and this is what it has; ``pool`` is what people are told of the containers."""
        self.work = work
        self.pool_warm = pool_warm
        self.pool = pool
        self.beat_at = time.monotonic()


class Part(msgspec.Struct, frozen=True):
    """One part of the worker, and what there is to say of it."""

    up: bool
    detail: str


class HealthServer:
    """Serves and watches from ``start`` to ``stop``."""

    def __init__(self, settings: Settings, name: str, board: Board) -> None:
        self._settings = settings
        self._board = board
        self._watch = ProgressWatch(settings, name, board)
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: asyncio.Event | None = None
        #: Where it listens, once it does.
        self.port = settings.health_port
        self._redis: redis.asyncio.Redis | None = None
        self._docker: aiodocker.Docker | None = None

    async def start(self) -> None:
        """Listen.

        Raises:
            ConfigurationError: the address cannot be listened on.
        """
        listening: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._thread = threading.Thread(target=self._run, args=(listening,), name="evalx-health", daemon=True)
        self._thread.start()
        await asyncio.wait_for(asyncio.wrap_future(listening), LISTEN_TIMEOUT_S)

    async def stop(self) -> None:
        """Close, and wait until the thread has ended."""
        if self._loop is not None and self._ended is not None and self._thread is not None:
            with contextlib.suppress(RuntimeError):  # it has ended by itself
                self._loop.call_soon_threadsafe(self._ended.set)
            await asyncio.to_thread(self._thread.join, END_TIMEOUT_S)

    def _run(self, listening: concurrent.futures.Future[None]) -> None:
        try:
            asyncio.run(self._serve(listening))
        except Exception as error:
            log.exception("health_failed")
            if not listening.done():
                listening.set_exception(error)
            self._board.stuck = f"the health thread has ended: {error!r}"

    async def _serve(self, listening: concurrent.futures.Future[None]) -> None:
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application()
        app.router.add_get("/livez", self._live)
        app.router.add_get("/readyz", self._ready)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/slowest", self._slowest)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        settings = self._settings
        try:
            await web.TCPSite(runner, settings.health_host, settings.health_port).start()
        except OSError as error:
            await runner.cleanup()
            place = f"{settings.health_host}:{settings.health_port}"
            text = f"EVALX_HEALTH_PORT: cannot listen on {place}: {error.strerror or error}"
            listening.set_exception(ConfigurationError(text))
            return
        self.port = int(runner.addresses[0][1])
        self._redis = redis.asyncio.Redis.from_url(settings.redis_location)
        self._docker = open_docker(settings.docker_host)
        listening.set_result(None)
        watching = asyncio.create_task(self._watch.run())
        ended = asyncio.create_task(self._ended.wait())
        try:
            await asyncio.wait({watching, ended}, return_when=asyncio.FIRST_COMPLETED)
            if watching.done():
                watching.result()
        finally:
            watching.cancel()
            ended.cancel()
            await asyncio.gather(watching, ended, return_exceptions=True)
            await asyncio.gather(runner.cleanup(), self._redis.aclose(), close_docker(self._docker))

    async def _live(self, _request: web.Request) -> web.Response:
        live = not self._board.stuck
        parts = {"loop": self._loop_part(HANG_S), "progress": self._watch.part()}
        return _answer(
            200 if live else 503, live=live, phase=self._board.phase, reason=self._board.stuck, **_told(parts)
        )

    async def _ready(self, _request: web.Request) -> web.Response:
        board = self._board
        redis_part, docker_part = await asyncio.gather(self._ask_redis(), self._ask_docker())
        count = len(board.work.assigned)
        parts = {
            "kafka": Part(count > 0, f"{count} partitions"),
            "redis": redis_part,
            "docker": docker_part,
            "pool": Part(board.pool_warm, board.pool or ("warm" if board.pool_warm else "no container")),
            "loop": self._loop_part(HANG_S),
        }
        needed = all(part.up for name, part in parts.items() if name != "redis")
        ready = needed and board.phase == "judging" and not board.stuck
        degraded = ready and not redis_part.up
        return _answer(200 if ready else 503, ready=ready, degraded=degraded, phase=board.phase, **_told(parts))

    async def _metrics(self, request: web.Request) -> web.Response:
        # Prometheus asks for OpenMetrics, which alone has room for exemplars.
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return web.Response(body=encode(REGISTRY), headers={"content-type": content_type})

    async def _slowest(self, _request: web.Request) -> web.Response:
        return web.Response(body=msgspec.json.encode(SLOWEST.told()), content_type="application/json")

    def _loop_part(self, limit_s: float) -> Part:
        late_s = time.monotonic() - self._board.beat_at
        return Part(late_s < limit_s, "runs" if late_s < BUSY_S else f"busy for {late_s:.0f} s")

    async def _ask_redis(self) -> Part:
        assert self._redis is not None
        return await _probe(self._redis.ping(), (redis.RedisError, OSError, TimeoutError))

    async def _ask_docker(self) -> Part:
        assert self._docker is not None
        return await _probe(self._docker.version(), _DOCKER_ERRORS)


class ProgressWatch:
    """Looks at the broker from time to time, and says on the board when the worker is stuck."""

    def __init__(self, settings: Settings, name: str, board: Board) -> None:
        self._settings = settings
        self._client = CLIENT_PREFIX + name
        self._board = board
        self._grace_s = GRACE_S if settings.standstill_grace_s is None else settings.standstill_grace_s
        self._standstill = StandstillWatch(self._grace_s)
        self._interval_s = min(LOOK_INTERVAL_S, self._grace_s / 4)
        self._watching_since = time.monotonic()
        self._member_at = time.monotonic()
        self._said = Part(True, "not looked at yet")

    def part(self) -> Part:
        """What the last look found."""
        return self._said

    async def run(self) -> None:
        """Look until cancelled."""
        reader: LagReader | None = None
        looked_at = time.monotonic()
        try:
            while True:
                await asyncio.sleep(self._interval_s)
                now = time.monotonic()
                if now - looked_at > STOPPED_FACTOR * self._interval_s:
                    self._start_anew("the process did not run")
                self._look_at_loop()
                reader = await self._look_at_broker(reader)
                # Only the pause is measured: a broker may take its time.
                looked_at = time.monotonic()
        finally:
            await _close(reader)

    async def _look_at_broker(self, reader: LagReader | None) -> LagReader | None:
        """One look; returns the connection for the next one, if it is still good."""
        if self._board.phase != "judging":
            return reader
        try:
            if reader is None:
                reader = await LagReader(self._settings).__aenter__()
            lags, members = await reader.read(), await reader.members()
            tell_lag(self._settings, lags)
            await self._judge(reader, lags, members)
        except EvalxError as error:
            self._start_anew(str(error))
            await _close(reader)
            return None
        return reader

    async def _judge(self, reader: LagReader, lags: list[PartitionLag], members: set[str]) -> None:
        now = time.monotonic()
        if self._client in members:
            self._member_at = now
        elif now - self._member_at > self._grace_s:
            self._report(f"the group has not had this worker as a member for {now - self._member_at:.0f} s")
            return
        stalled = self._standstill.look(now, lags, self._board.work)
        real = await reader.oldest([lag for lag in lags if lag.partition in {one.partition for one in stalled}])
        for one in stalled:
            if one.partition in real:
                self._report(str(one))
                return
            # What lies there is no record but a transaction's marker.
            self._standstill.excuse(one.partition, now)
        self._said = Part(True, f"{sum(lag.waiting for lag in lags)} waiting in the group")

    def _look_at_loop(self) -> None:
        silent_s = time.monotonic() - max(self._board.beat_at, self._watching_since)
        if silent_s > HANG_S:
            self._report(f"the event loop has not run for {silent_s:.0f} s")

    def _report(self, reason: str) -> None:
        self._said = Part(False, reason)
        if not self._board.stuck:
            log.error("worker_stuck", reason=reason)
            self._board.stuck = reason
            # The worker's loop ends the process in order, if it still runs.
            end_by_force_after(ORDERLY_END_S, code=1)

    def _start_anew(self, why: str) -> None:
        self._standstill.forget()
        forget_lag()
        self._watching_since = self._member_at = time.monotonic()
        self._said = Part(True, f"cannot be told: {why}")


def end_by_force_after(seconds: float, code: int) -> None:
    """End the process as it stands, unless it has ended by then."""

    def end() -> None:
        log.error("worker_ends_by_force", seconds=seconds)
        os._exit(code)

    # A thread of its own: what it is there for is a loop that does not come back.
    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()


async def _close(reader: LagReader | None) -> None:
    if reader is not None:
        with contextlib.suppress(Exception):
            await reader.__aexit__()


async def _probe(answer: Awaitable[Any], errors: tuple[type[BaseException], ...]) -> Part:
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            await answer
    except errors as error:
        return Part(False, str(error) or f"no answer within {PROBE_TIMEOUT_S:g} s")
    return Part(True, "answers")


def _told(parts: dict[str, Part]) -> dict[str, Any]:
    return {
        "parts": {name: part.up for name, part in parts.items()},
        "details": {name: part.detail for name, part in parts.items()},
    }


def _answer(status: int, **document: Any) -> web.Response:
    return web.Response(body=msgspec.json.encode(document), status=status, content_type="application/json")
