"""The caches on a real Redis that forgets, stands still, has no room or holds nonsense: verdicts are right.

Sandboxes are a Python function here, but for the last test: what is looked at is what Redis is asked, and believed.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest
import redis.asyncio
from integration_stack import Services, Topics, docker, eventually, submission

from evalx.cache.claims import Asked, Claims, Known
from evalx.cache.flights import Flights
from evalx.cache.holding import Keeper
from evalx.cache.keys import Keys
from evalx.cache.store import Store
from evalx.cache.values import unpack
from evalx.engine import Engine, Judgement
from evalx.languages import Registry
from evalx.messages import Submission, decode_submission
from evalx.metrics import REDIS_AVAILABLE, REDIS_FAILURES
from evalx.settings import Settings
from evalx.testing import FakeSandbox

REGISTRY = Registry.load()
RULES = REGISTRY.rules(Settings())


def batch(number: int, tests: int = 5, **fields: Any) -> Submission:
    """A batch whose programs echo; every third test expects something else."""
    cases = [{"stdin": f"{n}", "expected_output": f"{n}" if n % 3 else "x"} for n in range(number, number + tests)]
    document = {"id": f"s-{number}", "language": "cpp", "code": f"int main; // {number % 7}", "tests": cases, **fields}
    return decode_submission(msgspec.json.encode(document), RULES)


def right(judgement: Judgement, one: Submission) -> bool:
    return [test.verdict.value for test in judgement.tests] == [
        "AC" if test.stdin == test.expected_output else "WA" for test in one.tests
    ]


class Process:
    """What a worker process has, but for Kafka and containers."""

    def __init__(self, url: str, timeout_ms: int = 5000, secret: str | None = None) -> None:
        self.store = Store(url, timeout_ms=timeout_ms, ttl_s=600)
        self.keeper = Keeper(self.store.link)
        keys = Keys(secret)
        self.claims = Claims(self.keeper, prefix="it", ttl_s=600, hashes=keys)
        self.sandbox = FakeSandbox()
        flights = Flights(self.store, self.keeper)
        self.engine = Engine(REGISTRY, self.sandbox, self.store, flights, keys=keys)

    async def judge(self, one: Submission) -> Judgement:
        judgement = await self.engine.judge(one)
        await self.engine.remember(one, judgement)
        return judgement

    def asked(self, one: Submission, content: bytes = b"c" * 32) -> Asked:
        return Asked(one.id, content, self.engine.case(one).keys.result)

    async def close(self) -> None:
        await self.keeper.stop()
        await self.store.close()


@pytest.fixture(scope="module")
def own_redis(services: Services) -> str:
    return f"redis://127.0.0.1:{services.start_redis('cache')}/0"


@pytest.fixture
async def client(own_redis: str) -> AsyncIterator[Any]:
    client = redis.asyncio.Redis.from_url(own_redis)
    await client.flushall()
    await client.config_set("maxmemory", "512mb")
    yield client
    await client.aclose()


@pytest.fixture
async def start(own_redis: str, client: Any) -> AsyncIterator[Callable[..., Process]]:
    started: list[Process] = []

    def make(**options: Any) -> Process:
        started.append(Process(own_redis, **options))
        return started[-1]

    yield make
    for process in started:
        await process.close()


async def test_a_batch_of_another_worker_that_shares_15_of_20_tests_runs_5(start: Callable[..., Process]):
    one, two = start(), start()
    await one.judge(batch(0, tests=20))
    shifted = batch(0, tests=20)
    shifted = msgspec.structs.replace(shifted, tests=(*shifted.tests[5:], *batch(100, tests=5).tests))
    judgement = await two.judge(shifted)
    assert right(judgement, shifted)
    assert [len(job.inputs) for job in two.sandbox.jobs] == [5], "and nothing is compiled"
    assert [test.cached for test in judgement.tests] == [True] * 15 + [False] * 5


async def test_everything_in_redis_has_an_end_and_a_version(start: Callable[..., Process], client: Any):
    process = start()
    for number in range(3):
        await process.judge(batch(number))
    await process.claims.answer_known([process.asked(batch(0))])
    await process.store.tally.send()
    names = [name.decode() async for name in client.scan_iter()]
    assert {name.split(":")[2] for name in names if name.startswith("evalx:")} >= {"result", "test", "artifact", "it"}
    assert all(name.startswith(("evalx:v2:", "cache:")) for name in names)
    for name in names:
        assert await client.ttl(name) > 0, name


async def test_hits_and_misses_are_counted_for_all_workers(start: Callable[..., Process], client: Any):
    one, two = start(), start()
    await one.judge(batch(0))
    await two.judge(batch(0))
    await one.store.tally.send()
    await two.store.tally.send()
    assert [await client.get(name) for name in ("cache:hits", "cache:misses")] == [b"1", b"1"]
    levels = await client.hgetall("cache:levels")
    assert (levels[b"result:hit"], levels[b"result:miss"], levels[b"test:miss"]) == (b"1", b"1", b"5")


@pytest.mark.parametrize("how", ["at random", "no room"])
async def test_whatever_is_evicted_verdicts_are_right(start: Callable[..., Process], client: Any, how: str):
    workers = [start(), start()]
    dice = random.Random(7)
    if how == "no room":
        used = (await client.info("memory"))["used_memory"]
        await client.config_set("maxmemory", used + 100_000)

    stop = asyncio.Event()

    async def evict() -> None:
        # Not cancelled: the client has been seen to swallow that.
        while not stop.is_set():
            if (name := await client.randomkey()) is not None:
                await client.delete(name)
            await asyncio.sleep(0)

    async def work(worker: Process) -> None:
        for _ in range(40):
            one = batch(dice.randrange(12), tests=dice.choice([3, 5, 30]))
            async with worker.claims.hold(f"{one.id}-{len(one.tests)}", b"c" * 32) as claim:
                assert claim is not None
                judgement = await worker.judge(one)
                assert right(judgement, one)
                await worker.claims.end(claim, worker.engine.pack(one, judgement))
            (known,) = await worker.claims.answer_known([worker.asked(one)])
            if known is not None:
                answer = worker.engine.unpack(one, unpack(known.packed) or b"")
                assert answer is None or right(answer, one)
            worker.store.memory._values.clear()

    evicting = [asyncio.create_task(evict())] if how == "at random" else []
    try:
        async with asyncio.timeout(120):
            await asyncio.gather(*map(work, workers))
    finally:
        stop.set()
        await asyncio.gather(*evicting)
    if how == "no room":
        assert (await client.info("stats"))["evicted_keys"] > 0


async def test_nonsense_in_redis_is_not_believed(start: Callable[..., Process], client: Any):
    one = start()
    for number in range(4):
        await one.judge(batch(number))
    names = [name async for name in client.scan_iter() if b":lease" not in name]
    values = [await client.get(name) for name in names]
    for name, other in zip(names, [*values[1:], values[0]], strict=True):
        kind = random.Random(name).randrange(3)
        if kind == 0:
            await client.set(name, other)
        elif kind == 1:
            await client.set(name, b"nonsense")
        else:
            await client.delete(name)
            await client.lpush(name, "a list")
    two = start()
    for number in range(4):
        expected = batch(number)
        (known,) = await two.claims.answer_known([two.asked(expected)])
        value = None if known is None else unpack(known.packed, two.asked(expected).result)
        assert value is None or two.engine.unpack(expected, value) is None
        assert right(await two.judge(expected), expected)
    assert REDIS_AVAILABLE._value.get() == 1, "it answers"


async def test_with_a_secret_known_code_cannot_be_looked_for(start: Callable[..., Process], client: Any):
    await start(secret="only-we-know-this").judge(batch(0))
    names = {name async for name in client.scan_iter() if not name.startswith(b"cache:")}
    await client.flushall()
    await start().judge(batch(0))
    assert not names & {name async for name in client.scan_iter()}


@contextlib.asynccontextmanager
async def delayed(url: str, delay_s: float) -> AsyncIterator[str]:
    """A way to the same Redis on which every answer is late; the database's name stays."""
    address, _, database = url.removeprefix("redis://").rpartition("/")
    host, port = address.split(":")

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, pause_s: float) -> None:
        with contextlib.suppress(OSError), contextlib.closing(sink):
            while chunk := await source.read(1 << 16):
                await asyncio.sleep(pause_s)
                sink.write(chunk)
                await sink.drain()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind, before = await asyncio.open_connection(host, int(port))
        await asyncio.gather(pump(reader, before, 0.0), pump(behind, writer, delay_s))

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/{database}"


async def test_a_redis_that_is_slow_is_left_alone(start: Callable[..., Process], own_redis: str):
    """Every answer takes twice the limit: a few calls wait for it in vain, and the others ask nothing."""
    before = REDIS_FAILURES.labels("slow")._value.get()
    async with delayed(own_redis, 0.1) as url:
        process = Process(url, timeout_ms=50)
        try:
            for number in range(10):
                assert right(await process.judge(batch(number)), batch(number))
            runs = process.sandbox.runs
            for number in range(10):
                assert right(await process.judge(batch(number)), batch(number))
            assert process.sandbox.runs == runs, "memory knows them"
            assert REDIS_AVAILABLE._value.get() == 0
            assert 0 < REDIS_FAILURES.labels("slow")._value.get() - before < 10
        finally:
            await process.close()
    assert right(await start().judge(batch(0)), batch(0))


class TestAnswerKnown:
    async def ask(self, process: Process, one: Submission, content: bytes = b"c" * 32) -> Known | None:
        return (await process.claims.answer_known([process.asked(one, content)]))[0]

    async def test_a_batch_is_known_and_then_the_id_is(self, start: Callable[..., Process], client: Any):
        one, two = start(), start()
        await one.judge(batch(0))
        again = msgspec.structs.replace(batch(0), id="again")
        first = await self.ask(two, again)
        assert first is not None
        assert (first.attempt, first.own) == (1, False)
        await client.delete(two.asked(again).result)
        second = await self.ask(start(), again)
        assert second is not None
        assert (second.attempt, second.own, second.packed) == (2, True, first.packed)

    async def test_what_nobody_knows_is_left_as_it_is(self, start: Callable[..., Process], client: Any):
        assert await self.ask(start(), batch(0)) is None
        assert not [name async for name in client.scan_iter()]

    async def test_an_id_with_other_content_is_left_to_the_claim(self, start: Callable[..., Process]):
        one, two = start(), start()
        await one.judge(batch(0))
        assert await self.ask(one, batch(0), b"c" * 32) is not None
        assert await self.ask(two, batch(0), b"other" * 6) is None

    async def test_an_id_that_is_being_judged_is_left_to_the_claim(self, start: Callable[..., Process]):
        one, two = start(), start()
        await one.judge(batch(0))
        async with one.claims.hold("s-0", b"c" * 32):
            assert await self.ask(two, batch(0)) is None
            assert await self.ask(one, batch(0)) is None
        assert await self.ask(two, batch(0)) is not None

    async def test_each_of_many_gets_its_own_answer(self, start: Callable[..., Process]):
        process = start()
        for number in (0, 2):
            await process.judge(batch(number))
        asked = [process.asked(batch(number)) for number in (0, 1, 2, 0)]
        answers = await process.claims.answer_known(asked)
        assert [None if known is None else known.attempt for known in answers] == [1, None, 1, 2]
        for one, known in zip((batch(0), batch(2)), (answers[0], answers[2]), strict=True):
            assert known is not None
            judgement = process.engine.unpack(one, unpack(known.packed) or b"")
            assert judgement is not None
            assert right(judgement, one)

    async def test_while_redis_stands_still_memory_answers(self, start: Callable[..., Process], services: Services):
        process = start(timeout_ms=1000)
        await process.judge(batch(0))
        docker("pause", services.container("cache"))
        try:
            asked = [process.asked(batch(0)), process.asked(batch(1))]
            known, unknown = await process.claims.answer_known(asked, process.store.memory.get)
            assert unknown is None
            assert known is not None
            assert (known.attempt, known.own) == (1, False)
            assert REDIS_AVAILABLE._value.get() == 0
            assert right(await process.judge(batch(1)), batch(1)), "what is not known is judged without it"
            (again,) = await process.claims.answer_known(asked[:1], process.store.memory.get)
            assert again is not None
            assert (again.attempt, again.own) == (2, True)
        finally:
            docker("unpause", services.container("cache"))
        await eventually(lambda: REDIS_AVAILABLE._value.get() == 1, "Redis is used again", 30)
        assert await process.store.ping()


async def test_a_worker_answers_from_memory_while_redis_stands_still(
    open_topics: Callable[..., Topics], services: Services
):
    port = services.start_redis("still")
    url = f"redis://127.0.0.1:{port}/0"
    async with open_topics("still") as topics:
        worker = await topics.worker(redis_url=url, redis_timeout_ms=500, container_pool_size=0).ready()
        (first,) = await topics.judge(submission())
        assert first["source"] == "executed"

        async def known() -> bool:
            return bool((await topics.judge(submission()))[0]["source"] == "result_cache")

        # It is stored when it is published: who asks at that moment may still join.
        await eventually(known, "it is known")
        docker("pause", services.container("still"))
        try:
            results = await topics.judge(*[submission() for _ in range(20)])
            # The first of them may have been looked up when Redis had not been missed yet.
            assert {result["verdict"] for result in results} == {"AC"}
            assert {result["source"] for result in results} == {"result_cache"}
            await eventually(lambda: b"evalx_redis_available 0.0" in worker.health("/metrics")[1], "it is missed")
        finally:
            docker("unpause", services.container("still"))
        await eventually(lambda: b"evalx_redis_available 1.0" in worker.health("/metrics")[1], "Redis is back")
        assert worker.events("redis_unavailable")
        assert await known()
        async with contextlib.AsyncExitStack() as stack:
            client = redis.asyncio.Redis.from_url(url)
            stack.push_async_callback(client.aclose)
            await eventually(lambda: client.get("cache:hits"), "hits are counted")
        assert (await worker.stop())[0] == 0
