"""Redis goes away under pools that share a bound: none waits for ever, and together they never have too many."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator

import redis
from chaos_oracle import guarantee
from integration_stack import Services, docker, eventually, sandboxes

from evalx.cache.keys import VERSION
from evalx.cache.link import Link
from evalx.cache.quota import RedisQuota
from evalx.sandbox.protocol import Bounds, Job, RunResult
from evalx.sandbox.runtime import SandboxRuntime
from evalx.sandbox.spec import LABEL_OWNER
from evalx.settings import Settings
from evalx.verdicts import Outcome

#: Containers of both pools together: less than their CPU slots, so that both want more than there is.
BOUND = 5
SAMPLE_S = 0.05
NAP_S = 0.2
#: Jobs of each image in each pool: twice as many as could be under way.
JOBS = 6
#: Seconds; a bound for hangs.
LIMIT_S = 90.0


class Crowd:
    """Two pools that share a bound, and somebody who counts what dockerd has."""

    def __init__(self, redis_url: str) -> None:
        self.owner = f"crowd-{os.getpid()}-{time.monotonic_ns()}"
        self.images = ["sandbox-c-cpp", "sandbox-python"]
        self.links = [Link(redis_url, timeout_ms=200) for _ in range(2)]
        settings = Settings.load(cpu_slots=3, container_cap=4, container_pool_size=1)
        self.pools = [
            SandboxRuntime(
                settings,
                self.images,
                quota=RedisQuota(link, prefix=self.owner, owner=f"w{number}", bound=BOUND, most_workers=2),
            )
            for number, link in enumerate(self.links)
        ]
        self.most = 0

    async def load(self) -> None:
        """Let both have more to do than there are containers, and check what comes back."""
        runs: list[RunResult] = []
        jobs = [
            pool.execute(image, nap(), rank=0, on_result=runs.append)
            for pool in self.pools
            for image in self.images
            for _ in range(JOBS)
        ]
        await asyncio.wait_for(asyncio.gather(*jobs), LIMIT_S)
        guarantee(all(run.outcome is Outcome.EXITED for run in runs), "programs blamed", runs)
        guarantee(len(runs) == len(jobs), "lost", f"{len(runs)} of {len(jobs)}")

    async def count(self) -> None:
        """Look at dockerd until cancelled."""
        while True:
            found = await self.pools[0].find_containers({LABEL_OWNER: self.owner})
            self.most = max(self.most, len(found))
            guarantee(len(found) <= BOUND, "too many containers", len(found))
            await asyncio.sleep(SAMPLE_S)


def nap() -> Job:
    bounds = Bounds(
        cpu_time_ms=1000, wall_time_ms=20_000, memory_bytes=64 << 20, output_bytes=64, file_bytes=65, processes=4
    )
    return Job(argv=("/bin/sleep", str(NAP_S)), env=(), bounds=bounds, inputs=(b"",))


@contextlib.asynccontextmanager
async def crowded(redis_url: str) -> AsyncIterator[Crowd]:
    crowd = Crowd(redis_url)
    counting: asyncio.Task[None] | None = None
    try:
        for pool in crowd.pools:
            await pool.start(owner=crowd.owner, warm=crowd.images[:1])
        counting = asyncio.create_task(crowd.count())
        yield crowd
        guarantee(not counting.done(), "too many containers", counting)
    finally:
        if counting is not None:
            counting.cancel()
            await asyncio.gather(counting, return_exceptions=True)
        for pool in crowd.pools:
            await pool.close()
        for link in crowd.links:
            await link.close()
    guarantee(not sandboxes(owner=crowd.owner), "containers left behind")


async def test_redis_is_killed_under_pools_that_share(services: Services):
    """Each goes on with its share, and they share again when Redis is back, although it has forgotten everything."""
    port = services.start_redis("pool")
    name = services.container("pool")
    async with crowded(f"redis://127.0.0.1:{port}/0") as crowd:
        await crowd.load()
        loading = asyncio.create_task(crowd.load())
        await asyncio.sleep(2 * NAP_S)
        await asyncio.to_thread(docker, "kill", name)
        await loading
        await crowd.load()
        await asyncio.to_thread(docker, "start", name)
        client = crowd.links[0].client
        key = f"evalx:{VERSION}:containers:{crowd.owner}"
        await eventually(lambda: told(client, key), "both have told what they hold")
        await crowd.load()
        print(f"[chaos] at most {crowd.most} of {BOUND} containers")


async def told(client: object, key: str) -> bool:
    with contextlib.suppress(redis.RedisError, OSError):
        return await client.hlen(key) == 3  # type: ignore[attr-defined]
    return False
