"""The worker process: builds its parts, runs until it is told to stop, and takes them down in order.

Supervision: services that go away come back by themselves (Redis behind its breaker, containers at the next use, a
producer that failed is replaced), and what else may end, ends the process: the Kafka consumer, a place, the tasks that
keep the lease and the containers alive, the health thread. So does a standstill that the health thread sees. The exit
code is then 1, and the supervisor starts a new process.

Shutdown, at any time from the process's first moment on, in less than 15 s from SIGTERM::

    10.0 s   take nothing new, let what is being judged end (``drain_timeout_s``)
     1.0 s   what is judged, but not confirmed yet (``SETTLE_TIMEOUT_S``)
     1.0 s   commit (``COMMIT_TIMEOUT_S``)
     1.5 s   all at once: leave the group, remove the containers (``TAKE_DOWN_TIMEOUT_S``; more if the drain was short)
     1.0 s   the health thread, the loop (``LAST_S``)
  = 14.5 s   ``FORCED_AFTER_S`` beyond the drain, after which the process ends as it stands

What did not end in time is given back uncommitted and judged by another worker. A forced end loses nothing either: what
is not committed is repeated, and containers end by themselves when their worker is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import time
import traceback
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import structlog

from evalx.agents.app import ConsumerFlow, Partitions, create_app, subscribe
from evalx.agents.continuity import Continuity
from evalx.agents.folder import WorkerFolder, remove_left_folders
from evalx.agents.followers import Followers
from evalx.agents.front import Front
from evalx.agents.gauges import Gauges
from evalx.agents.health import Board, HealthServer, end_by_force_after
from evalx.agents.intake import Intake
from evalx.agents.lanes import Lanes
from evalx.agents.orphans import OrphanReaper
from evalx.agents.pipeline import Pipeline
from evalx.agents.publisher import Publisher
from evalx.agents.pulse import Pulse
from evalx.agents.records import Record
from evalx.agents.reporting import expect
from evalx.agents.sequencer import Sequencer
from evalx.agents.source import ConsumerSource
from evalx.agents.standstill import Work, allowance_s
from evalx.agents.topics import TopicAdmin
from evalx.agents.tracing import open_tracing
from evalx.cache.claims import Claims
from evalx.cache.disk import DiskStore
from evalx.cache.flights import Flights
from evalx.cache.holding import Keeper
from evalx.cache.keys import Keys
from evalx.cache.leases import WorkerLease
from evalx.cache.progress import ProgressReporter
from evalx.cache.quota import RedisQuota
from evalx.cache.rules import Policy
from evalx.cache.store import Store
from evalx.engine import Engine
from evalx.errors import DockerUnavailableError, EvalxError
from evalx.languages import Registry
from evalx.sandbox.runtime import SandboxRuntime
from evalx.sandbox.spec import LABEL_OWNER
from evalx.settings import Settings

log = structlog.get_logger(__name__)

#: Seconds between looks at whether Faust is still alive, and at the lanes for the metrics.
WATCH_INTERVAL_S = 0.5
#: Seconds for what has been judged to be confirmed, for the last commit, and for everything else to be taken down:
#: usually some milliseconds each; see the sum above.
SETTLE_TIMEOUT_S = 1.0
COMMIT_TIMEOUT_S = 1.0
TAKE_DOWN_TIMEOUT_S = 1.5
#: Seconds for the health thread and the loop, at the very end.
LAST_S = 1.0
#: Seconds for all parts to start: topics 15, containers 20 or more on a cold disk, the consumer 40.
START_TIMEOUT_S = 120.0
#: Lines that are named of a part that did not stop: those of the library that hangs, and who called it.
FRAMES_SHOWN = 6
#: Seconds beyond the drain after which a shutdown has failed, and the process ends as it stands.
FORCED_AFTER_S = 4.5


class Worker:
    """One worker. ``run`` returns when it was stopped, and raises when it cannot go on."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.name = settings.worker_name or f"{socket.gethostname()}:{os.getpid()}"
        registry = self._registry = Registry.load()
        self._lease = WorkerLease(settings.redis_location, self.name, settings.topic_prefix)
        self._store = Store(
            settings.redis_location,
            timeout_ms=settings.redis_timeout_ms,
            ttl_s=settings.result_cache_ttl_s,
            disk=DiskStore(settings.artifact_dir, settings.artifact_disk_bytes),
        )
        self._keeper = Keeper(self._store.link)
        quota = RedisQuota(
            self._store.link,
            prefix=settings.topic_prefix,
            owner=self._lease.name,
            bound=settings.max_concurrent_containers,
            most_workers=settings.partition_count,
        )
        self._sandbox = SandboxRuntime(settings, registry.images, registry.interpreters, quota)
        hashes = Keys(settings.cache_secret)
        policy = Policy(results=settings.result_cache, tests=settings.test_cache, single_flight=settings.single_flight)
        flights = Flights(self._store, self._keeper)
        self._engine = Engine(registry, self._sandbox, self._store, flights, keys=hashes, policy=policy)
        self._tracing = open_tracing(self.name) if settings.traces else None
        self._publisher = Publisher(settings, self.name, self._tracing)
        self._folder = WorkerFolder()
        self._app = create_app(settings, self.name, self._folder.path)
        self._flow = ConsumerFlow(self._app)
        expect(lane.name for lane in settings.lanes)
        self._sequencer: Sequencer[Record] = Sequencer()
        self._lanes: Lanes[Record] = Lanes(
            (lane.name for lane in settings.lanes),
            self._lane_of,
            self._flow,
            max_count=settings.buffer_max_count,
            max_bytes=settings.buffer_max_bytes,
            priorities=settings.priorities,
        )
        claims = Claims(self._keeper, prefix=settings.topic_prefix, ttl_s=settings.result_cache_ttl_s, hashes=hashes)
        self._pulse = Pulse()
        self._progress = ProgressReporter(self._store.link, settings.topic_prefix)
        followers = Followers(self._lanes, settings.concurrency)
        self._pipeline = Pipeline(
            self._lanes,
            self._sequencer,
            self._engine,
            claims,
            self._publisher,
            self.name,
            self._pulse,
            self._progress,
            followers,
        )
        self._front = Front(
            self._lanes,
            self._sequencer,
            self._engine,
            claims,
            self._publisher,
            self._pipeline.flying,
            self._store,
            self._pulse,
            self.name,
        )
        if settings.single_flight:
            followers.look_again = self._front.put
        self._gauges = Gauges(self._lanes, self._pipeline.flying)
        self._looking: asyncio.Task[None] | None = None
        intake = Intake(registry.rules(settings), self._front, self._sequencer, self._lane_of)
        source = ConsumerSource(self._app, settings)
        continuity = self._continuity = Continuity(source, intake.take)
        partitions = self._partitions = Partitions(
            self._app, self._flow, source, continuity, self._lanes, self._sequencer, self._pipeline.wait_idle
        )
        subscribe(self._app, settings, continuity, partitions)
        self._images = list(registry.images)
        self._board = Board()
        self._health = HealthServer(settings, self.name, self._board)
        self._reaper = OrphanReaper(self._sandbox, self._lease)
        self._places: list[asyncio.Task[None]] = []
        self._stop = asyncio.Event()
        self._ends_at = 0.0

    async def run(self) -> None:
        """Start everything, judge until SIGTERM or SIGINT, and stop everything.

        Raises:
            EvalxError: a part cannot be started, or failed for good; the supervisor should start a new process.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._begin_to_stop)
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(self._folder.remove)
            remove_left_folders()
            stack.push_async_callback(self._health.stop)
            beating = asyncio.create_task(self._beat())
            stack.callback(beating.cancel)
            stack.push_async_callback(self._take_down)
            try:
                await self._work_until_stopped(beating)
            except BaseException:
                # Whatever hangs on the way out must not keep a supervisor from starting another process.
                self._end_by(time.monotonic() + FORCED_AFTER_S, code=1)
                raise

    async def _work_until_stopped(self, beating: asyncio.Task[None]) -> None:
        if await self._start_unless_stopped():
            await self._watch(beating)
            await self._drain()

    def _begin_to_stop(self) -> None:
        if not self._stop.is_set():
            log.info("worker_stopping", worker=self.name)
            self._board.phase = "stopping"
            self._stop.set()
            self._end_by(time.monotonic() + self._settings.drain_timeout_s + FORCED_AFTER_S, code=0)

    def _end_by(self, at: float, code: int) -> None:
        self._ends_at = at
        end_by_force_after(at - time.monotonic(), code)

    async def _beat(self) -> None:
        while True:
            self._board.beat(self._work(), pool_warm=self._sandbox.alive, pool=str(self._sandbox.pool_state))
            await asyncio.sleep(WATCH_INTERVAL_S)

    async def _start_unless_stopped(self) -> bool:
        """Start, but be stopped at any moment of it."""
        starting = asyncio.create_task(self._start())
        stopping = asyncio.create_task(self._stop.wait())
        await asyncio.wait({starting, stopping}, timeout=START_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not starting.done():
            starting.cancel()
            await asyncio.wait({starting}, timeout=self._settings.drain_timeout_s)
            if not self._stop.is_set():
                raise EvalxError(f"the worker could not start within {START_TIMEOUT_S:g} s")
            return False
        await starting
        return True

    async def _start(self) -> None:
        await self._health.start()
        async with TopicAdmin(self._settings) as topics:
            await topics.check()
        await self._keeper.start()
        await self._pulse.start()
        await self._lease.start((self._settings.health_host, self._health.port))
        lease = self._lease
        await self._sandbox.start(owner=self.name, scope=lease.scope, lease=lease.name, warm=self._images)
        await self._reaper.start()
        await self._publisher.start()
        lanes = [None] * self._settings.concurrency + self._lanes.reserved(self._settings.cpu_slots)
        self._places = [asyncio.create_task(self._pipeline.run_place(lane)) for lane in lanes]
        self._looking = asyncio.create_task(self._front.run())
        await self._continuity.start()
        await self._app.start()
        _keep_what_is_there()
        self._board.phase = "judging"
        log.info("worker_started", worker=self.name, places=len(self._places))

    async def _watch(self, beating: asyncio.Task[None]) -> None:
        while not self._stop.is_set():
            if (failure := self._failure(beating)) is not None:
                raise EvalxError(failure)
            self._gauges.look()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(WATCH_INTERVAL_S):
                    await self._stop.wait()

    def _failure(self, beating: asyncio.Task[None]) -> str | None:
        """Why this process cannot go on, if it cannot."""
        if self._app.crashed or self._app.should_stop:
            return f"the Kafka consumer failed: {self._app.crash_reason!r}"
        if (failure := self._pipeline.failure or self._front.failure) is not None:
            return f"a record could not be finished: {failure!r}"
        if self._board.stuck:
            return f"the worker is stuck: {self._board.stuck}"
        for name, task in [("the watch", beating), *self._background()]:
            if task is not None and task.done():
                how = "was cancelled" if task.cancelled() else repr(task.exception())
                return f"a part of the worker has ended, {name}: {how}"
        return None

    def _background(self) -> list[tuple[str, asyncio.Task[None] | None]]:
        """The tasks that run until the worker stops."""
        places = [("a place", place) for place in self._places]
        parts = [("the lease", self._lease.task), ("the reaper", self._reaper.task), ("the pool", self._sandbox.keeper)]
        parts += [("the watch on gaps", self._continuity.task), ("the front", self._looking)]
        return [*places, *parts, ("the leases", self._keeper.task), ("the pulse", self._pulse.task)]

    def _work(self) -> Work:
        flying = self._pipeline.flying.records
        submissions = [record.submission for record in flying if record.submission is not None]
        return Work(
            assigned=frozenset(tp.partition for tp in self._flow.assigned),
            pending={_number(tp): count for tp, count in self._sequencer.pending().items()},
            in_flight=frozenset(record.partition_number for record in flying),
            held_back=frozenset(map(_number, self._lanes.held_back())),
            allowance_s=allowance_s(submissions, self._registry, self._settings.cpu_slots),
        )

    async def _drain(self) -> None:
        self._pipeline.stop_taking()
        finished = await self._pipeline.wait_idle(self._settings.drain_timeout_s)
        # Before the commit: what ended after it would be published here and judged again elsewhere.
        for place in self._places:
            if not self._pipeline.flying.is_settling(place):
                place.cancel()
        await self._pipeline.flying.wait_settled(SETTLE_TIMEOUT_S)
        await _within(COMMIT_TIMEOUT_S, self._partitions.commit(self._flow.assigned))
        log.info("worker_drained", everything_finished=finished, given_back=self._sequencer.unfinished)

    async def _take_down(self) -> None:
        """Stop every part, started or not, all at once; what is still held by then is not waited for."""
        parts = (
            self._stop_app(),
            self._stop_sandboxes(),
            self._publisher.stop(),
            self._lease.stop(),
        )
        # A drain that was short leaves more.
        seconds = max(TAKE_DOWN_TIMEOUT_S, self._ends_at - time.monotonic() - LAST_S)
        await asyncio.gather(*(_within(seconds, part) for part in parts))
        # What was given back gives its leases back as well.
        await _within(LAST_S / 2, self._stop_leases())
        if self._tracing is not None:
            await _within(LAST_S / 4, asyncio.to_thread(self._tracing.close))

    async def _stop_leases(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        await self._pulse.stop()
        await self._progress.stop()
        await self._keeper.stop()
        await self._store.close()

    async def _stop_app(self) -> None:
        await self._continuity.stop()
        if self._app.started:
            await self._app.stop()

    async def _stop_sandboxes(self) -> None:
        await self._reaper.stop()
        for place in self._places:
            place.cancel()
        await asyncio.gather(*self._places, return_exceptions=True)
        # A start that was interrupted may leave a container that was created and that nobody knows of.
        with contextlib.suppress(DockerUnavailableError, AssertionError):
            for container in await self._sandbox.find_containers({LABEL_OWNER: self.name}):
                await self._sandbox.remove_container(container.id)
        await self._sandbox.close()

    def _lane_of(self, partition: Any) -> str:
        """A partition that was added while the worker runs has no lane yet; the lowest one judges it all the same."""
        return self._settings.lane_of.get(partition.partition, self._settings.lanes[-1].name)


def _keep_what_is_there() -> None:
    """What is there once a worker has started stays to its end, and the garbage collector need not look at it again.

    A look at all of it holds the loop for 60 ms (measured), and for that reason the collector takes it so rarely that
    what is garbage in a cycle would pile up for minutes.
    """
    gc.collect()
    gc.freeze()


def _number(partition: Any) -> int:
    return int(partition.partition)


async def _within(seconds: float, work: Awaitable[Any]) -> None:
    """Let a part end, but not for ever, and none keeps another from it."""
    try:
        async with asyncio.timeout(seconds):
            await work
    except Exception as error:
        log.warning("part_not_stopped", error=repr(error), where=_where(error))


def _where(error: BaseException) -> str:
    """The line that was being executed; of what took too long, the one that was waited at."""
    cause = error.__cause__ if isinstance(error, TimeoutError) and error.__cause__ is not None else error
    frames = traceback.extract_tb(cause.__traceback__)
    return ", ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames[-FRAMES_SHOWN:]))
