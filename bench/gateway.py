"""How the gateway bears load: a burst of batches, what it adds to plain Kafka, and how much memory waits in it.

``python -m bench.gateway`` from the project's root, on the Kafka and Redis of the ``EVALX_`` settings (a stack of
``./start-dev.sh`` will do) and with sandboxes on this machine. It starts a worker and a gateway of its own on topics of
its own, and removes the topics. What is compared takes turns. Exit code 0 whatever the figures, 1 when a request
failed or an output was wrong, 2 when it cannot run.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import secrets
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import aiohttp
import msgspec
import redis.asyncio
import uvloop
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from bench.command import conclude, say
from bench.report import table
from evalx.client import Client
from evalx.errors import EvalxError, ServiceUnavailableError
from evalx.messages import Limits, Submission, TestCase, encode_submission
from evalx.settings import Settings

#: Seconds for a process to be ready, and for the whole of a burst: bounds for hangs.
READY_S = 90.0
BURST_S = 300.0
#: Seconds that wrk runs.
WRK_S = 5
CODE = '#include <stdio.h>\nint main(void) { int a, b; scanf("%d %d", &a, &b); printf("%d\\n", a + b); }\n'


class Figures(msgspec.Struct, kw_only=True):
    """What was measured. Times in milliseconds, memory in bytes."""

    batches: int
    tests_per_batch: int
    connections: int
    failed: int = 0
    wrong: int = 0
    burst_s: float = 0.0
    accept_ms: float = 0.0
    produce_ms: float = 0.0
    answer_ms: float = 0.0
    client_ms: float = 0.0
    answer_cpu_ms: float = 0.0
    waiting: int = 0
    waiting_bytes: int = 0
    waiting_cpu_ms: float = 0.0
    wrk: str = "not installed"

    @property
    def musts(self) -> list[tuple[str, str, bool]]:
        """What is asked for, what was measured, and whether it is met."""
        answer, accept = self.answer_ms - self.client_ms, self.accept_ms - self.produce_ms
        return [
            (
                "no failed request, no wrong output",
                f"{self.failed} failed, {self.wrong} wrong",
                not (self.failed or self.wrong),
            ),
            ("added until it is accepted, p50 <= 3 ms", f"{accept:.2f} ms", accept <= 3),
            ("added until it is answered, p50 <= 3 ms", f"{answer:.2f} ms", answer <= 3),
        ]


class Stack:
    """A worker and gateways of this run, on topics of this run."""

    def __init__(self, settings: Settings, place: Path) -> None:
        self.settings = settings
        self._place = place
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, command: Literal["worker", "gateway"], settings: Settings, port: int) -> subprocess.Popen[bytes]:
        """Start a process; its log is in the temporary directory."""
        environment = os.environ | {
            "EVALX_TOPIC_PREFIX": settings.topic_prefix,
            "EVALX_HEALTH_PORT" if command == "worker" else "EVALX_GATEWAY_PORT": str(port),
            "EVALX_LOG_LEVEL": "warning",
        }
        with (self._place / f"{command}-{port}.log").open("wb") as log:
            arguments = [sys.executable, "-c", "from evalx.cli import main; main()", command]
            process = subprocess.Popen(arguments, env=environment, stdout=log, stderr=log)
        self._processes.append(process)
        return process

    def stop(self) -> None:
        """End what was started."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.wait()


class Load:
    """One run of the bench against a gateway that is ready."""

    def __init__(self, options: argparse.Namespace, settings: Settings, port: int, pid: int) -> None:
        self._options = options
        self._settings = settings
        self._url = f"http://127.0.0.1:{port}"
        self._pid = pid
        self.figures = Figures(batches=options.batches, tests_per_batch=options.tests, connections=options.connections)

    async def burst(self) -> None:
        """All batches at once over so many connections, each waited for and compared."""
        say(f"{self._options.batches} batches of {self._options.tests} tests")
        connector = aiohttp.TCPConnector(limit=self._options.connections)
        timeout = aiohttp.ClientTimeout(total=BURST_S)
        async with aiohttp.ClientSession(self._url, connector=connector, timeout=timeout) as session:
            started, cpu = time.perf_counter(), cpu_s(self._pid)
            await asyncio.gather(*(self._batch(session, number) for number in range(self._options.batches)))
            self.figures.burst_s = time.perf_counter() - started
            self.figures.answer_cpu_ms = (cpu_s(self._pid) - cpu) * 1000 / self._options.batches

    async def overhead(self) -> None:
        """What the gateway adds: until acceptance, and until the answer, to the client of evalx and a producer."""
        say(f"{self._options.pairs} pairs, one after the other")
        async with aiohttp.ClientSession(self._url) as session, Client(self._settings) as client:
            producer = AIOKafkaProducer(bootstrap_servers=self._settings.kafka_bootstrap, acks="all")
            await producer.start()
            ways: dict[str, Callable[[], Awaitable[Any]]] = {
                "answer_ms": lambda: post(session, "/v1/submissions?wait=60", small()),
                "client_ms": lambda: client.judge(small(), timeout=60),
                "accept_ms": lambda: post(session, "/v1/submissions", small()),
                "produce_ms": lambda: self._produce(client, producer, small()),
            }
            try:
                for name, median in (await take_turns(ways, self._options.pairs)).items():
                    setattr(self.figures, name, median)
            finally:
                await producer.stop()

    async def wait_in_line(self) -> None:
        """Submissions that nobody judges, and what the gateway's memory grows by."""
        say(f"{self._options.waiting} submissions that wait")
        async with aiohttp.ClientSession(self._url, connector=aiohttp.TCPConnector(limit=50)) as session:
            await asyncio.gather(*(post(session, "/v1/submissions", small()) for _ in range(50)))
            before, cpu = resident_bytes(self._pid), cpu_s(self._pid)
            for _ in range(0, self._options.waiting, 500):
                statuses = await asyncio.gather(*(post(session, "/v1/submissions", small()) for _ in range(500)))
                self.figures.failed += sum(status != 202 for status in statuses)
            async with session.get("/health") as response:
                self.figures.waiting = (await response.json())["waiting"]
            self.figures.waiting_bytes = resident_bytes(self._pid) - before
            self.figures.waiting_cpu_ms = (cpu_s(self._pid) - cpu) * 1000 / self._options.waiting

    async def wrk(self, place: Path) -> None:
        """The tool of the original's plan, on batches that are not waited for."""
        if shutil.which("wrk") is None:
            return
        script = place / "batch.lua"
        body = json.dumps(self._body(0))
        script.write_text(
            f"wrk.method = 'POST'\nwrk.headers['content-type'] = 'application/json'\nwrk.body = [==[{body}]==]\n"
        )
        arguments = ["wrk", "-t2", f"-c{self._options.connections}", f"-d{WRK_S}s", "-s", str(script)]
        process = await asyncio.create_subprocess_exec(
            *arguments, self._url + "/execute-batch", stdout=asyncio.subprocess.PIPE
        )
        output, _ = await process.communicate()
        kept = ("Requests/sec", "Non-2xx", "Socket errors")
        self.figures.wrk = "; ".join(
            " ".join(line.split()) for line in output.decode().splitlines() if line.strip().startswith(kept)
        )

    async def _batch(self, session: aiohttp.ClientSession, number: int) -> None:
        async with session.post(f"/execute-batch?wait={BURST_S:g}", json=self._body(number)) as response:
            answer = await response.json()
        if response.status != 200 or answer["status"] != "Completed":
            self.figures.failed += 1
            return
        right = [f"{number + test}\n" for test in range(self._options.tests)]
        self.figures.wrong += [row["stdout"] for row in answer["results"]] != right

    def _body(self, number: int) -> list[dict[str, str]]:
        # A comment of its own, so that no batch is answered from the cache; the compiler sees each of them.
        first = {"language": "c", "code": CODE + f"// {number % self._options.programs}\n"}
        tests = [{"stdin": f"{number} {test}"} for test in range(self._options.tests)]
        return [first | tests[0], *tests[1:]]

    async def _produce(self, client: Client, producer: AIOKafkaProducer, submission: Submission) -> None:
        await producer.send_and_wait(
            self._settings.topic_submissions,
            encode_submission(submission),
            key=submission.id.encode(),
            partition=client.partition_of(submission.id, "normal"),
        )


async def take_turns(ways: dict[str, Callable[[], Awaitable[Any]]], repeats: int) -> dict[str, float]:
    """The median time of each way, in milliseconds; the first tenth only warms up."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats + repeats // 10):
        for name, way in ways.items():
            started = time.perf_counter()
            await way()
            taken[name].append((time.perf_counter() - started) * 1000)
    return {name: statistics.median(times[repeats // 10 :]) for name, times in taken.items()}


async def post(session: aiohttp.ClientSession, path: str, submission: Submission) -> int:
    """Submit; the status."""
    headers = {"content-type": "application/json"}
    async with session.post(path, data=encode_submission(submission), headers=headers) as response:
        await response.read()
        return response.status


def small() -> Submission:
    """A submission with an id of its own and always the same content: judged once, then known."""
    test, limits = TestCase(id="1", stdin="1 2"), Limits(wall_time_ms=7000)
    return Submission(id=secrets.token_hex(8), language="c", version="17", code=CODE, tests=(test,), limits=limits)


def cpu_s(pid: int) -> float:
    """CPU time of a process, user and system, in seconds; in steps of 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int:
    """Resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise EvalxError(f"process {pid} has ended; see its log")


@contextlib.asynccontextmanager
async def topics(settings: Settings) -> AsyncIterator[None]:
    """Topics of this run, removed in the end."""
    from evalx.agents.topics import TopicAdmin

    async with TopicAdmin(settings) as admin:
        await admin.create()
    try:
        yield
    finally:
        client = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap)
        await client.start()
        await client.delete_topics([settings.topic_submissions, settings.topic_results, settings.topic_dead_letters])
        await client.close()
        await forget(settings)


async def forget(settings: Settings) -> None:
    """Remove what this run has left in Redis."""
    async with redis.asyncio.Redis.from_url(settings.redis_url) as client:
        async for key in client.scan_iter(match=f"evalx:v1:{settings.topic_prefix}:*", count=1000):
            await client.delete(key)


async def run(options: argparse.Namespace, place: Path) -> Figures:
    """Everything."""
    name = f"bench{secrets.token_hex(4)}"
    judged, idle = (Settings.load(topic_prefix=f"{name}.{kind}") for kind in ("judged", "idle"))
    stack = Stack(judged, place)
    try:
        async with topics(judged), topics(idle):
            return await measure(options, stack, judged, idle, place)
    finally:
        stack.stop()


async def measure(options: argparse.Namespace, stack: Stack, judged: Settings, idle: Settings, place: Path) -> Figures:
    """Start the parts, and give them their load."""
    ports = [free_port() for _ in range(3)]
    stack.start("worker", judged, ports[0])
    busy, lonely = stack.start("gateway", judged, ports[1]), stack.start("gateway", idle, ports[2])
    for port in ports:
        await ready(port)
    load = Load(options, judged, ports[1], busy.pid)
    await load.overhead()
    await load.burst()
    in_line = Load(options, idle, ports[2], lonely.pid)
    await in_line.wait_in_line()
    await in_line.wrk(place)
    figures = load.figures
    for name in ("waiting", "waiting_bytes", "waiting_cpu_ms"):
        setattr(figures, name, getattr(in_line.figures, name))
    figures.failed += in_line.figures.failed
    figures.wrk = in_line.figures.wrk
    return figures


async def ready(port: int) -> None:
    """Wait until a process says that it is ready."""
    deadline = time.monotonic() + READY_S
    async with aiohttp.ClientSession() as session:
        while time.monotonic() < deadline:
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get(f"http://127.0.0.1:{port}/readyz") as response:
                    if response.status == 200:
                        return
            await asyncio.sleep(0.2)
    raise ServiceUnavailableError("what was started", f"port {port}", f"it was not ready within {READY_S:g} s")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def as_markdown(figures: Figures) -> str:
    """The report for people."""
    rate = figures.batches * figures.tests_per_batch / figures.burst_s
    rows = [
        [f"{figures.batches} batches of {figures.tests_per_batch} tests, {figures.connections} connections",
         f"{figures.burst_s:.2f} s, {rate:.0f} tests/s, {figures.failed} failed, {figures.wrong} wrong"],
        ["until accepted, p50: HTTP, plain Kafka", f"{figures.accept_ms:.2f} ms, {figures.produce_ms:.2f} ms"],
        ["until answered, p50: HTTP, client over Kafka", f"{figures.answer_ms:.2f} ms, {figures.client_ms:.2f} ms"],
        [f"{figures.waiting} submissions that wait", f"{figures.waiting_bytes / 2**20:.1f} MiB more resident"],
        ["CPU of the gateway: a submission accepted, a batch answered",
         f"{figures.waiting_cpu_ms:.2f} ms, {figures.answer_cpu_ms:.2f} ms"],
        ["wrk on /execute-batch, not waited for", figures.wrk],
    ]  # fmt: skip
    musts = [[asked, found, "pass" if met else "**FAIL**"] for asked, found, met in figures.musts]
    return "\n\n".join([table(["", ""], rows), table(["must", "measured", ""], musts)])


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line; ends the process for --help and for wrong usage."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.gateway",
        description="The gateway under load, and what it adds to plain Kafka.",
        epilog="Example: python -m bench.gateway --batches 1000 --connections 100",
    )
    parser.add_argument("--batches", type=int, default=1000, metavar="N", help="of the burst (default: 1000)")
    parser.add_argument("--tests", type=int, default=20, metavar="N", help="tests in a batch (default: 20)")
    parser.add_argument("--programs", type=int, default=10, metavar="N", help="different sources (default: 10)")
    parser.add_argument("--connections", type=int, default=100, metavar="N", help="of the burst (default: 100)")
    parser.add_argument("--pairs", type=int, default=300, metavar="N", help="for what is added (default: 300)")
    parser.add_argument("--waiting", type=int, default=10_000, metavar="N", help="that wait (default: 10000)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bench and print the report; the exit code."""
    options = parse(arguments)

    def measured() -> Figures:
        with (
            tempfile.TemporaryDirectory(prefix="evalx-bench-") as name,
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            return runner.run(run(options, Path(name)))

    return conclude(measured, as_markdown, options.json, wrong=lambda figures: figures.failed or figures.wrong)


if __name__ == "__main__":
    sys.exit(main())
