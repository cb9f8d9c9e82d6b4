"""The worker process: builds its parts, runs until it is told to stop, and takes them down in order.

Shutdown, at most 15 s from SIGTERM: take nothing new; let what is being judged end (``drain_timeout_s``, 10 s); commit
and leave the group (1 s); remove the containers (5 s at most, all at once). What did not end in time is given back
uncommitted and judged by another worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from typing import Any

import structlog

from evalx.agents.app import ConsumerFlow, Partitions, create_app, subscribe
from evalx.agents.folder import WorkerFolder, remove_left_folders
from evalx.agents.health import HealthServer
from evalx.agents.intake import Intake
from evalx.agents.lanes import Lanes
from evalx.agents.orphans import OrphanReaper
from evalx.agents.pipeline import Pipeline
from evalx.agents.publisher import Publisher
from evalx.agents.pulse import Pulse
from evalx.agents.records import Record
from evalx.agents.sequencer import Sequencer
from evalx.agents.topics import TopicAdmin
from evalx.cache.claims import Claims
from evalx.cache.flights import Flights
from evalx.cache.holding import Keeper
from evalx.cache.leases import WorkerLease
from evalx.cache.store import Store
from evalx.engine import Engine
from evalx.errors import EvalxError
from evalx.languages import Registry
from evalx.metrics import LANE_WAITING
from evalx.sandbox.runtime import SandboxRuntime
from evalx.settings import Settings

log = structlog.get_logger(__name__)

#: Seconds between looks at whether Faust is still alive, and at the lanes for the metrics.
WATCH_INTERVAL_S = 0.5
#: Seconds for Faust to leave its group and stop; it has nothing left to do by then.
FAUST_STOP_TIMEOUT_S = 3.0


class Worker:
    """One worker. ``run`` returns when it was stopped, and raises when it cannot go on."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.name = settings.worker_name or f"{socket.gethostname()}:{os.getpid()}"
        registry = Registry.load()
        self._sandbox = SandboxRuntime(settings, registry.images)
        self._lease = WorkerLease(settings.redis_url, self.name)
        self._store = Store(settings.redis_url, timeout_ms=settings.redis_timeout_ms, ttl_s=settings.result_cache_ttl_s)
        self._keeper = Keeper(self._store.link)
        self._engine = Engine(registry, self._sandbox, self._store, Flights(self._store, self._keeper))
        self._publisher = Publisher(settings, self.name)
        self._folder = WorkerFolder()
        self._app = create_app(settings, self._folder.path)
        self._flow = ConsumerFlow(self._app)
        self._sequencer: Sequencer[Record] = Sequencer()
        self._lanes: Lanes[Record] = Lanes(
            (lane.name for lane in settings.lanes),
            self._lane_of,
            self._flow,
            max_count=settings.buffer_max_count,
            max_bytes=settings.buffer_max_bytes,
        )
        claims = Claims(self._keeper, prefix=settings.topic_prefix, ttl_s=settings.result_cache_ttl_s)
        self._pulse = Pulse()
        self._pipeline = Pipeline(
            self._lanes, self._sequencer, self._engine, claims, self._publisher, self.name, self._pulse
        )
        intake = Intake(registry.rules(settings), self._lanes, self._sequencer, self._lane_of)
        partitions = Partitions(self._app, self._flow, self._lanes, self._sequencer, self._pipeline.wait_idle)
        subscribe(self._app, settings, intake, partitions)
        self._images = list(registry.images)
        self._health = HealthServer(settings, self._is_ready)
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Start everything, judge until SIGTERM or SIGINT, and stop everything.

        Raises:
            EvalxError: a part cannot be started, or failed for good; the supervisor should start a new process.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(self._folder.remove)
            remove_left_folders()
            await self._start(stack)
            await self._watch()
            await self._drain()

    async def _start(self, stack: contextlib.AsyncExitStack) -> None:
        """Each part registers its end when it has begun, so a failed start takes down what there is."""
        async with TopicAdmin(self._settings) as topics:
            await topics.check()
        stack.push_async_callback(self._store.close)
        await self._keeper.start()
        stack.push_async_callback(self._keeper.stop)
        await self._pulse.start()
        stack.push_async_callback(self._pulse.stop)
        await self._lease.start()
        stack.push_async_callback(self._lease.stop)
        stack.push_async_callback(self._sandbox.close)
        await self._sandbox.start(owner=self.name, scope=self._lease.scope, warm=self._images)
        reaper = OrphanReaper(self._sandbox, self._lease)
        await reaper.start()
        stack.push_async_callback(reaper.stop)
        await self._publisher.start()
        stack.push_async_callback(self._publisher.stop)
        await self._health.start()
        stack.push_async_callback(self._health.stop)
        places = [asyncio.create_task(self._pipeline.run_place()) for _ in range(self._settings.concurrency)]
        stack.push_async_callback(_cancel_all, places)
        stack.push_async_callback(self._stop_app)
        await self._app.start()
        log.info("worker_started", worker=self.name, places=len(places))

    async def _watch(self) -> None:
        while not self._stop.is_set():
            if self._app.crashed or self._app.should_stop:
                raise EvalxError(f"the Kafka consumer failed: {self._app.crash_reason!r}")
            if self._pipeline.failure is not None:
                raise EvalxError(f"a record could not be finished: {self._pipeline.failure!r}")
            for lane, count in self._lanes.waiting().items():
                LANE_WAITING.labels(lane).set(count)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), WATCH_INTERVAL_S)

    async def _drain(self) -> None:
        self._pipeline.stop_taking()
        finished = await self._pipeline.wait_idle(self._settings.drain_timeout_s)
        await self._app.consumer.commit()
        log.info("worker_drained", everything_finished=finished, given_back=self._sequencer.unfinished)

    async def _stop_app(self) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._app.stop(), FAUST_STOP_TIMEOUT_S)

    def _lane_of(self, partition: Any) -> str:
        """A partition that was added while the worker runs has no lane yet; the lowest one judges it all the same."""
        return self._settings.lane_of.get(partition.partition, self._settings.lanes[-1].name)

    async def _is_ready(self) -> dict[str, bool]:
        return {"kafka": bool(self._flow.assigned), "redis": await self._store.ping(), "docker": self._sandbox.alive}


async def _cancel_all(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
