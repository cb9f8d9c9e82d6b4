"""The elastic pool of warm containers, by image.

Theory of operation
===================
*Taking.* A container is taken for one job after another and goes back only when its runner has reset and verified it.
With an idle container there is nothing to wait for, not even for the event loop. Else whoever asks waits for the next
one that comes free; if that takes longer than ``PATIENCE_S``, or there is none at all, one is started for it. Whoever
waits holds a CPU slot, so these starts take nothing from running tests.

*Keeping.* How many containers each image should have is decided in ``elastic``. A task of the pool's own looks once a
second, and in between when something was lost: it starts what is lacking, one at a time and with a pause as long as
the start, so at most half a CPU is spent on it; and it removes what is too much. Whatever ends a container (a fault, a
dirty reset, a death, retirement after so many jobs) ends in its removal, in the background, and so in its replacement.

*Bounds.* A container has a place from before it is created until it is removed. Places are bounded by the worker's cap
and by what the quota allows it of the containers of all workers (see ``Quota``). When all are taken, another image
gives up an idle container; it is removed before the new one is created.

*Trouble.* A daemon that fails opens a breaker: nobody starts anything but one try now and then, those with a container
go on, those without are held back before they take a CPU slot (``usable``). Containers of one image that come up dead
open a breaker of that image only, and the pool says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Coroutine, Iterable
from typing import Any

import aiodocker
import msgspec
import structlog

from evalx.errors import DockerUnavailableError, JudgeFaultError, PoolExhaustedError, SandboxFaultError
from evalx.metrics import (
    POOL_ACQUIRE_SECONDS,
    POOL_BREAKER_OPEN,
    POOL_CONTAINERS,
    POOL_DESTROYED,
    POOL_START_FAILURES,
    POOL_START_SECONDS,
    POOL_STARTS,
    POOL_UTILISATION,
)
from evalx.sandbox.breaker import Breaker
from evalx.sandbox.container import PING_INTERVAL_S, START_TIMEOUT_S, Container
from evalx.sandbox.elastic import Bounds, Elastic
from evalx.sandbox.places import QUOTA_INTERVAL_S, Places, Quota, Signal, Unshared
from evalx.sandbox.shelf import Idle, Shelf
from evalx.sandbox.spec import ContainerSpec

log = structlog.get_logger(__name__)

#: Seconds that a job waits for a busy container before one is started for it: a fifth of the CPU time of a start. Most
#: batches are over by then, and the wait adds little to that for a start.
PATIENCE_S = 0.02
#: Seconds that a job may wait for a container: a start that takes as long as it may. Longer means that all places are
#: taken, here or by other workers.
ACQUIRE_TIMEOUT_S = START_TIMEOUT_S
#: Seconds for which jobs are held back while the daemon is away. With the attempts of the engine this bridges more than
#: a minute, and the restart of a daemon takes seconds.
DAEMON_PATIENCE_S = 20.0
#: Seconds until the daemon is asked again after a failure: doubled from the first to the second.
DAEMON_PAUSE_FIRST_S = 0.5
DAEMON_PAUSE_LONGEST_S = 5.0
#: Seconds between looks at what is used.
TICK_S = 1.0


class PoolLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How large the pool may be, and how long a container serves."""

    cap: int
    max_jobs_per_container: int
    bounds: Bounds


class PoolState(msgspec.Struct, frozen=True, kw_only=True):
    """What the pool has. ``troubles`` are for people."""

    idle: int = 0
    busy: int = 0
    starting: int = 0
    #: Idle ones that are being asked whether they still answer.
    checking: int = 0
    troubles: tuple[str, ...] = ()

    def __str__(self) -> str:
        counts = f"{self.idle} idle, {self.busy} busy, {self.starting} starting"
        return "; ".join((counts, *self.troubles))


class Pool:
    """Hands out containers. ``start`` before use, ``close`` removes every container."""

    def __init__(
        self,
        docker: aiodocker.Docker,
        specs: dict[str, ContainerSpec],
        limits: PoolLimits,
        quota: Quota | None = None,
    ) -> None:
        self._docker = docker
        self._specs = specs
        self._limits = limits
        self._places = Places(limits.cap, quota or Unshared())
        self._shelves = {image: Shelf(image) for image in specs}
        self._elastic = Elastic(specs, limits.bounds, limits.cap)
        self._daemon = Breaker(DAEMON_PAUSE_FIRST_S, DAEMON_PAUSE_LONGEST_S)
        self._changed = Signal()
        self._lost = Signal()
        self._refilling: asyncio.Task[None] | None = None
        self._refill_at = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self._removals: set[asyncio.Task[None]] = set()
        self._closing = False
        #: What keeps the pool as it should be; it ends only when the pool is closed.
        self.keeper: asyncio.Task[None] | None = None

    async def start(self, images: Iterable[str]) -> None:
        """Warm one container for each image named, as far as the floor goes, and keep the pool from now on.

        Raises:
            JudgeFaultError: none of them could be started. Those of some images only are tried again and again.
        """
        await self._renew_and_obey(self._limits.bounds.floor)
        self._elastic.warm(images)
        gate = asyncio.Semaphore(self._limits.bounds.useful)
        wanted = [shelf for shelf in self._shelves.values() for _ in range(self._elastic.target(shelf.image))]
        begun = [self._spawn(self._warm(shelf, gate)) for shelf in wanted if self._reserve_now(shelf)]
        self.keeper = self._spawn(self._tend())
        faults = [fault for fault in await asyncio.gather(*begun, return_exceptions=True) if fault is not None]
        if faults and len(faults) == len(begun):
            raise faults[0]

    @contextlib.asynccontextmanager
    async def acquire(self, image: str, ids: tuple[int, ...] = ()) -> AsyncIterator[Container]:
        """Hold a container of the image; it is used again only if its last job ended in a verified reset.

        Args:
            image: the full name.
            ids: of files; a container that keeps them is preferred, but not waited for.

        Raises:
            DockerUnavailableError: the daemon cannot start one.
            SandboxFaultError: a container started, but its runner did not.
            PoolExhaustedError: all places are taken, and none came free in time.
        """
        container = await self._take(image, ids)
        clean = False
        try:
            yield container
            clean = container.reusable
        finally:
            removal = self._give_back(container, clean)
            if removal is not None and self._closing:
                await asyncio.shield(removal)

    def has_idle(self, image: str) -> bool:
        """Whether ``acquire`` would not have to wait now."""
        return bool(self._shelves[image].idle)

    async def usable(self, image: str) -> None:
        """Return at once, unless the daemon is away and the image has no container; then wait until it is back.

        Raises:
            DockerUnavailableError: it did not come back in time.
        """
        shelf = self._shelves[image]
        deadline = time.monotonic() + DAEMON_PATIENCE_S
        while not shelf.live and not shelf.starting and (pause := self._daemon.waits(now := time.monotonic())) > 0:
            if now >= deadline:
                raise DockerUnavailableError(message=self._daemon.reason)
            await self._changed.wait(min(pause, deadline - now))

    async def close(self) -> None:
        """Remove every idle container; one that is in use goes when it is given back."""
        self._closing = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for shelf in self._shelves.values():
            while (waiter := shelf.next_waiter()) is not None:
                waiter.set_exception(PoolExhaustedError(message="the pool is being closed"))
            for entry in (*shelf.idle, *shelf.checking):
                self._discard(entry.container, "shutdown")
            shelf.idle.clear()
            shelf.checking.clear()
        while self._removals:
            await asyncio.gather(*self._removals)
        await self._places.release()

    @property
    def size(self) -> int:
        """Containers that exist or are being started or removed."""
        return self._places.taken

    @property
    def state(self) -> PoolState:
        """What there is, and what is wrong."""
        shelves = self._shelves.values()
        troubles = [] if self._daemon.is_closed else [f"the daemon is in trouble: {self._daemon.reason}"]
        troubles += [
            f"{shelf.image} is crash-looping ({shelf.breaker.failures} starts failed): {shelf.breaker.reason}"
            for shelf in shelves
            if shelf.is_crash_looping
        ]
        if self._places.is_short:
            troubles.append(f"only {self._places.allowance} containers are allowed here, other workers have the rest")
        return PoolState(
            idle=sum(len(shelf.idle) for shelf in shelves),
            busy=sum(shelf.busy for shelf in shelves),
            starting=sum(shelf.starting for shelf in shelves),
            checking=sum(len(shelf.checking) for shelf in shelves),
            troubles=tuple(troubles),
        )

    # --- taking and giving back

    async def _take(self, image: str, ids: tuple[int, ...] = ()) -> Container:
        began = time.monotonic()
        shelf = self._shelves[image]
        self._elastic.used(image, began)
        while (container := shelf.pop(ids)) is not None:
            if container.is_connected:
                shelf.occupy(began)
                POOL_ACQUIRE_SECONDS.labels("idle").observe(time.monotonic() - began)
                return container
            self._discard(container, "dead")
        container = await self._wait(shelf)
        POOL_ACQUIRE_SECONDS.labels("waited").observe(time.monotonic() - began)
        return container

    async def _wait(self, shelf: Shelf) -> Container:
        future: asyncio.Future[Container] = asyncio.get_running_loop().create_future()
        shelf.waiting.append(future)
        self._spawn(self._start_unless_freed(shelf, future))
        try:
            async with asyncio.timeout(ACQUIRE_TIMEOUT_S):
                return await future
        except BaseException as error:
            if future.done() and not future.cancelled() and future.exception() is None:
                # It came as we gave up.
                self._give_back(future.result(), clean=True)
            future.cancel()
            if isinstance(error, TimeoutError):
                raise PoolExhaustedError(message=f"no container of {shelf.image} came free: {self.state}") from error
            raise
        finally:
            if future in shelf.waiting:
                shelf.waiting.remove(future)

    async def _start_unless_freed(self, shelf: Shelf, future: asyncio.Future[Container]) -> None:
        """Start a container for who waits, if none comes free or is on its way to them."""
        if shelf.busy or shelf.checking:
            await asyncio.wait({future}, timeout=PATIENCE_S)
        while not future.done() and not self._closing:
            if shelf.starting >= len(shelf.waiting) or not self._admitted(shelf, future):
                await self._changed.wait(TICK_S)
            elif await self._reserve(shelf, evict=True):
                self._elastic.needed(shelf.image, shelf.live + shelf.starting)
                await self._start_for(shelf, future)
            else:
                await self._changed.wait(TICK_S)

    def _admitted(self, shelf: Shelf, future: asyncio.Future[Container]) -> bool:
        """Whether the breakers let a start through; who would have nothing to wait for is told so."""
        now = time.monotonic()
        if self._daemon.admits(now) and shelf.breaker.admits(now):
            return True
        if not shelf.live and not shelf.starting:
            future.set_exception(self._refusal(shelf))
        return False

    def _refusal(self, shelf: Shelf) -> JudgeFaultError:
        if not shelf.breaker.is_closed:
            return SandboxFaultError(message=f"containers of {shelf.image} do not come up: {shelf.breaker.reason}")
        return DockerUnavailableError(message=self._daemon.reason)

    async def _start_for(self, shelf: Shelf, future: asyncio.Future[Container]) -> None:
        try:
            container = await self._start(shelf)
        except JudgeFaultError as fault:
            if not future.done():
                future.set_exception(fault)
            return
        self._put_idle(container)

    def _give_back(self, container: Container, clean: bool) -> asyncio.Task[None] | None:
        shelf = self._shelves[container.spec.image]
        shelf.free(time.monotonic(), clean=clean)
        reason = self._reason_to_go(container, clean)
        if reason is not None:
            return self._discard(container, reason)
        self._put_idle(container)
        return None

    def _reason_to_go(self, container: Container, clean: bool) -> str | None:
        if self._closing:
            return "shutdown"
        if not clean:
            return "dirty"
        if container.jobs_done >= self._limits.max_jobs_per_container:
            return "retired"
        return "surplus" if self._places.is_overdrawn else None

    def _put_idle(self, container: Container) -> None:
        shelf = self._shelves[container.spec.image]
        if self._closing:
            self._discard(container, "shutdown")
        elif (waiter := shelf.next_waiter()) is not None:
            shelf.occupy(time.monotonic())
            waiter.set_result(container)
        else:
            shelf.idle.append(Idle(container, time.monotonic()))
        self._changed.fire()

    # --- places, starts and removals

    def _reserve_now(self, shelf: Shelf) -> bool:
        return self._reserved(shelf) if not self._closing and self._places.take() else False

    async def _reserve(self, shelf: Shelf, *, evict: bool) -> bool:
        """Reserve a place for a new container, if need be that of an idle one of another image."""
        if self._reserve_now(shelf):
            return True
        if self._closing:
            return False
        if await self._places.take_more():
            return self._reserved(shelf)
        name = self._elastic.victim({one.image: one.live for one in self._shelves.values() if one.idle}, shelf.image)
        if not evict or name is None:
            return False
        self._elastic.moved(name)
        await asyncio.shield(self._discard(self._shelves[name].idle.popleft().container, "evicted"))
        return self._reserve_now(shelf)

    def _reserved(self, shelf: Shelf) -> bool:
        shelf.starting += 1
        return True

    async def _start(self, shelf: Shelf) -> Container:
        """Start a container in a place that was reserved."""
        began = time.monotonic()
        try:
            container = await Container.start(self._docker, self._specs[shelf.image])
        except BaseException as error:
            self._places.free()
            if isinstance(error, JudgeFaultError):
                self._start_failed(shelf, error, began)
            raise
        finally:
            shelf.starting -= 1
            self._changed.fire()
        self._daemon.succeeded()
        shelf.breaker.succeeded()
        POOL_STARTS.labels(shelf.image).inc()
        POOL_START_SECONDS.labels(shelf.image).observe(time.monotonic() - began)
        return container

    def _start_failed(self, shelf: Shelf, fault: JudgeFaultError, began: float) -> None:
        images_own = _is_images_own(fault)
        POOL_START_FAILURES.labels(shelf.image, "image" if images_own else "daemon").inc()
        breaker = shelf.breaker if images_own else self._daemon
        was_looping = shelf.is_crash_looping
        breaker.failed(began, time.monotonic(), fault.message)
        log.warning("container_not_started", image=shelf.image, failures=breaker.failures, error=fault.message)
        if shelf.is_crash_looping and not was_looping:
            log.error("image_crash_looping", image=shelf.image, error=fault.message)

    def _discard(self, container: Container, reason: str) -> asyncio.Task[None]:
        """Remove a container in the background; its place is free when it is gone."""
        removal = asyncio.create_task(self._remove(container, reason))
        self._removals.add(removal)
        removal.add_done_callback(self._removals.discard)
        return removal

    async def _remove(self, container: Container, reason: str) -> None:
        await container.close()
        POOL_DESTROYED.labels(container.spec.image, reason).inc()
        self._places.free()
        self._changed.fire()
        self._lost.fire()

    # --- keeping

    async def _tend(self) -> None:
        ticked_at = renewed_at = time.monotonic()
        while True:
            await self._lost.wait(self._pause())
            now = time.monotonic()
            if now - ticked_at >= TICK_S:
                self._tick(now, now - ticked_at)
                ticked_at = now
            if now - renewed_at >= QUOTA_INTERVAL_S:
                self._spawn(self._renew_and_obey(self._elastic.total))
                renewed_at = now
            self._remove_surplus()
            self._refill(now)

    def _pause(self) -> float:
        lacks = any(self._lack(shelf) > 0 for shelf in self._shelves.values())
        return min(TICK_S, max(0.01, self._refill_at - time.monotonic())) if lacks else TICK_S

    def _tick(self, now: float, seconds: float) -> None:
        usage = {image: shelf.usage(now, seconds) for image, shelf in self._shelves.items()}
        self._elastic.tick(now, usage)
        for image, shelf in self._shelves.items():
            POOL_UTILISATION.labels(image).set(usage[image].utilisation)
            POOL_BREAKER_OPEN.labels(image).set(not shelf.breaker.is_closed)
            for state, count in shelf.counts().items():
                POOL_CONTAINERS.labels(image, state).set(count)
            self._look_at_idle(shelf, now)
        POOL_BREAKER_OPEN.labels("docker").set(not self._daemon.is_closed)

    def _lack(self, shelf: Shelf) -> int:
        return self._elastic.target(shelf.image) - shelf.live - shelf.starting

    def _remove_surplus(self) -> None:
        for shelf in self._shelves.values():
            for _ in range(min(-self._lack(shelf), len(shelf.idle))):
                self._discard(shelf.idle.popleft().container, "surplus")

    def _refill(self, now: float) -> None:
        """Begin to start one container that is lacking, unless the last one was begun a moment ago."""
        if now < self._refill_at or (self._refilling is not None and not self._refilling.done()):
            return
        lacking = sorted(self._shelves.values(), key=self._lack, reverse=True)
        for shelf in lacking:
            if self._lack(shelf) > 0 and self._daemon.waits(now) == 0 and shelf.breaker.admits(now):
                self._daemon.admits(now)
                self._refilling = self._spawn(self._start_one(shelf))
                return
        self._refill_at = now + TICK_S

    async def _start_one(self, shelf: Shelf) -> None:
        began = time.monotonic()
        try:
            if await self._reserve(shelf, evict=False):
                self._put_idle(await self._start(shelf))
        except JudgeFaultError:
            pass  # it was told, and the breaker knows
        finally:
            now = time.monotonic()
            self._refill_at = now + (now - began)
            self._lost.fire()

    async def _warm(self, shelf: Shelf, gate: asyncio.Semaphore) -> None:
        async with gate:
            self._put_idle(await self._start(shelf))

    async def _renew_and_obey(self, want: int) -> None:
        await self._places.renew(want)
        self._elastic.allow(self._places.allowance)
        self._remove_surplus()

    def _look_at_idle(self, shelf: Shelf, now: float) -> None:
        """Find dead containers before a submission does, and keep the others from thinking us dead.

        Only as many at a time as it takes to ask each once an interval: the others can be taken meanwhile.
        """
        for entry in [one for one in shelf.idle if not one.container.is_connected]:
            shelf.idle.remove(entry)
            log.warning("container_lost", container=entry.container.id, image=shelf.image)
            self._discard(entry.container, "dead")
        due = sorted((one for one in shelf.idle if now - one.heard_at >= PING_INTERVAL_S), key=lambda one: one.heard_at)
        for entry in due[: 1 + len(shelf.idle) // int(PING_INTERVAL_S / TICK_S / 2)]:
            shelf.idle.remove(entry)
            shelf.checking.append(entry)
            self._spawn(self._check(shelf, entry))

    async def _check(self, shelf: Shelf, entry: Idle) -> None:
        # Ended by ``close`` it leaves the entry where it is: there it is looked for, even if this has not begun yet.
        try:
            await entry.container.ping()
        except SandboxFaultError as error:
            shelf.checking.remove(entry)
            log.warning("container_lost", container=entry.container.id, image=shelf.image, error=str(error))
            self._discard(entry.container, "dead")
        else:
            shelf.checking.remove(entry)
            self._put_idle(entry.container)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _is_images_own(fault: JudgeFaultError) -> bool:
    """Whether a start failed because of the image, so that others may still start."""
    cause = fault.__cause__
    refused = isinstance(cause, aiodocker.DockerError) and 400 <= cause.status < 500
    return isinstance(fault, SandboxFaultError) or refused
