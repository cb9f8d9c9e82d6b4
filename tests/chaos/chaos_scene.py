"""One scenario: topics of its own, workers, a load, an oracle; and at the end everything that must always hold."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import redis.asyncio
from chaos_load import LONGEST_S, Ledger, Load
from chaos_oracle import (
    OffsetSampler,
    Recorder,
    commits_never_pass,
    everything_committed,
    guarantee,
    longest_standstill,
    nothing_lost,
    one_verdict_set,
)
from integration_stack import RUN_LABEL, Services, Worker, docker, eventually, new_run, sandboxes
from mutants import SHORT_SESSION_S
from side_by_side import current_run

T = TypeVar("T")

LAUNCHER = Path(__file__).with_name("mutants.py")
#: Seconds: the session of the product's workers, and the members' time to give up their partitions in a rebalance.
SESSION_S, REBALANCE_S = 15.0, 30.0
#: Seconds that a machine which does other things as well may add to any of the times that are promised.
BUSY_MACHINE_S = 20.0
#: Descriptors that a worker may have more of than when it was idle before: Redis and Kafka connections are made when
#: they are needed, up to one for each submission in progress. A leak for each batch would be hundreds.
DESCRIPTOR_SLACK = 24
#: Submissions in progress in one worker. More than CPU slots, as in the product; the programs mostly sleep.
CONCURRENCY = 8
STOP_LIMIT_S = 15.0
ORPHANS_GONE_S = 30.0


@dataclass(frozen=True)
class Size:
    """How long the scenarios are."""

    long: bool

    def pick(self, short: T, long: T) -> T:
        return long if self.long else short

    @property
    def session_s(self) -> float:
        return self.pick(SHORT_SESSION_S, SESSION_S)


class Scene:
    """What a scenario has at hand."""

    def __init__(
        self, services: Services, name: str, size: Size, seed: int, mutant: str | None, redis_url: str | None = None
    ) -> None:
        self.services = services
        self.size = size
        self.redis_url = redis_url or services.next_redis()
        self.topics = Recorder(services, f"{services.run}.{name}")
        self.ledger = Ledger()
        self.load = Load(self.topics.prefix, seed, self.ledger)
        self.sampler = OffsetSampler(self.topics)
        self.random = self.load.random
        self.fleet: list[Worker] = []
        #: Seconds that the scenario itself keeps results from coming.
        self.outage_s = 0.0
        self.longest_s = LONGEST_S
        self.lanes: str | None = None
        self.extra: list[str] = []
        self._mutant = mutant
        self._descriptors: dict[Worker, int] = {}

    def spawn(self, **settings: Any) -> Worker:
        """Start one worker."""
        options = ["--short-sessions"] if not self.size.long else []
        options += ["--mutant", self._mutant] if self._mutant else []
        self.topics.worker_command = (sys.executable, str(LAUNCHER), *options, *self.extra)
        chosen: dict[str, Any] = {
            "redis_url": self.redis_url,
            "redis_timeout_ms": 1000,
            "cpu_slots": 4,
            "concurrency": CONCURRENCY,
            "container_pool_size": 1,
            **settings,
        }
        if self.lanes is not None:
            chosen["lanes"] = self.lanes
        worker = self.topics.worker(**chosen)
        self.fleet.append(worker)
        current_run().workers.append(worker)
        return worker

    async def workers(self, count: int, **settings: Any) -> list[Worker]:
        """Start so many, wait until they are ready, and let them judge a little, so that there is a baseline."""
        started = [self.spawn(**settings) for _ in range(count)]
        await asyncio.gather(*(worker.ready() for worker in started))
        await self.load.send(*[self.load.batch(0.05) for _ in range(CONCURRENCY * count * 2)])
        await self.answered()
        self._descriptors |= {worker: descriptors(worker) for worker in started}
        return started

    async def answered(self, patience_s: float | None = None) -> None:
        """Wait until every record in the ledger is answered.

        Raises:
            GuaranteeBrokenError: no answer came for longer than the longest batch and a rebalance may take, or
                everything is committed and an answer is still missing.
        """
        limit = patience_s or self.longest_s + self.size.session_s + REBALANCE_S + BUSY_MACHINE_S
        began = time.monotonic()
        while missing := self.topics.unanswered(self.ledger):
            idle = time.monotonic() - max(began, self.topics.last_arrival)
            guarantee(idle < limit, "standstill", f"{len(missing)} unanswered for {limit:.0f} s, such as {missing[:3]}")
            if idle > 3:
                # With everything committed no answer will come, unless it is on its way to us: look once more.
                sample = await self.sampler.fresh()
                if everything_committed(self.ledger, sample.committed):
                    await asyncio.sleep(2)
                    nothing_lost(self.topics, self.ledger)
            await asyncio.sleep(0.1)

    async def verify(self) -> None:
        """Everything that must hold after every scenario. Stops the workers."""
        await self.answered()
        nothing_lost(self.topics, self.ledger)
        one_verdict_set(self.topics, self.ledger)
        await self._all_is_committed()
        commits_never_pass(self.topics, self.ledger, self.sampler.samples)
        limit = self.longest_s + self.size.session_s + REBALANCE_S + BUSY_MACHINE_S + self.outage_s
        standstill = longest_standstill(self.topics, self.ledger)
        guarantee(standstill < limit, "standstill", f"{standstill:.1f} s, the bound is {limit:.1f} s")
        self._descriptors_are_back()
        await self._stop_and_leave_nothing()
        self.report(f"{len(self.ledger.records)} records, longest standstill {standstill:.1f} s")

    def report(self, text: str) -> None:
        current_run().lines.append(f"[chaos] {self.topics.prefix}: {text}")

    async def _all_is_committed(self) -> None:
        def committed() -> bool:
            return everything_committed(self.ledger, self.sampler.committed)

        try:
            await eventually(committed, "everything is committed", 30 + self.size.session_s)
        except AssertionError:
            guarantee(False, "not committed", f"{self.sampler.committed}, sent {self.ledger.ends}")

    def _descriptors_are_back(self) -> None:
        for worker, before in self._descriptors.items():
            if worker.process.poll() is None:
                now = descriptors(worker)
                guarantee(now <= before + DESCRIPTOR_SLACK, "descriptors leaked", f"{worker.name}: {before} -> {now}")

    async def _stop_and_leave_nothing(self) -> None:
        living = [worker for worker in self.fleet if worker.process.poll() is None]
        await asyncio.gather(*(stop(worker) for worker in living))
        await self.orphans_gone(*self.fleet)
        async with redis.asyncio.Redis.from_url(self.redis_url, decode_responses=True) as client:
            await eventually(lambda: self._only_caches(client), "leases in Redis are gone", 40)

    async def orphans_gone(self, *workers: Worker) -> None:
        """Wait until these dead workers have no containers any more."""
        deadline = time.monotonic() + ORPHANS_GONE_S + BUSY_MACHINE_S
        while left := await asyncio.to_thread(lambda: [one for it in workers for one in sandboxes(owner=it.name)]):
            guarantee(time.monotonic() < deadline, "containers left behind", left)
            await asyncio.sleep(0.5)

    async def _only_caches(self, client: Any) -> bool:
        """Whether everything in Redis ends by itself, and no worker is said to live. The scope's name stays."""
        keys = [key async for key in client.scan_iter(count=1000)]
        if any(":worker:" in key or ":life:" in key for key in keys):
            return False
        pipe = client.pipeline(transaction=False)
        for key in keys:
            pipe.ttl(key)
        ages = await pipe.execute()
        endless = [key for key, age in zip(keys, ages, strict=True) if age == -1 and not key.endswith(":scope")]
        guarantee(not endless, "keys without an end", endless[:3])
        return True


#: What the fixture ``open_scene`` is: ``async with open_scene("name") as scene``.
OpenScene = Callable[..., contextlib.AbstractAsyncContextManager[Scene]]


@contextlib.asynccontextmanager
async def scene(
    services: Services,
    name: str,
    size: Size,
    seed: int,
    mutant: str | None,
    *,
    partitions: int = 12,
    own_kafka: bool = False,
    own_redis: bool = False,
) -> AsyncIterator[Scene]:
    """A scenario on topics of its own. ``verify`` is the scenario's to call, as its last step."""
    current_run().lines.append(f"[chaos] {name}: --chaos-seed {seed}")
    async with contextlib.AsyncExitStack() as stack:
        if own_kafka:
            services = await enter_in_thread(stack, running(services.logs / name))
        redis_url = f"redis://127.0.0.1:{await asyncio.to_thread(services.start_redis, name)}/0" if own_redis else None
        opened = Scene(services, name, size, seed, mutant, redis_url)
        if partitions != 12:
            divide(opened, partitions, seed)
        await opened.topics.make()
        await opened.load.start(services.kafka)
        stack.push_async_callback(opened.load.stop)
        stack.push_async_callback(asyncio.to_thread, kill_all, opened.fleet)
        async with opened.topics, opened.sampler:
            yield opened


def divide(opened: Scene, partitions: int, seed: int) -> None:
    """Another number of partitions, a third of them for each lane."""
    third = partitions // 3
    opened.lanes = f"high=0-{third - 1},normal={third}-{2 * third - 1},low={2 * third}-{partitions - 1}"
    opened.topics = Recorder(opened.services, opened.topics.prefix, partitions)
    opened.load = Load(opened.topics.prefix, seed, opened.ledger, partitions)
    opened.sampler = OffsetSampler(opened.topics)
    opened.random = opened.load.random


def kill_all(workers: Iterable[Worker]) -> None:
    """SIGKILL, also for one that is stopped."""
    for worker in workers:
        with contextlib.suppress(ProcessLookupError):
            worker.process.send_signal(signal.SIGCONT)
        worker.kill()


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Services]:
    """Kafka and Redis; in the end nothing of them is left."""
    folder.mkdir(exist_ok=True)
    services = Services(new_run(), folder)
    try:
        services.start()
        yield services
    finally:
        services.stop()
    assert not docker("ps", "-aq", "--filter", f"label={RUN_LABEL}={services.run}")


async def enter_in_thread(stack: contextlib.AsyncExitStack, manager: contextlib.AbstractContextManager[T]) -> T:
    """Enter and, in the end, leave what would block the event loop."""
    entered = await asyncio.to_thread(manager.__enter__)
    stack.push_async_callback(asyncio.to_thread, manager.__exit__, None, None, None)
    return entered


async def stop(worker: Worker) -> None:
    """SIGTERM; it must end with 0 in time. One that is still importing its modules ends by the signal itself."""
    code, seconds = await worker.stop()
    if code != -signal.SIGTERM or has_begun(worker):
        guarantee(code == 0, "exit code", f"{worker.name}: {code}")
    guarantee(seconds < STOP_LIMIT_S + BUSY_MACHINE_S, "slow stop", f"{worker.name}: {seconds:.1f} s")


def has_begun(worker: Worker) -> bool:
    """Whether it has logged anything."""
    return any(line.startswith("{") for line in worker.log.read_text(errors="replace").splitlines())


def descriptors(worker: Worker) -> int:
    """Open descriptors of a worker, without those of its containers' channels."""
    return len(list(Path(f"/proc/{worker.process.pid}/fd").iterdir())) - len(sandboxes(owner=worker.name))


def resident_bytes(worker: Worker) -> int:
    status = Path(f"/proc/{worker.process.pid}/status").read_text()
    found = re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def metric(worker: Worker, name: str) -> float:
    """The sum of a metric over its labels; 0 when the worker does not answer."""
    _, body = worker.health("/metrics")
    found = re.findall(rf"^{name}(?:\{{[^}}]*\}})? (\S+)$", body.decode(), re.MULTILINE)
    return sum(map(float, found))


def service_signal(services: Services, name: str, signal_name: str) -> None:
    """A signal to the first process of one of this run's containers."""
    docker("kill", "--signal", signal_name, services.container(name))


def service_start(services: Services, name: str) -> None:
    """Start a container that was killed, on the data that it left."""
    docker("start", services.container(name))
