"""One sandbox container: its creation, its channel, and one job at a time over it.

A container is created hardened and started once; after that only frames travel (see ``protocol``), over a socket where
that is possible and else over Docker's attach stream (see ``sockets``). Its *lease* is that channel: when the worker
dies, the runner reads end-of-file, kills everything and exits, and ``AutoRemove`` takes the container away. A worker
that hangs stops pinging, with the same end.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Protocol

import aiodocker
import aiohttp
import msgspec
import structlog

from evalx.errors import DockerUnavailableError, SandboxFaultError
from evalx.metrics import POOL_CHANNELS
from evalx.sandbox import protocol
from evalx.sandbox.channel import AttachChannel, SocketChannel
from evalx.sandbox.kept import Held
from evalx.sandbox.protocol import (
    CollectFailed,
    Done,
    Event,
    Feature,
    File,
    Hello,
    Job,
    Mode,
    Moved,
    Needed,
    Pong,
    Running,
    RunResult,
)
from evalx.sandbox.sockets import Doorway
from evalx.sandbox.spec import UID_BLOCKS, UID_FIRST_BLOCK, UID_STRIDE, ContainerSpec

log = structlog.get_logger(__name__)

#: Seconds for dockerd to create and start a container and for its runner to say HELLO. Usually 0.3 s; a cold disk or a
#: start storm takes a few seconds, and more than this means that the daemon is in trouble.
START_TIMEOUT_S = 20.0
#: Seconds between pings, of an idle container and during a job, a third of the dead-man time so that two may be late.
PING_INTERVAL_S = 10.0
#: Seconds that a job may take beyond its own wall limits: transfer, reset and verification. Usually a few ms.
JOB_GRACE_S = 10.0
#: Seconds for dockerd to kill and remove a container.
KILL_TIMEOUT_S = 5.0


class Collected(msgspec.Struct, frozen=True):
    """The files that a job brought out, or why they could not be brought out safely."""

    files: tuple[File, ...]
    failure: str | None


class Steering(Protocol):
    """Who may bound, while a job is on its way, how many of its runs are under way at once (``Container.allow``)."""

    def begun(self) -> None:
        """The container has the job."""

    def running(self, count: int) -> None:
        """No more than the bound are under way now, but so many."""


class Container:
    """A started container with its channel. Use ``Container.start``; after a fault only ``close`` is allowed."""

    def __init__(self, spec: ContainerSpec, handle: Any, channel: AttachChannel | SocketChannel) -> None:
        self.spec = spec
        self.jobs_done = 0
        #: Whether the last job ended in a verified reset.
        self.reusable = True
        self._held = Held()
        self._features = Feature(0)
        #: Of the last job.
        self._clock: _JobClock | None = None
        self._steering: Steering | None = None
        self._handle = handle
        self._channel = channel
        self._reader = protocol.FrameReader()
        self._closed = False

    @classmethod
    async def start(cls, docker: aiodocker.Docker, spec: ContainerSpec) -> Container:
        """Create, attach, start, and wait for the runner's HELLO.

        Raises:
            DockerUnavailableError: the daemon does not answer or refuses.
            SandboxFaultError: the container started, but its runner did not.
        """
        uid_base = (UID_FIRST_BLOCK + secrets.randbelow(UID_BLOCKS - UID_FIRST_BLOCK)) * UID_STRIDE
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                return await cls._start(docker, spec, uid_base)
        except (aiodocker.DockerError, aiohttp.ClientError, OSError, TimeoutError) as error:
            raise DockerUnavailableError(message=f"cannot start a container of {spec.image}: {error!r}") from error

    @classmethod
    async def _start(cls, docker: aiodocker.Docker, spec: ContainerSpec, uid_base: int) -> Container:
        sockets = spec.sockets
        if sockets is None or (doorway := sockets.doorway()) is None:
            return await cls._start_with(docker, spec, uid_base, None)
        try:
            with contextlib.closing(doorway):
                container = await cls._start_with(docker, spec, uid_base, doorway)
                sockets.proven = True
                return container
        except aiodocker.DockerError as error:
            if sockets.proven:
                raise
            refusal = error
        container = await cls._start_with(docker, spec, uid_base, None)
        sockets.give_up(f"the daemon does not see the folder of sockets: {refusal.message}")
        return container

    @classmethod
    async def _start_with(
        cls, docker: aiodocker.Docker, spec: ContainerSpec, uid_base: int, doorway: Doorway | None
    ) -> Container:
        handle = await _create(docker, spec.create_options(uid_base, () if doorway is None else (doorway.mount,)))
        stream = handle.attach(stdin=True, stdout=True, stderr=True)
        container = cls(spec, handle, AttachChannel(stream, str(handle.id)[:12]))
        try:
            await stream.__aenter__()
            await handle.start()
            hello = await container._expect_hello()
            container._features = Feature(hello.features)
            if doorway is not None:
                await container._move(hello, doorway)
            POOL_CHANNELS.labels(container._channel.kind).inc()
            await container._warm(hello)
        except BaseException:
            await container.close()
            raise
        return container

    @property
    def id(self) -> str:
        """Docker's id of the container, short."""
        return str(self._handle.id)[:12]

    def holds(self, ids: tuple[int, ...]) -> bool:
        """Whether a job with these files (``kept.Names``) would find all that is to be kept."""
        return self._held.holds_all(ids)

    @property
    def is_connected(self) -> bool:
        """Whether the channel is whole, as far as is known here: it ends with the container. Asks nobody."""
        return not self._closed and self._channel.is_whole

    @property
    def channel_kind(self) -> str:
        """What frames travel over: ``socket`` or ``attach``."""
        return self._channel.kind

    async def execute(
        self,
        job: Job,
        on_result: Callable[[RunResult], None],
        ids: tuple[int, ...] = (),
        steering: Steering | None = None,
    ) -> Collected:
        """Run one job and return what was collected; ``reusable`` says afterwards whether there may be another one.

        Args:
            job: what to run.
            on_result: called for each run as it ends.
            ids: those of its files, see ``holds``.
            steering: who may call ``allow`` meanwhile; is told of nothing when the runner cannot answer that.

        Raises:
            SandboxFaultError: the container died, hung or broke the protocol.
        """
        job_id = self.jobs_done & 0xFFFF_FFFF
        self.reusable = False
        self._clock = clock = _JobClock(self._longest(job, bounded=steering is not None))
        self._steering = steering
        try:
            async with clock.timeout:
                kept = ids and Feature.KEPT_FILES in self._features
                frames = protocol.encode_job(job_id, job, self._file_frames(job, ids) if kept else None)
                await self._write(b"".join(frames))
                if steering is not None and Feature.ANSWERS_PARALLEL in self._features:
                    steering.begun()
                wanted = dict(zip(ids, job.files, strict=False))
                collected, done = await self._collect_while_pinging(job, on_result, wanted)
        except TimeoutError as error:
            raise SandboxFaultError(message=f"container {self.id} did not finish a job within its limits") from error
        self.jobs_done += 1
        self.reusable = done.clean
        if not done.clean:
            log.info("container_dirty", container=self.id, reason=done.reason)
        return collected

    def _file_frames(self, job: Job, ids: tuple[int, ...]) -> list[bytes]:
        chunks: list[bytes] = []
        for file_id, file in zip(ids, job.files, strict=True):
            if file_id in self._held:
                self._held.use(file_id)
                chunks.append(protocol.encode_kept(file_id, file.name))
            elif file_id != 0:
                chunks += self._keep(file_id, file)
            else:
                chunks += protocol.encode_file(file)
        return chunks

    def _keep(self, file_id: int, file: File) -> list[bytes]:
        self._held.add(file_id, len(file.data))
        return protocol.encode_keep(file_id, file)

    async def _send_needed(self, needed: Needed, wanted: dict[int, File]) -> None:
        file = wanted.get(needed.file_id)
        if file is None:
            raise SandboxFaultError(message=f"container {self.id} asks for file {needed.file_id} of another job")
        log.info("kept_file_missing", container=self.id, file=file.name)
        await self._write(b"".join(self._keep(needed.file_id, file)))

    async def cancel(self, from_index: int) -> None:
        """Stop the runs of the current job from this index on."""
        await self._write(protocol.encode_cancel(self.jobs_done & 0xFFFF_FFFF, from_index))

    async def allow(self, parallel: int) -> None:
        """From now on no more runs of the current job than this are begun at once; with 0 its time stands still."""
        if parallel > 0 and self._clock is not None:
            self._clock.go()
        await self._write(protocol.encode_parallel(self.jobs_done & 0xFFFF_FFFF, parallel))

    async def ping(self) -> None:
        """Keep the dead-man timer from firing, and make sure that the runner answers.

        Raises:
            SandboxFaultError: it does not.
        """
        try:
            async with asyncio.timeout(PING_INTERVAL_S):
                await self._write(protocol.encode_ping())
                await self._next_events()
        except TimeoutError as error:
            raise SandboxFaultError(message=f"container {self.id} does not answer") from error

    async def close(self) -> None:
        """Kill the container; it removes itself. Never raises: what is gone already is fine."""
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(Exception):
            await self._channel.close()
        try:
            async with asyncio.timeout(KILL_TIMEOUT_S):
                await self._remove()
        except (aiodocker.DockerError, aiohttp.ClientError, OSError, TimeoutError) as error:
            log.warning("container_not_removed", container=self.id, error=repr(error))

    async def _remove(self) -> None:
        """Return when the container is gone, whoever removes it."""
        try:
            await self._handle.delete(force=True)
        except aiodocker.DockerError as error:
            if error.status == HTTPStatus.CONFLICT:
                with contextlib.suppress(aiodocker.DockerError):  # it is gone already
                    await self._handle.wait(condition="removed")
            elif error.status != HTTPStatus.NOT_FOUND:
                raise

    async def _collect_while_pinging(
        self, job: Job, on_result: Callable[[RunResult], None], wanted: dict[int, File]
    ) -> tuple[Collected, Done]:
        """A job may take longer than the dead-man time, and the runner must not take that for a dead worker."""
        pings: list[asyncio.Task[None]] = []
        # A timer until the first one is due: most jobs end long before, and a task for each is work for nothing.
        first = asyncio.get_running_loop().call_later(
            PING_INTERVAL_S, lambda: pings.append(asyncio.create_task(self._keep_pinging()))
        )
        try:
            return await self._collect(job, on_result, wanted)
        finally:
            first.cancel()
            for task in pings:
                task.cancel()
            await asyncio.gather(*pings, return_exceptions=True)

    async def _keep_pinging(self) -> None:
        while True:
            await self._write(protocol.encode_ping())
            await asyncio.sleep(PING_INTERVAL_S)

    async def _collect(
        self, job: Job, on_result: Callable[[RunResult], None], wanted: dict[int, File]
    ) -> tuple[Collected, Done]:
        files: list[File] = []
        failure: str | None = None
        results = 0
        while True:
            for event in await self._next_events():
                if isinstance(event, RunResult):
                    results += 1
                    on_result(event)
                elif isinstance(event, File):
                    files.append(event)
                elif isinstance(event, Needed):
                    await self._send_needed(event, wanted)
                elif isinstance(event, Running):
                    self._is_running(event.count)
                elif isinstance(event, CollectFailed):
                    failure = event.reason
                elif isinstance(event, Done):
                    if results != len(job.inputs):
                        raise SandboxFaultError(message=f"{results} results for {len(job.inputs)} runs")
                    return Collected(tuple(files) if failure is None else (), failure), event

    def _is_running(self, count: int) -> None:
        if count == 0 and self._clock is not None:
            # None is begun until ``allow`` says so.
            self._clock.stop()
        if self._steering is not None:
            self._steering.running(count)

    async def _expect_hello(self) -> Hello:
        for event in await self._next_events():
            if isinstance(event, Hello):
                if event.version != protocol.VERSION:
                    raise SandboxFaultError(
                        message=f"image {self.spec.image} speaks protocol {event.version}, this worker speaks "
                        f"{protocol.VERSION}: rebuild the images with docker/build-images.sh"
                    )
                return event
        raise SandboxFaultError(message=f"image {self.spec.image} did not greet")

    async def _move(self, hello: Hello, doorway: Doorway) -> None:
        """From Docker's stream to a socket, if the runner can."""
        assert self.spec.sockets is not None
        if not hello.features & Feature.MOVE:
            self.spec.sockets.tell(f"image {self.spec.image} is older and knows no sockets")
            return
        arrival = asyncio.create_task(doorway.receive(self.id))
        try:
            await self._write(protocol.encode_move(doorway.token))
            if reason := (await self._moved()).reason:
                self.spec.sockets.tell(f"a sandbox does not reach the worker's socket: {reason}")
                return
            stream, channel = self._channel, await arrival
            if channel is None:
                raise SandboxFaultError(message=f"container {self.id} was let in elsewhere")
            self._channel = channel
            await stream.close()
        finally:
            await _settle(arrival)

    async def _moved(self) -> Moved:
        for event in await self._next_events():
            if isinstance(event, Moved):
                return event
        raise SandboxFaultError(message=f"container {self.id} did not answer whether it comes to its socket")

    async def _warm(self, hello: Hello) -> None:
        """Start the interpreter and wait until it is ready: an idle container has all its start behind it."""
        if self.spec.interpreter is None or not hello.features & Feature.WARM_INTERPRETER:
            return
        step = self.spec.interpreter
        await self._write(protocol.encode_warm(step.argv, step.env) + protocol.encode_ping())
        while not any(isinstance(event, Pong) for event in await self._next_events()):
            pass

    async def _next_events(self) -> list[Event]:
        """Read until at least one whole frame has arrived."""
        while True:
            if events := list(self._reader.feed(await self._channel.read())):
                return events

    async def _write(self, data: bytes) -> None:
        await self._channel.write(data)

    @staticmethod
    def _longest(job: Job, *, bounded: bool) -> float:
        """Seconds that a correct runner can need: the runs one after another in the worst case, and the grace."""
        rounds = len(job.inputs) if bounded else -(-len(job.inputs) // max(1, job.parallel))
        # Runs of a fork server or an interpreter that turns out to be unusable are done once more.
        rounds *= 1 if job.mode is Mode.EXEC else 2
        return rounds * job.bounds.wall_time_ms / 1000 + JOB_GRACE_S


class _JobClock:
    """The time that a job may take. It stands still while none of its runs may be begun."""

    def __init__(self, seconds: float) -> None:
        self._left_s = seconds
        self._stands = False
        self.timeout = asyncio.timeout(seconds)

    def stop(self) -> None:
        ends_at = self.timeout.when()
        if ends_at is not None and not self._stands:
            self._stands = True
            self._left_s = ends_at - asyncio.get_running_loop().time()
            self.timeout.reschedule(None)

    def go(self) -> None:
        if self._stands:
            self._stands = False
            self.timeout.reschedule(asyncio.get_running_loop().time() + self._left_s)


async def _settle(arrival: asyncio.Task[SocketChannel | None]) -> None:
    """End the task; a channel that nobody has taken goes with the container, whose end of it is closed."""
    arrival.cancel()
    await asyncio.gather(arrival, return_exceptions=True)


async def _create(docker: aiodocker.Docker, options: dict[str, Any]) -> Any:
    """Create a container. A daemon that was asked goes on when we are cancelled, so what it made must be removed."""
    creating = asyncio.ensure_future(docker.containers.create(options))
    try:
        return await asyncio.shield(creating)
    except asyncio.CancelledError:
        with contextlib.suppress(aiodocker.DockerError, aiohttp.ClientError, OSError, TimeoutError):
            async with asyncio.timeout(KILL_TIMEOUT_S):
                await (await creating).delete(force=True)
        raise
