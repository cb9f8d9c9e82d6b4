"""Containers and the Docker daemon go away: the program is never blamed."""

from __future__ import annotations

import asyncio
import signal

import pytest
from chaos_oracle import guarantee
from chaos_scene import BUSY_MACHINE_S, OpenScene, metric
from integration_stack import docker, eventually, sandboxes
from private_docker import private_docker

#: Seconds within which the pool is full again.
POOL_FULL_AGAIN_S = 15.0


async def test_pooled_containers_are_killed(open_scene: OpenScene):
    """At random, in load: what ran in them is judged again in others."""
    async with open_scene("killed-containers") as scene:
        workers = await scene.workers(2)
        full = {worker: len(sandboxes(owner=worker.name)) for worker in workers}
        kills = scene.size.pick(5, 40)
        pouring = asyncio.create_task(scene.load.pour(10, kills * 1.5 + 2))
        for _ in range(kills):
            await asyncio.sleep(1.5)
            if there := [one for worker in workers for one in sandboxes(owner=worker.name)]:
                # It may have ended by itself since.
                await asyncio.to_thread(docker, "kill", scene.random.choice(there), check=False)
        await pouring
        await scene.answered()
        scene.report(f"{sum(metric(worker, 'evalx_retries_total') for worker in workers):.0f} attempts repeated")
        for worker in workers:
            limit = POOL_FULL_AGAIN_S + BUSY_MACHINE_S
            await eventually(lambda one=worker: sandboxes(owner=one.name), f"{full[worker]} containers", limit)
        await scene.verify()


@pytest.mark.parametrize("breakage", ["restarted", "frozen"])
async def test_dockerd_goes_away(open_scene: OpenScene, breakage: str):
    """A daemon of the test's own is restarted, which ends every container, or stands still."""
    async with open_scene(f"dockerd-{breakage}") as scene, private_docker(scene.services.logs) as private:
        scene.load.languages = ("python",)
        frozen_s = scene.size.pick(5, 20)
        scene.outage_s = frozen_s + BUSY_MACHINE_S
        workers = await scene.workers(1, docker_host=private.host)
        pouring = asyncio.create_task(scene.load.pour(6, frozen_s + 6))
        await asyncio.sleep(3)
        if breakage == "restarted":
            await private.stop()
            await private.start()
        else:
            private.signal(signal.SIGSTOP)
            await asyncio.sleep(frozen_s)
            private.signal(signal.SIGCONT)
        await pouring
        await scene.answered()
        for worker in workers:
            limit = POOL_FULL_AGAIN_S + BUSY_MACHINE_S
            await eventually(lambda one=worker: private.containers(one.name), "containers are there again", limit)
        await scene.verify()
        guarantee(not private.containers(workers[0].name), "containers left behind")
