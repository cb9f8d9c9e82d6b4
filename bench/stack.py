"""A Kafka, a Redis and workers of the bench's own, so that a stack that runs here is not touched.

The services are reached at their containers' own addresses: a published port goes through Docker's proxy, a process
that copies every byte, which production (where all are on one network) does not have either.
"""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from bench.beside import Beside
from bench.docker_cli import docker
from bench.worker import READY_S, Worker


class Stack:
    """``with Stack() as stack``: topics are made, nothing is left behind."""

    def __init__(self, image_prefix: str) -> None:
        self._images = image_prefix
        self._run = secrets.token_hex(4)
        self._kafka, self._redis = f"evalx-bench-{self._run}-kafka", f"evalx-bench-{self._run}-redis"
        #: Address and port of each, known once they run.
        self.kafka = self.redis_address = ""
        self.workers: list[Worker] = []
        self._started = 0
        self._beside: Beside | None = None

    def environment(self, **settings: object) -> dict[str, str]:
        """What a process needs to find this stack; ``redis_timeout_ms=...`` sets EVALX_REDIS_TIMEOUT_MS and so on."""
        values = {
            "kafka_bootstrap": self.kafka,
            "redis_url": f"redis://{self.redis_address}/0",
            "topic_prefix": f"bench{self._run}",
            **settings,
        }
        return {f"EVALX_{name.upper()}": str(value) for name, value in values.items()}

    def start_worker(self, **settings: object) -> Worker:
        """A worker that judges what is sent to the topics of this stack."""
        self._started += 1
        name = f"evalx-bench-{self._run}-{self._started}"
        worker = Worker(f"{self._images}worker", name, self.environment(**settings))
        self.workers.append(worker)
        worker.await_ready()
        return worker

    def put_beside(self, name: str, pid: int) -> None:
        """Let a process have its share of the CPUs as a container of this stack has."""
        if self._beside is None:
            self._beside = Beside(self._kafka)
        self._beside.put(name, pid)

    def stop_workers(self) -> None:
        """Stop those that run."""
        for worker in self.workers:
            worker.stop()
        self.workers.clear()

    @property
    def containers(self) -> tuple[str, str]:
        """The full ids of those of Kafka and of Redis."""
        kafka, redis = (docker("inspect", "-f", "{{.Id}}", name) for name in (self._kafka, self._redis))
        return kafka, redis

    def redis(self, *command: str) -> str:
        """Ask Redis."""
        return docker("exec", self._redis, "redis-cli", *command)

    def __enter__(self) -> Self:
        try:
            options = ["-e", "EVALX_KAFKA_EXTERNAL=self:9092", "-e", "EVALX_KAFKA_HEAP=-Xms256m -Xmx512m"]
            docker("run", "-d", "--name", self._kafka, *options, f"{self._images}kafka")
            docker("run", "-d", "--name", self._redis, f"{self._images}redis")
            for name in (self._kafka, self._redis):
                _await_healthy(name)
            self.kafka, self.redis_address = f"{_address(self._kafka)}:9092", f"{_address(self._redis)}:6379"
            command = [str(Path(sys.executable).parent / "evalx"), "topics", "create"]
            subprocess.run(command, env={**os.environ, **self.environment()}, check=True, stdout=subprocess.DEVNULL)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Remove everything."""
        self.stop_workers()
        if self._beside is not None:
            self._beside.remove()
        for name in (self._kafka, self._redis):
            subprocess.run(["docker", "rm", "-fv", name], capture_output=True, check=False)


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _address(name: str) -> str:
    return docker("inspect", "-f", "{{.NetworkSettings.IPAddress}}", name)


def _await_healthy(name: str) -> None:
    # The image's own check, which Docker itself makes too seldom to be waited for.
    check = msgspec.json.decode(docker("inspect", "-f", "{{json .Config.Healthcheck.Test}}", name), type=list[str])[1:]
    deadline = time.monotonic() + READY_S
    while subprocess.run(["docker", "exec", name, *check], capture_output=True, check=False).returncode != 0:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{name} is not healthy")
        time.sleep(0.2)
