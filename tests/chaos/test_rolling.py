"""Workers as they are deployed, in containers of their own image, are replaced one by one while there is work."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path

from chaos_oracle import guarantee, repeats
from chaos_scene import CONCURRENCY, OpenScene, Scene
from integration_stack import RUN_LABEL, docker, eventually, free_port, sandboxes

from evalx.settings import Settings

SOCKET = Path("/var/run/docker.sock")
WORKERS = 2
#: Seconds that Docker waits before it kills, as in docker-compose.yml.
GRACE_S = 20
_numbers = itertools.count(1)


class Deployed:
    """A worker in a container."""

    def __init__(self, scene: Scene) -> None:
        run = scene.services.run
        self.name = f"{run}-deployed-{next(_numbers)}"
        self._port = free_port()
        prefix = Settings().image_prefix
        own = {
            "EVALX_WORKER_NAME": self.name,
            "EVALX_HEALTH_PORT": str(self._port),
            "EVALX_IMAGE_PREFIX": prefix,
        }
        settings = scene.topics.environment(
            redis_url=scene.redis_url,
            redis_timeout_ms=1000,
            cpu_slots=4,
            concurrency=CONCURRENCY,
            container_pool_size=1,
        )
        environment = [word for name, value in (settings | own).items() for word in ("-e", f"{name}={value}")]
        docker(
            *("run", "-d", "--name", self.name, "--label", f"{RUN_LABEL}={run}", "--network", "host"),
            *("--group-add", str(SOCKET.stat().st_gid), "-v", f"{SOCKET}:{SOCKET}"),
            *environment,
            f"{prefix}worker",
        )

    async def ready(self) -> Deployed:
        """Wait until it has partitions and containers."""
        await eventually(lambda: asyncio.to_thread(self._is_ready), f"{self.name} is ready")
        return self

    async def stop(self) -> None:
        """As an upgrade stops it; it must end by itself, with 0, and leave no sandbox."""
        await asyncio.to_thread(docker, "stop", "-t", str(GRACE_S), self.name)
        code = docker("inspect", "-f", "{{.State.ExitCode}}", self.name)
        guarantee(code == "0", "exit code", f"{self.name}: {code}\n{docker('logs', '--tail', '20', self.name)}")
        guarantee(not sandboxes(owner=self.name), "containers left behind", self.name)

    def remove(self) -> None:
        """In whatever state it is."""
        docker("rm", "-fv", self.name)

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/readyz", timeout=5) as response:
                return bool(response.status == 200)
        except urllib.error.HTTPError as error:
            error.close()
            return False
        except OSError:
            return False


@contextlib.asynccontextmanager
async def deployment(scene: Scene) -> AsyncIterator[list[Deployed]]:
    """A list to which workers are added; in the end none of them is left."""
    workers: list[Deployed] = []
    try:
        yield workers
    finally:
        for worker in workers:
            await asyncio.to_thread(worker.remove)


async def test_a_rolling_upgrade(open_scene: OpenScene):
    """Each worker is replaced in load, the new one first: nothing is lost, and nothing is answered twice."""
    async with open_scene("rolling") as scene, deployment(scene) as workers:
        replacements = scene.size.pick(WORKERS, 4 * WORKERS)
        for _ in range(WORKERS):
            workers.append(await asyncio.to_thread(Deployed, scene))
        await asyncio.gather(*(worker.ready() for worker in workers))
        pouring = asyncio.create_task(scene.load.pour(12, replacements * 5))
        for number in range(replacements):
            workers.append(await asyncio.to_thread(Deployed, scene))
            await workers[-1].ready()
            await workers[number].stop()
        await pouring
        await scene.answered()
        again = repeats(scene.topics, scene.ledger)
        scene.report(f"{replacements} workers replaced, {again} repeated results")
        guarantee(again == 0, "repeats", again)
        for worker in workers[replacements:]:
            await worker.stop()
        await scene.verify()
