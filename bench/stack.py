"""A Kafka, a Redis and workers of the bench's own, so that a stack that runs here is not touched.

The services are reached at their containers' own addresses: a published port goes through Docker's proxy, a process
that copies every byte, which production (where all are on one network) does not have either.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.beside import Beside
from bench.docker_cli import docker

#: Seconds for a service or a worker to be ready: usually five, more on a machine that is busy with other things.
READY_S = 120.0
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Worker:
    """One ``evalx worker`` process."""

    def __init__(self, environment: dict[str, str], name: str, log: Path) -> None:
        self.name = name
        self.port = free_port()
        self.log = log
        own = {
            "EVALX_WORKER_NAME": name,
            "EVALX_HEALTH_PORT": str(self.port),
            "EVALX_LOG_JSON": "true",
            # What another run has compiled would be known.
            "EVALX_ARTIFACT_DIR": str(log.with_suffix(".artifacts")),
        }
        with log.open("wb") as stream:
            self.process = subprocess.Popen(
                [str(Path(sys.executable).parent / "evalx"), "worker"],
                env={**os.environ, **environment, **own},
                stdout=stream,
                stderr=stream,
                stdin=subprocess.DEVNULL,
            )

    def await_ready(self) -> None:
        """Return when it judges; raises RuntimeError when it does not come to that."""
        deadline = time.monotonic() + READY_S
        while not self._answers("/readyz"):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} is not ready:\n{self.log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.1)

    @property
    def cpu_s(self) -> float:
        """Seconds of CPU that the process has used, all its threads, user and system."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S

    @property
    def resident_bytes(self) -> int:
        """Memory of the process that is in RAM."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    @property
    def peak_bytes(self) -> int:
        """The most memory of the process that was in RAM so far."""
        status = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return int(next(line for line in status if line.startswith("VmHWM:")).split()[1]) * 1024

    def metric(self, name: str) -> float:
        """The sum of a metric of its own over all labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as response:
            lines = response.read().decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.partition("{")[0].split()[0] == name)

    @property
    def descriptors(self) -> int:
        """Open descriptors of the process."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def stop(self) -> None:
        """As an operator would; killed when that takes too long."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def _answers(self, path: str) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as response:
                return bool(response.status == 200)
        except OSError:
            return False


class Stack:
    """``with Stack() as stack``: topics are made, nothing is left behind."""

    def __init__(self, image_prefix: str) -> None:
        self._images = image_prefix
        self._run = secrets.token_hex(4)
        self._folder = tempfile.TemporaryDirectory(prefix="evalx-bench-")
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
        name = f"bench-{self._run}-{self._started}"
        worker = Worker(self.environment(**settings), name, Path(self._folder.name) / f"{name}.log")
        self.workers.append(worker)
        self.put_beside(name, worker.process.pid)
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
        self._folder.cleanup()


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _address(name: str) -> str:
    return docker("inspect", "-f", "{{.NetworkSettings.IPAddress}}", name)


def _await_healthy(name: str) -> None:
    deadline = time.monotonic() + READY_S
    while docker("inspect", "-f", "{{.State.Health.Status}}", name) != "healthy":
        if time.monotonic() > deadline:
            raise RuntimeError(f"{name} is not healthy")
        time.sleep(0.2)
