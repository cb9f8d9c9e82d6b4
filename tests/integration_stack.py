"""Real Kafka, Redis and workers for tests, and a client of the topics that shares no code with evalx.

Everything is started by the tests themselves, on free ports and under names of this run, so that a stack that runs on
the same machine is neither used nor touched. Whatever was started carries the run's label or name, by which the leak
check at the end of the session finds what was left behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from jsonschema import Draft202012Validator

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = ROOT / "tests" / "programs"
EVALX = Path(sys.executable).parent / "evalx"
RUN_LABEL = "org.evalx.test-run"
LANES = {"high": range(0, 4), "normal": range(4, 8), "low": range(8, 12)}
EXTENSIONS = {"c": "c", "cpp": "cpp", "python": "py", "java": "java", "javascript": "js"}
#: More than tests that want one for themselves.
REDIS_DATABASES = 128
#: Seconds for something that takes at most a few; the machine may be busy with other things.
PATIENCE_S = 120.0

_result_schema = json.loads((ROOT / "schemas" / "result.schema.json").read_text())
_validator = Draft202012Validator(_result_schema)

Document = dict[str, Any]


def docker(*arguments: str, check: bool = True) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr}"
    return done.stdout.strip()


def sandboxes(**labels: str) -> list[str]:
    """Ids of sandbox containers, running or not, with these labels (``owner="x"`` is ``org.evalx.owner=x``)."""
    filters = [f"label=org.evalx.{name}={value}" for name, value in {"role": "sandbox", **labels}.items()]
    return docker("ps", "-aq", *(word for one in filters for word in ("--filter", one))).split()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def program(language: str, case: str) -> str:
    return (PROGRAMS / language / f"{case}.{EXTENSIONS[language]}").read_text()


def submission(language: str = "c", case: str = "sum", **fields: Any) -> Document:
    """A submission of a program in tests/programs; without ``tests`` it has one that ``sum`` passes."""
    one = {"stdin": "1 2\n", "expected_output": "3\n"}
    return {"language": language, "code": program(language, case), "tests": [one], **fields}


async def eventually(condition: Callable[[], Any], what: str, timeout_s: float = PATIENCE_S) -> Any:
    """Wait until the condition (plain or async) is true and return its value."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if isinstance(value, Awaitable):
            value = await value
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {timeout_s:.0f} s: {what}"
        await asyncio.sleep(0.05)


@dataclass
class Services:
    """One Kafka and one Redis of this run."""

    run: str
    logs: Path
    kafka: str = ""
    redis_port: int = 0
    workers: list[Worker] = field(default_factory=list)
    #: The first sixteen are those that tests name themselves.
    _databases: int = 15

    def start(self) -> None:
        kafka_port = free_port()
        self.kafka = f"127.0.0.1:{kafka_port}"
        environment = ["-e", f"EVALX_KAFKA_EXTERNAL={self.kafka}", "-e", "EVALX_KAFKA_HEAP=-Xms256m -Xmx512m"]
        self._run("kafka", *environment, "-p", f"{self.kafka}:9092", "evalx-kafka")
        self.redis_port = self.start_redis("redis")
        self._await_healthy("kafka")

    def start_redis(self, name: str) -> int:
        """A Redis of its own, for a test that breaks it; returns its port."""
        port = free_port()
        self._run(name, "-p", f"127.0.0.1:{port}:6379", "evalx-redis", "--databases", str(REDIS_DATABASES))
        self._await_healthy(name)
        return port

    def container(self, name: str) -> str:
        return f"evalx-test-{self.run}-{name}"

    def next_redis(self) -> str:
        """A database that nothing was written to: workers in it know nothing of others, nor of their containers."""
        self._databases += 1
        assert self._databases < REDIS_DATABASES, f"Redis has {REDIS_DATABASES} databases"
        return f"redis://127.0.0.1:{self.redis_port}/{self._databases}"

    def stop(self) -> None:
        for worker in self.workers:
            worker.kill()
        names = docker("ps", "-aq", "--filter", f"label={RUN_LABEL}={self.run}").split()
        if names:
            docker("rm", "-fv", *names)

    def _run(self, name: str, *arguments: str) -> None:
        docker("run", "-d", "--name", self.container(name), "--label", f"{RUN_LABEL}={self.run}", *arguments)

    def _await_healthy(self, name: str) -> None:
        # The image's own check, which Docker itself makes too seldom for a test.
        check = json.loads(docker("inspect", "-f", "{{json .Config.Healthcheck.Test}}", self.container(name)))[1:]
        deadline = time.monotonic() + PATIENCE_S
        while subprocess.run(["docker", "exec", self.container(name), *check], capture_output=True).returncode != 0:
            if time.monotonic() > deadline:
                raise AssertionError(f"{name} is not healthy:\n{docker('logs', self.container(name))[-3000:]}")
            time.sleep(0.2)


class Worker:
    """One ``evalx worker`` process. Its log is in ``log``; its sandboxes carry its name."""

    def __init__(
        self, services: Services, environment: dict[str, str], command: Sequence[str] = (str(EVALX), "worker")
    ) -> None:
        self.services = services
        name = f"{services.run}-{len(services.workers) + 1}"
        self.port = free_port()
        self.log = services.logs / f"worker-{name}.log"
        self.temp = services.logs / f"tmp-{name}"
        self.temp.mkdir()
        settings = {
            "EVALX_WORKER_NAME": name,
            "EVALX_HEALTH_PORT": str(self.port),
            "EVALX_LOG_JSON": "true",
            "TMPDIR": str(self.temp),
            # What another test has compiled would be known.
            "EVALX_ARTIFACT_DIR": str(services.logs / f"artifacts-{name}"),
            **environment,
        }
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("EVALX_") or name == "EVALX_IMAGE_PREFIX"
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, env=inherited | settings, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        # An empty variable is one that is not set.
        self.name = settings["EVALX_WORKER_NAME"] or f"{socket.gethostname()}:{self.process.pid}"
        services.workers.append(self)

    async def ready(self) -> Worker:
        """Wait until it has partitions and containers."""
        await eventually(self._is_ready, f"{self.name} is ready")
        return self

    def health(self, path: str = "/readyz") -> tuple[int, bytes]:
        """Status and body; status 0 when nobody listens."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()
        except OSError:
            return 0, b""

    async def stop(self) -> tuple[int, float]:
        """SIGTERM; returns the exit code and the seconds that it took."""
        started = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        code = await asyncio.to_thread(self.process.wait, 60)
        return code, time.monotonic() - started

    def kill(self) -> None:
        """SIGKILL, if it is still there."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def events(self, name: str) -> list[Document]:
        """The structured log's entries of this name."""
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.startswith("{")]
        return [entry for entry in map(json.loads, lines) if entry.get("event") == name]

    def _is_ready(self) -> bool:
        code = self.process.poll()
        assert code is None, f"{self.name} exited with {code}:\n{self.log.read_text(errors='replace')[-3000:]}"
        return self.health()[0] == 200


@dataclass(frozen=True)
class Published:
    """One record as it is on a topic."""

    key: bytes | None
    value: bytes | None
    headers: dict[str, bytes]
    partition: int
    offset: int

    @property
    def document(self) -> Document:
        assert self.value is not None
        loaded: Document = json.loads(self.value)
        return loaded


class Topics:
    """The three topics of one prefix, and everything that was ever published on two of them."""

    def __init__(self, services: Services, prefix: str, partitions: int = 12) -> None:
        self.services = services
        self.prefix = prefix
        self.partitions = partitions
        self.submissions = f"{prefix}.submissions"
        self.results: dict[str, list[Published]] = {}
        self.dead_letters: list[Published] = []
        self.workers: list[Worker] = []
        #: What starts a worker.
        self.worker_command: Sequence[str] = (str(EVALX), "worker")
        self._counter = 0
        self._producer: AIOKafkaProducer
        self._gzip: AIOKafkaProducer
        self._consumer: AIOKafkaConsumer
        self._arrived = asyncio.Condition()
        self._reader: asyncio.Task[None]

    def environment(self, **settings: object) -> dict[str, str]:
        """EVALX_ variables for a process on these topics; ``redis_url=...`` sets EVALX_REDIS_URL and so on."""
        values = {
            "kafka_bootstrap": self.services.kafka,
            "redis_url": f"redis://127.0.0.1:{self.services.redis_port}/0",
            "topic_prefix": self.prefix,
            # Redis may be slow when the machine is busy, and tests that count attempts must not depend on that.
            "redis_timeout_ms": 5000,
            **settings,
        }
        return {f"EVALX_{name.upper()}": str(value) for name, value in values.items()}

    def create(self, **settings: object) -> None:
        """Let the product create them."""
        environment = {**os.environ, **self.environment(**settings)}
        done = subprocess.run([str(EVALX), "topics", "create"], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    def worker(self, **settings: object) -> Worker:
        """Start a worker on these topics; ``ready`` of it waits until it judges."""
        worker = Worker(self.services, self.environment(**settings), self.worker_command)
        self.workers.append(worker)
        return worker

    async def __aenter__(self) -> Topics:
        common: Any = {"bootstrap_servers": self.services.kafka, "acks": "all", "max_request_size": 1 << 30}
        self._producer = AIOKafkaProducer(**common, linger_ms=2)
        self._gzip = AIOKafkaProducer(**common, compression_type="gzip")
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=self.services.kafka, auto_offset_reset="earliest", enable_auto_commit=False
        )
        await self._producer.start()
        await self._gzip.start()
        await self._consumer.start()
        names = (f"{self.prefix}.results", f"{self.prefix}.submissions.DLT")
        self._consumer.assign([TopicPartition(name, n) for name in names for n in range(self.partitions)])
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)
        await self._consumer.stop()
        await self._producer.stop()
        await self._gzip.stop()

    def new_id(self) -> str:
        self._counter += 1
        return f"{self.prefix}-{self._counter}"

    async def send(
        self,
        value: bytes | None,
        *,
        key: bytes | None = None,
        partition: int,
        headers: Iterable[tuple[str, bytes]] = (),
        timestamp_ms: int | None = None,
        compressed: bool = False,
    ) -> int:
        """Produce bytes as they are and return their offset."""
        sent = await (self._gzip if compressed else self._producer).send_and_wait(
            self.submissions, value, key=key, partition=partition, headers=list(headers), timestamp_ms=timestamp_ms
        )
        return int(sent.offset)

    async def submit(
        self, *documents: Document, lane: str = "normal", partition: int | None = None, headers: Any = ()
    ) -> list[str]:
        """Produce submissions, all at once, and return their ids; one without an id gets one."""
        complete = [{"id": self.new_id(), **document} for document in documents]
        await asyncio.gather(
            *(
                self.send(
                    json.dumps(document).encode(),
                    key=document["id"].encode(),
                    partition=self._partition(document["id"], lane) if partition is None else partition,
                    headers=headers,
                )
                for document in complete
            )
        )
        return [document["id"] for document in complete]

    async def result(self, submission_id: str, count: int = 1, timeout_s: float = PATIENCE_S) -> Document:
        """The ``count``-th result of an id."""
        return (await self.published(submission_id, count, timeout_s)).document

    async def published(self, submission_id: str, count: int = 1, timeout_s: float = PATIENCE_S) -> Published:
        """The ``count``-th result of an id, as it is on the topic."""
        await self._until(lambda: len(self.results.get(submission_id, ())) >= count, submission_id, timeout_s)
        return self.results[submission_id][count - 1]

    async def wait_for(self, ids: Iterable[str], timeout_s: float = PATIENCE_S) -> dict[str, Document]:
        """The first result of each id."""
        wanted = list(ids)
        deadline = time.monotonic() + timeout_s
        return {one: await self.result(one, timeout_s=max(0.0, deadline - time.monotonic())) for one in wanted}

    async def judge(self, *documents: Document, **where: Any) -> list[Document]:
        """Submit and wait for the results, in order."""
        ids = await self.submit(*documents, **where)
        results = await self.wait_for(ids)
        return [results[one] for one in ids]

    async def dead_letter(self, partition: int, offset: int) -> Published:
        """The dead letter of the record at this place."""

        def found() -> list[Published]:
            return self.dead_letters_of(partition, offset)

        await self._until(lambda: bool(found()), f"dead letter of {partition}:{offset}", PATIENCE_S)
        return found()[0]

    def dead_letters_of(self, partition: int, offset: int) -> list[Published]:
        place = (str(partition).encode(), str(offset).encode())
        names = ("kafka_dlt-original-partition", "kafka_dlt-original-offset")
        return [one for one in self.dead_letters if tuple(one.headers.get(name) for name in names) == place]

    async def end(self, partition: int) -> int:
        """The offset behind the last submission of a partition."""
        place = TopicPartition(self.submissions, partition)
        return int((await self._consumer.end_offsets([place]))[place])

    async def committed(self) -> dict[int, int]:
        """The group's committed offsets, by partition; a partition without one is left out."""
        async with admin_client(self.services) as admin:
            offsets = await admin.list_consumer_group_offsets(f"{self.prefix}-workers")
        return {tp.partition: o.offset for tp, o in offsets.items() if tp.topic == self.submissions and o.offset >= 0}

    @staticmethod
    def _partition(submission_id: str, lane: str) -> int:
        return LANES[lane][zlib.crc32(submission_id.encode()) % len(LANES[lane])]

    async def _until(self, condition: Callable[[], bool], what: str, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s), self._arrived:
                await self._arrived.wait_for(lambda: self._reader.done() or condition())
        except TimeoutError:
            raise AssertionError(f"not within {timeout_s:.0f} s: {what}") from None
        if self._reader.done():
            self._reader.result()

    async def _read(self) -> None:
        try:
            async for record in self._consumer:
                await self._keep(record)
        finally:
            async with self._arrived:
                self._arrived.notify_all()

    async def _keep(self, record: Any) -> None:
        one = Published(record.key, record.value, dict(record.headers), record.partition, record.offset)
        if record.topic.endswith(".DLT"):
            self.dead_letters.append(one)
        else:
            _validator.validate(one.document)
            self.results.setdefault(one.document["id"], []).append(one)
        async with self._arrived:
            self._arrived.notify_all()


@contextlib.asynccontextmanager
async def admin_client(services: Services) -> AsyncIterator[Any]:
    admin = AIOKafkaAdminClient(bootstrap_servers=services.kafka)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def create_topic(services: Services, name: str, partitions: int) -> None:
    async with admin_client(services) as admin:
        await admin.create_topics([NewTopic(name, partitions, 1)])


def new_run() -> str:
    return f"it{secrets.token_hex(4)}"
