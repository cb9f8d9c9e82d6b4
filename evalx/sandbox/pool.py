"""The pool of warm containers, by image.

A container is taken for one job after another and goes back only when its runner has reset and verified it. Whatever
else happens to it (a fault, a dirty reset, retirement after so many jobs) ends in its removal; a fresh one replaces it
in the background. One cap bounds all images together: when it is reached, an image that needs a container takes the
place of the container that has been idle longest, whichever image that one is of.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Iterable
from http import HTTPStatus
from typing import Any

import aiodocker
import aiohttp
import msgspec
import structlog

from evalx.errors import ConfigurationError, DockerUnavailableError, SandboxFaultError
from evalx.metrics import POOL_CONTAINERS, POOL_DESTROYED, POOL_STARTS
from evalx.sandbox.container import PING_INTERVAL_S, Container, ContainerSpec

log = structlog.get_logger(__name__)

#: Seconds for one call to dockerd. aiodocker has no limit of its own; a daemon that needs longer is in trouble.
DOCKER_CALL_TIMEOUT_S = 30.0
#: Seconds for a connect to the daemon's socket.
DOCKER_CONNECT_TIMEOUT_S = 5.0
#: Seconds before the daemon is asked again after it refused a container, so that it is not hammered.
START_RETRY_PAUSE_S = 0.5


def open_docker(url: str | None) -> aiodocker.Docker:
    """Connect to the daemon with limits that aiodocker does not set by itself.

    Every attached container holds a connection for its whole life, so the number of connections must not be bounded.
    """
    address = url or "unix:///var/run/docker.sock"
    if address.startswith("unix://"):
        connector: aiohttp.BaseConnector = aiohttp.UnixConnector(path=address.removeprefix("unix://"), limit=0)
        address = "unix://localhost"
    else:
        connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=DOCKER_CALL_TIMEOUT_S, sock_connect=DOCKER_CONNECT_TIMEOUT_S)
    return aiodocker.Docker(url=address, connector=connector, timeout=timeout)


async def close_docker(docker: aiodocker.Docker) -> None:
    """Disconnect; aiodocker leaves a connector that it was given to whoever gave it."""
    await docker.close()
    if docker.connector is not None:
        await docker.connector.close()


class PoolLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How large the pool may be, and how long a container serves."""

    max_containers: int
    warm: int
    max_jobs_per_container: int


class _Idle(msgspec.Struct, frozen=True):
    container: Container
    since: float


class Pool:
    """Hands out containers. ``start`` before use, ``close`` removes every container."""

    def __init__(self, docker: aiodocker.Docker, specs: dict[str, ContainerSpec], limits: PoolLimits) -> None:
        self._docker = docker
        self._specs = specs
        self._limits = limits
        self._idle: dict[str, deque[_Idle]] = {image: deque() for image in specs}
        self._live = 0
        self._changed = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False
        #: What keeps idle containers alive; it ends only when the pool is closed.
        self.keeper: asyncio.Task[None] | None = None

    async def start(self, images: Iterable[str]) -> None:
        """Warm one container for each image, as far as the pool's size goes, and keep idle ones alive."""
        self.keeper = self._spawn(self._keep_alive())
        warm = list(images)[: min(self._limits.warm, self._limits.max_containers)]
        await asyncio.gather(*(self._warm(image) for image in warm))

    @contextlib.asynccontextmanager
    async def acquire(self, image: str, ids: tuple[int, ...] = ()) -> AsyncIterator[Container]:
        """Hold a container of the image; it is used again only if its last job ended in a verified reset.

        One that keeps the files of these ids is preferred, but not waited for.

        Raises:
            DockerUnavailableError: the daemon cannot start one.
            SandboxFaultError: a container started, but its runner did not.
        """
        container = await self._take(image, ids)
        clean = False
        try:
            yield container
            clean = container.reusable
        finally:
            await asyncio.shield(self._give_back(container, clean))

    async def close(self) -> None:
        """Remove every idle container; one that is in use goes when it is given back."""
        self._closing = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        idle = [entry.container for queue in self._idle.values() for entry in queue]
        for queue in self._idle.values():
            queue.clear()
        await asyncio.gather(*(self._destroy(container, "shutdown") for container in idle))

    @property
    def size(self) -> int:
        """Containers that exist or are being started."""
        return self._live

    async def _take(self, image: str, ids: tuple[int, ...] = ()) -> Container:
        async with self._changed:
            while not (container := self._pop_idle(image, ids)) and not await self._make_room():
                await self._changed.wait()
        if container is not None:
            return container
        try:
            return await self._start(image, reserved=True)
        except DockerUnavailableError:
            await asyncio.sleep(START_RETRY_PAUSE_S)
            raise

    async def _warm(self, image: str) -> None:
        await self._put_idle(await self._start(image))

    def _pop_idle(self, image: str, ids: tuple[int, ...]) -> Container | None:
        queue = self._idle[image]
        if not queue:
            return None
        # The one used last has the warmest caches.
        chosen = next((entry for entry in reversed(queue) if entry.container.holds(ids)), queue[-1])
        queue.remove(chosen)
        return chosen.container

    async def _make_room(self) -> bool:
        """Reserve a place for a new container, at the cost of the one that is idle longest when the pool is full."""
        if self._live >= self._limits.max_containers:
            oldest = min((queue[0] for queue in self._idle.values() if queue), key=lambda e: e.since, default=None)
            if oldest is None:
                return False
            self._idle[oldest.container.spec.image].popleft()
            self._spawn(self._destroy(oldest.container, "evicted", replaced=True))
        else:
            self._live += 1
            POOL_CONTAINERS.set(self._live)
        return True

    async def _start(self, image: str, *, reserved: bool = False) -> Container:
        if not reserved:
            self._live += 1
        try:
            container = await Container.start(self._docker, self._specs[image])
        except BaseException:
            self._live -= 1
            await self._notify()
            raise
        POOL_STARTS.labels(image).inc()
        POOL_CONTAINERS.set(self._live)
        return container

    async def _give_back(self, container: Container, clean: bool) -> None:
        if clean and not self._closing and container.jobs_done < self._limits.max_jobs_per_container:
            await self._put_idle(container)
        else:
            await self._destroy(container, "retired" if clean else "dirty")

    async def _put_idle(self, container: Container) -> None:
        self._idle[container.spec.image].append(_Idle(container, time.monotonic()))
        await self._notify()

    async def _destroy(self, container: Container, reason: str, *, replaced: bool = False) -> None:
        await container.close()
        POOL_DESTROYED.labels(container.spec.image, reason).inc()
        if not replaced:
            self._live -= 1
            POOL_CONTAINERS.set(self._live)
            await self._notify()

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _keep_alive(self) -> None:
        """Ping what is idle, so that dead containers are found before a submission finds them."""
        while True:
            await asyncio.sleep(PING_INTERVAL_S)
            for image in self._idle:
                await asyncio.gather(*(self._ping(entry) for entry in self._take_due(image)))

    def _take_due(self, image: str) -> list[_Idle]:
        due = list(self._idle[image])
        self._idle[image].clear()
        return due

    async def _ping(self, entry: _Idle) -> None:
        try:
            await entry.container.ping()
        except SandboxFaultError as error:
            log.warning("container_lost", container=entry.container.id, error=str(error))
            await self._destroy(entry.container, "dead")
        except asyncio.CancelledError:
            # ``close`` looks for what it must remove among the idle ones.
            self._idle[entry.container.spec.image].append(entry)
            raise
        else:
            self._idle[entry.container.spec.image].append(entry)
            await self._notify()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


async def toolchain_digest(docker: aiodocker.Docker, image: str) -> str:
    """The content digest of an image: what a result was compiled and run with.

    Raises:
        ConfigurationError: the image is not on this machine.
        DockerUnavailableError: the daemon does not answer.
    """
    try:
        return str((await docker.images.inspect(image))["Id"])
    except (aiodocker.DockerError, aiohttp.ClientError, OSError, TimeoutError) as error:
        # aiodocker reports a socket that is not there as an error of the daemon, too.
        if isinstance(error, aiodocker.DockerError) and error.status == HTTPStatus.NOT_FOUND:
            raise ConfigurationError(
                f"image {image} is not there: build the images with docker/build-images.sh"
            ) from error
        raise DockerUnavailableError(message=f"the Docker daemon does not answer: {error!r}") from error
