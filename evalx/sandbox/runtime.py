"""The sandbox as the engine sees it: run this job in a container of that image, when a CPU slot is free."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Collection, Iterable, Mapping

import aiodocker
import aiohttp
import msgspec
import orjson

from evalx.errors import DockerUnavailableError
from evalx.languages import RunStep
from evalx.sandbox.container import Collected, Container
from evalx.sandbox.daemon import close_docker, open_docker, toolchain_digest
from evalx.sandbox.elastic import Bounds
from evalx.sandbox.host import require_limits
from evalx.sandbox.kept import KEPT_BYTES, Names
from evalx.sandbox.places import Quota
from evalx.sandbox.pool import Pool, PoolLimits, PoolState
from evalx.sandbox.protocol import Job, Mode
from evalx.sandbox.seccomp import security_options
from evalx.sandbox.slots import CpuSlots, Grant
from evalx.sandbox.sockets import Sockets, open_sockets, sweep
from evalx.sandbox.spec import LABEL_LEASE, LABEL_OWNER, LABEL_SCOPE, ContainerSpec
from evalx.sandbox.underway import OnResult, OnTurn, Underway
from evalx.settings import Settings
from evalx.stages import mark

#: Resident bytes that a language runtime may need beyond a submission's memory limit (JVM: metaspace, code cache,
#: stacks).
RUNTIME_MEMORY_BYTES = 256 << 20
#: Processes and threads that a language runtime may need beyond a submission's limit (JVM: compiler, collector,
#: signals).
RUNTIME_PROCESSES = 128
#: Inodes of each writable place: enough for a deep package tree of classes, too few to fill the kernel's memory.
WORK_INODES = 8192


class FoundContainer(msgspec.Struct, frozen=True):
    """A sandbox container that the daemon knows, whoever made it. ``created_at`` in seconds since the epoch."""

    id: str
    labels: dict[str, str]
    created_at: float


def container_spec(
    settings: Settings,
    image: str,
    labels: dict[str, str],
    interpreter: RunStep | None = None,
    sockets: Sockets | None = None,
) -> ContainerSpec:
    """What containers of an image are created with: room for as many runs at once as there are CPU slots."""
    return ContainerSpec(
        image=settings.image_prefix + image,
        labels=labels,
        memory_bytes=settings.cpu_slots * (settings.max_memory_bytes + RUNTIME_MEMORY_BYTES)
        + RUNTIME_MEMORY_BYTES
        + KEPT_BYTES,
        pids=settings.cpu_slots * (settings.max_processes + RUNTIME_PROCESSES) + RUNTIME_PROCESSES,
        work_bytes=settings.sandbox_work_bytes,
        work_inodes=WORK_INODES,
        cpu_shares=settings.sandbox_cpu_shares,
        runtime=settings.container_runtime,
        security_options=security_options(settings.seccomp),
        interpreter=interpreter if settings.warm_interpreters else None,
        sockets=sockets,
    )


def pool_limits(settings: Settings, warm: Collection[str]) -> PoolLimits:
    """How large the pool of a worker is that keeps containers of these images warm."""
    floor = settings.container_pool_size
    if floor is None:
        floor = max(len(set(warm)), settings.cpu_slots)
    bounds = Bounds(
        floor=min(floor, settings.container_cap) if warm else 0,
        # One a slot, and one for a batch of a higher lane that is lent a slot.
        useful=settings.cpu_slots + 1,
        # Thresholds that no utilisation reaches: then targets move for those who wait, and for nothing else.
        scale_up=settings.pool_scale_up_threshold / 100 if settings.elastic_pool else math.inf,
        scale_down=settings.pool_scale_down_threshold / 100 if settings.elastic_pool else -math.inf,
    )
    return PoolLimits(cap=settings.container_cap, max_jobs_per_container=settings.container_max_batches, bounds=bounds)


class SandboxRuntime:
    """A pool of containers and the CPU slots that they share. ``start`` before use, ``close`` at the end."""

    def __init__(
        self,
        settings: Settings,
        images: Iterable[str],
        interpreters: Mapping[str, RunStep] | None = None,
        quota: Quota | None = None,
    ) -> None:
        self._settings = settings
        self._quota = quota
        self._images = tuple(images)
        self._interpreters = interpreters or {}
        self._specs: dict[str, ContainerSpec] = {}
        self._slots = CpuSlots(settings.cpu_slots)
        self._names = Names()
        self._docker: aiodocker.Docker | None = None
        self._sockets: Sockets | None = None
        self._pool: Pool | None = None
        self._digests: dict[str, str] = {}

    async def start(self, *, owner: str, scope: str = "", lease: str = "", warm: Iterable[str] = ()) -> None:
        """Connect to Docker, learn the images' digests, and warm one container for each image named.

        ``owner``, ``scope`` and ``lease`` go onto every container as labels, so that others can tell whose it is.

        Raises:
            ConfigurationError: an image is missing, or the daemon cannot limit memory or processes.
            DockerUnavailableError: the daemon does not answer.
        """
        labels = {LABEL_OWNER: owner, LABEL_SCOPE: scope, LABEL_LEASE: lease}
        self._docker = open_docker(self._settings.docker_host)
        self._sockets = await open_sockets(self._docker, self._settings)
        self._specs = {
            image: container_spec(self._settings, image, labels, self._interpreters.get(image), self._sockets)
            for image in self._images
        }
        await require_limits(self._docker, allow_unlimited=self._settings.allow_unlimited)
        digests = await asyncio.gather(*(toolchain_digest(self._docker, spec.image) for spec in self._specs.values()))
        self._digests = dict(zip(self._specs, digests, strict=True))
        warm = [self._specs[image].image for image in warm]
        # Keyed by the full name: that is what a container remembers of where it came from.
        specs = {spec.image: spec for spec in self._specs.values()}
        self._pool = Pool(self._docker, specs, pool_limits(self._settings, warm), self._quota)
        await self._pool.start(warm)

    async def close(self) -> None:
        """Remove every container and disconnect."""
        if self._pool is not None:
            await self._pool.close()
        if self._sockets is not None:
            self._sockets.close()
        if self._docker is not None:
            await close_docker(self._docker)

    async def find_containers(self, labels: dict[str, str]) -> list[FoundContainer]:
        """Every container on the daemon that carries these labels, running or not.

        Raises:
            DockerUnavailableError: the daemon does not answer.
        """
        filters = orjson.dumps({"label": [f"{key}={value}" for key, value in labels.items()]}).decode()
        try:
            found = await self._require_docker().containers.list(all=True, filters=filters)
        except (aiodocker.DockerError, aiohttp.ClientError, OSError, TimeoutError) as error:
            raise DockerUnavailableError(message=f"cannot list containers: {error!r}") from error
        return [FoundContainer(one.id, one["Labels"], float(one["Created"])) for one in found]

    async def remove_container(self, container_id: str) -> None:
        """Remove a container by id; one that is gone already is fine."""
        with contextlib.suppress(aiodocker.DockerError, aiohttp.ClientError, OSError, TimeoutError):
            await self._require_docker().containers.container(container_id).delete(force=True)

    def sweep(self) -> int:
        """Remove the folders of sockets that workers have left which died, and return how many."""
        # A directory that was found to be somebody else's is not touched.
        return sweep(self._settings) if self._sockets is not None else 0

    @property
    def alive(self) -> bool:
        """Whether at least one container is there to run something, if any is kept warm for it."""
        state = self.pool_state
        return self._pool is not None and (
            state.idle + state.busy + state.checking > 0 or self._settings.container_pool_size == 0
        )

    @property
    def pool_state(self) -> PoolState:
        """What the pool has, and what is wrong with it."""
        return self._pool.state if self._pool is not None else PoolState()

    @property
    def keeper(self) -> asyncio.Task[None] | None:
        """The pool's own task; it ends only when the pool is closed."""
        return self._pool.keeper if self._pool is not None else None

    def _require_docker(self) -> aiodocker.Docker:
        assert self._docker is not None, "start() comes first"
        return self._docker

    def toolchain(self, image: str) -> str:
        """The content digest of an image, ``sha256:...``."""
        return self._digests[image]

    async def execute(
        self, image: str, job: Job, *, rank: int, on_result: OnResult, on_turn: OnTurn | None = None
    ) -> Collected:
        """Run a job as soon as a CPU slot is free for its lane; ``job.parallel`` is the most that it can use.

        Raises:
            SandboxFaultError, DockerUnavailableError, PoolExhaustedError: our fault; the job may be tried again.
        """
        assert self._pool is not None, "start() comes first"
        want = max(1, min(job.parallel, len(job.inputs)))
        name, ids = self._specs[image].image, self._names.of(job)
        mark("dedupe")
        await self._pool.usable(name)
        # Who gives up a slot keeps his container, so it is asked for only where there is another one to run in.
        lent = self._slots.take(want, rank, borrows=self._pool.has_idle(name))
        async with lent as grant:
            if on_turn is not None:
                on_turn()
            async with self._pool.acquire(name, ids) as container:
                mark("acquire")
                slots, mode = grant.numbers, self._allowed(job.mode)
                job = msgspec.structs.replace(job, parallel=len(slots), cpu=slots[0] + 1, mode=mode)
                return await _run(container, job, ids, grant, on_result)

    def _allowed(self, mode: Mode) -> Mode:
        switches = {
            Mode.FORK_SERVER: self._settings.fork_server,
            Mode.WARM_INTERPRETER: self._settings.warm_interpreters,
        }
        return mode if switches.get(mode, True) else Mode.EXEC


async def _run(container: Container, job: Job, ids: tuple[int, ...], grant: Grant, on_result: OnResult) -> Collected:
    underway = Underway(container, grant, on_result)
    try:
        return await container.execute(job, underway.result, ids, underway if len(job.inputs) > 1 else None)
    finally:
        await underway.end()
