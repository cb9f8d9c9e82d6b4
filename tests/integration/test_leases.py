"""Leases in a real Redis: who judges what, who waits, who takes over, and who has been overtaken.

Kills the mutants "no lease renewal" and "claim by ``SET NX`` treated as done".
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from integration_stack import Services, Topics, docker, submission

from evalx.cache import claims as claims_module
from evalx.cache import flights as flights_module
from evalx.cache import holding, scripts
from evalx.cache.claims import Claim, Claims
from evalx.cache.flights import Flights, Lead
from evalx.cache.holding import Keeper
from evalx.cache.store import Store

#: Seconds, for leases that a test waits for; still several calls long.
SHORT_LEASE_S = 1.0


class Process:
    """What a worker process has of Redis. ``die`` leaves everything as SIGKILL would."""

    def __init__(self, url: str, prefix: str = "it") -> None:
        self.store = Store(url, timeout_ms=5000, ttl_s=600)
        self.keeper = Keeper(self.store.link)
        self.claims = Claims(self.keeper, prefix=prefix, ttl_s=600)
        self.flights = Flights(self.store, self.keeper)
        self.open: list[tuple[Any, Claim]] = []

    async def start(self) -> Process:
        await self.keeper.start()
        return self

    async def begin(self, submission_id: str, content: bytes = b"c" * 32) -> Claim:
        """Claim, and leave the claim open."""
        holding_it = self.claims.hold(submission_id, content)
        claim = await holding_it.__aenter__()
        self.open.append((holding_it, claim))
        return claim

    async def freeze(self) -> None:
        """Renew nothing any more."""
        self.keeper._stopping = True
        assert self.keeper._task is not None
        self.keeper._task.cancel()
        await asyncio.gather(self.keeper._task, return_exceptions=True)

    async def die(self) -> None:
        await self.freeze()
        for holding_it, claim in self.open:
            # What is left of it here must not give it back.
            claim.ended = True
            await holding_it.__aexit__(None, None, None)
        self.open.clear()
        await self.store.close()


@pytest.fixture(scope="module")
def redis_url(services: Services) -> str:
    return f"redis://127.0.0.1:{services.start_redis('leases')}/0"


@pytest.fixture
async def start(redis_url: str) -> AsyncIterator[Callable[..., Any]]:
    """Starts processes on an empty Redis."""
    started: list[Process] = []

    async def start(prefix: str = "it") -> Process:
        started.append(await Process(redis_url, prefix).start())
        return started[-1]

    await (await start()).store.link.client.flushdb()
    yield start
    for process in started:
        await process.die()


@pytest.fixture
def short_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (holding, claims_module, flights_module):
        monkeypatch.setattr(module, "LEASE_S", SHORT_LEASE_S)
    monkeypatch.setattr(holding, "RENEW_INTERVAL_S", SHORT_LEASE_S / 3)
    monkeypatch.setattr(holding, "MARGIN_S", SHORT_LEASE_S / 6)


# --- claims


async def test_an_id_is_counted_and_its_content_compared_over_all_workers(start: Callable[..., Any]):
    one, two = await start(), await start()
    for number, process in enumerate((one, two, one), 1):
        async with process.claims.hold("s-1", b"c") as claim:
            assert (claim.attempt, claim.conflict) == (number, False)
    async with two.claims.hold("s-1", b"other") as claim:
        assert claim.conflict
    async with two.claims.hold("s-1", b"c") as claim:
        assert (claim.attempt, claim.conflict) == (4, False)


async def test_ids_of_two_installations_on_one_redis_are_two(start: Callable[..., Any]):
    one, two = await start("one"), await start("two")
    async with one.claims.hold("s-1", b"c"), two.claims.hold("s-1", b"other") as claim:
        assert (claim.attempt, claim.conflict) == (1, False)


async def test_of_two_contents_at_once_one_is_a_conflict(start: Callable[..., Any]):
    one, two = await start(), await start()
    contents = (b"x", b"y")
    claims = await asyncio.gather(one.begin("s-1", contents[0]), two.begin("s-1", contents[1]))
    assert sorted(claim.conflict for claim in claims) == [False, True]


async def test_a_claim_without_an_answer_is_not_done(start: Callable[..., Any]):
    """Whoever claims and gives up leaves the id to be judged."""
    one, two = await start(), await start()
    async with one.claims.hold("s-1", b"c"):
        pass
    async with two.claims.hold("s-1", b"c") as claim:
        assert claim.answer is None
        assert (claim.deaths, claim.lone) == (0, 0)


async def test_an_id_in_progress_elsewhere_is_awaited_and_answered_the_same(start: Callable[..., Any]):
    one, two = await start(), await start()
    async with one.claims.hold("s-1", b"c") as first:
        waiting = asyncio.create_task(two.begin("s-1", b"c"))
        await asyncio.sleep(0.2)
        assert not waiting.done()
        assert await one.claims.end(first, b"TLE")
    # Long before the lease would have expired: it was told.
    second = await asyncio.wait_for(waiting, holding.LEASE_S / 2)
    assert (second.attempt, second.answer, second.lease) == (2, b"TLE", None)


async def test_who_waits_asks_hardly_ever(start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch):
    one, two = await start(), await start()
    calls = 0
    run = two.store.link.run

    async def counted(*arguments: Any) -> Any:
        nonlocal calls
        calls += arguments[0] == scripts.TAKE_CLAIM
        return await run(*arguments)

    monkeypatch.setattr(two.store.link, "run", counted)
    async with one.claims.hold("s-1", b"c"):
        waiting = asyncio.create_task(two.begin("s-1", b"c"))
        await asyncio.sleep(1.5)
    await asyncio.wait_for(waiting, 5)
    assert calls == 3


@pytest.mark.usefixtures("short_leases")
async def test_a_claim_lasts_as_long_as_it_is_renewed(start: Callable[..., Any]):
    one, two = await start(), await start()
    claim = await one.begin("s-1")
    waiting = asyncio.create_task(two.begin("s-1"))
    await asyncio.sleep(3 * SHORT_LEASE_S)
    assert not waiting.done()
    assert await one.claims.holds(claim)
    assert await one.claims.end(claim, b"AC")
    assert (await asyncio.wait_for(waiting, 5)).answer == b"AC"


@pytest.mark.usefixtures("short_leases")
async def test_a_claim_of_a_dead_worker_is_taken_over_with_a_higher_epoch(start: Callable[..., Any]):
    one, two = await start(), await start()
    first = await one.begin("s-1")
    await one.die()
    second = await asyncio.wait_for(two.begin("s-1"), 10)
    assert first.lease is not None
    assert second.lease is not None
    assert second.lease.epoch > first.lease.epoch
    assert (second.attempt, second.deaths, second.lone) == (2, 1, 1)


@pytest.mark.usefixtures("short_leases")
async def test_a_zombie_overwrites_nothing(start: Callable[..., Any]):
    zombie, other = await start(), await start()
    stale = await zombie.begin("s-1")
    await zombie.freeze()
    async with other.claims.hold("s-1", b"c" * 32) as claim:
        assert not await zombie.claims.holds(stale)
        await other.claims.end(claim, b"AC")
    assert not await zombie.claims.holds(stale)
    assert not await zombie.claims.end(stale, b"TLE")
    async with other.claims.hold("s-1", b"c" * 32) as repeat:
        assert repeat.answer == b"AC"


@pytest.mark.usefixtures("short_leases")
async def test_who_was_stopped_and_not_overtaken_still_holds(start: Callable[..., Any]):
    one = await start()
    claim = await one.begin("s-1")
    await one.freeze()
    await asyncio.sleep(1.5 * SHORT_LEASE_S)
    assert await one.claims.holds(claim)
    assert await one.claims.end(claim, b"AC")


@pytest.mark.usefixtures("short_leases")
async def test_a_redis_that_has_forgotten_gets_leases_back(start: Callable[..., Any]):
    one, two = await start(), await start()
    claim = await one.begin("s-1")
    await one.store.link.client.flushdb()
    await asyncio.sleep(SHORT_LEASE_S)
    waiting = asyncio.create_task(two.begin("s-1"))
    await asyncio.sleep(SHORT_LEASE_S)
    assert not waiting.done()
    assert await one.claims.end(claim, b"AC")
    assert (await asyncio.wait_for(waiting, 5)).answer == b"AC"


async def test_a_call_that_is_made_twice_counts_once(start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch):
    """As when only the answer to the first one was lost."""
    one = await start()
    link = one.store.link

    async def twice(make_call: Callable[[], Any]) -> Any:
        await link.ask(make_call())
        return await link.ask(make_call())

    monkeypatch.setattr(link, "insist", twice)
    claim = await one.begin("s-1", b"c")
    assert claim.attempt == 1
    assert await one.claims.end(claim, b"AC")
    monkeypatch.undo()
    other = await start()
    async with other.claims.hold("s-1", b"c") as repeat:
        assert (repeat.attempt, repeat.answer) == (2, b"AC")


async def test_what_was_passed_on_is_the_next_owners_to_publish(start: Callable[..., Any]):
    one, two = await start(), await start()
    async with one.claims.hold("s-1", b"c") as claim:
        assert await one.claims.pass_on(claim, b"AC")
    async with two.claims.hold("s-1", b"c") as claim:
        assert claim.answer == b"AC"


async def test_who_waits_in_vain_stops_waiting(start: Callable[..., Any]):
    one, two = await start(), await start()
    wanted = True
    async with one.claims.hold("s-1", b"c"):
        waiting = asyncio.create_task(two.claims.hold("s-1", b"c", lambda: wanted).__aenter__())
        await asyncio.sleep(0.2)
        assert not waiting.done()
        wanted = False
        assert await asyncio.wait_for(waiting, holding.LEASE_S / 2) is None


# --- poison


async def kill_with(start: Callable[..., Any], *ids: str) -> list[Claim]:
    """A worker that dies with these in progress."""
    process = await start()
    claims = [await asyncio.wait_for(process.begin(one), 10) for one in ids]
    await process.die()
    return claims


@pytest.mark.usefixtures("short_leases")
async def test_what_kills_two_workers_alone_is_poison_for_the_third(start: Callable[..., Any]):
    for _ in range(2):
        (claim,) = await kill_with(start, "bad")
        assert not claim.poison
    (third,) = await kill_with(start, "bad")
    assert third.poison


@pytest.mark.usefixtures("short_leases")
async def test_company_is_not_blamed(start: Callable[..., Any]):
    """What was in progress with a poison is judged alone, comes through, and is as good as new."""
    for _ in range(2):
        await kill_with(start, "bad", "good")
    survivor = await start()
    async with survivor.claims.hold("good", b"c" * 32) as claim:
        assert (claim.deaths, claim.lone, claim.suspect, claim.poison) == (2, 0, True, False)
        await survivor.claims.end(claim, None)
    async with survivor.claims.hold("good", b"c" * 32) as claim:
        assert claim.deaths == 0
    for _ in range(2):
        (claim,) = await kill_with(start, "bad")
        assert (claim.suspect, claim.poison) == (True, False)
    (claim,) = await kill_with(start, "bad")
    assert claim.poison


@pytest.mark.usefixtures("short_leases")
async def test_where_workers_are_killed_from_outside_nobody_is_blamed(start: Callable[..., Any]):
    for number in range(3):
        await kill_with(start, f"a-{number}", f"b-{number}")
        await kill_with(start, f"a-{number}")
    (claim,) = await kill_with(start, "slow")
    for _ in range(3):
        claim, _ = await kill_with(start, "slow", "other")
    assert claim.deaths == 3
    assert not claim.poison


@pytest.mark.usefixtures("short_leases")
async def test_an_expired_claim_of_a_living_worker_is_no_death(start: Callable[..., Any]):
    """Redis was away for a while: nobody died."""
    one, two = await start(), await start()
    claim = await one.begin("s-1")
    one.keeper.drop(claim.lease)
    taken = await asyncio.wait_for(two.begin("s-1"), 10)
    assert (taken.attempt, taken.deaths) == (2, 0)


# --- single flight


async def lead(process: Process, result: str) -> Lead:
    led = await process.flights.join(result)
    assert isinstance(led, Lead)
    return led


@pytest.mark.parametrize("keep", [True, False])
async def test_an_identical_batch_is_awaited_and_handed_over(start: Callable[..., Any], keep: bool):
    """Also when its outcome may not be kept, or those who wait would judge it one after another."""
    one, two, three = await start(), await start(), await start()
    leading = await lead(one, "batch")
    waiting = [asyncio.create_task(process.flights.join("batch")) for process in (two, three)]
    await asyncio.sleep(0.2)
    assert not any(task.done() for task in waiting)
    await leading.end(b"outcome", keep=keep)
    assert await asyncio.wait_for(asyncio.gather(*waiting), holding.LEASE_S / 2) == [b"outcome"] * 2
    assert await (await start()).store.get("result", "batch") == (b"outcome" if keep else None)


async def test_when_a_leader_fails_one_who_waits_leads(start: Callable[..., Any]):
    one, two, three = await start(), await start(), await start()
    leading = await lead(one, "batch")
    waiting = [asyncio.create_task(process.flights.join("batch")) for process in (two, three)]
    await asyncio.sleep(0.2)
    await leading.end(None)
    done, pending = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED, timeout=5)
    assert (len(done), len(pending)) == (1, 1)
    new_leader = done.pop().result()
    assert isinstance(new_leader, Lead)
    await new_leader.end(b"outcome")
    assert await asyncio.wait_for(pending.pop(), 5) == b"outcome"


@pytest.mark.usefixtures("short_leases")
async def test_a_leader_that_was_overtaken_stores_nothing(start: Callable[..., Any]):
    zombie, other = await start(), await start()
    stale = await lead(zombie, "batch")
    await zombie.freeze()
    leading = await lead(other, "batch")
    await leading.end(b"newer", keep=True)
    await stale.end(b"older", keep=True)
    assert await (await start()).store.get("result", "batch") == b"newer"
    assert zombie.store.memory.get("batch") is None


async def test_without_redis_everyone_judges_for_himself(services: Services):
    port = services.start_redis("leases-victim")
    one, two = [await Process(f"redis://127.0.0.1:{port}/0").start() for _ in range(2)]
    claim = await one.begin("s-1")
    leading = await lead(one, "batch")
    waiting = [asyncio.create_task(two.begin("s-1")), asyncio.create_task(two.flights.join("batch"))]
    await asyncio.sleep(0.2)
    docker("kill", services.container("leases-victim"))
    other, none = await asyncio.wait_for(asyncio.gather(*waiting), 30)
    assert (other.lease, other.conflict, other.deaths, none) == (None, False, 0, None)
    assert await one.claims.holds(claim)
    assert await one.claims.end(claim, b"AC")
    await leading.end(b"outcome", keep=True)
    for process in (one, two):
        await process.die()


# --- workers


async def test_two_workers_judge_what_is_sent_twice_once(open_topics: Callable[..., Topics], services: Services):
    """The same id on two partitions at once, other ids with the same batch, and a conflict, over two workers."""
    redis = services.next_redis()
    tests = [{"stdin": "2\n"}]
    limits = {"wall_time_ms": 60_000}
    async with open_topics("twice") as topics:
        workers = [topics.worker(redis_url=redis, container_pool_size=0) for _ in range(2)]
        await asyncio.gather(*(worker.ready() for worker in workers))
        nap = submission("python", "nap", tests=tests, limits=limits)
        for partition in range(12):
            await topics.submit({**nap, "id": "same", "cache": "bypass"}, partition=partition)
            await topics.submit({**nap, "id": f"other-{partition}"}, partition=partition)
        await topics.submit({**nap, "id": "same", "cache": "use"}, partition=3)
        await topics.result("same", 13)
        results = await topics.wait_for([f"other-{partition}" for partition in range(12)])
        repeats = [one.document for one in topics.results["same"]]
        judged = [one for one in repeats if one["status"] == "judged"]
        assert len(judged) == 12
        assert [one["error"]["code"] for one in repeats if one["status"] == "rejected"] == ["conflict"]
        assert sorted(one["attempt"] for one in judged) == list(range(1, 13))
        assert [one["source"] for one in judged].count("executed") == 1
        assert len({one["tests"][0]["cpu_time_ms"] for one in judged}) == 1
        assert [one["source"] for one in results.values()].count("executed") == 1
        assert {one["worker"] for one in [*repeats, *results.values()]} == {worker.name for worker in workers}
        for worker in workers:
            assert (await worker.stop())[0] == 0
