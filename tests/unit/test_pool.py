"""What the pool does with its containers. Those here start and answer as they are told; see the integration tests for
real ones."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiodocker
import pytest

from evalx.errors import DockerUnavailableError, PoolExhaustedError, SandboxFaultError
from evalx.sandbox import pool as pool_module
from evalx.sandbox.elastic import Bounds
from evalx.sandbox.pool import Pool, PoolLimits
from evalx.sandbox.spec import ContainerSpec

IMAGES = ("c", "java", "python")
#: Seconds; a bound for hangs.
LIMIT_S = 20.0


class FakeContainer:
    def __init__(self, spec: ContainerSpec, number: int) -> None:
        self.spec = spec
        self.id = f"{spec.image}-{number}"
        self.jobs_done = 0
        self.reusable = True
        self.is_connected = True
        self.answers = True
        self.kept: tuple[int, ...] = ()
        self.world: World

    def holds(self, ids: tuple[int, ...]) -> bool:
        return set(ids) <= set(self.kept)

    async def ping(self) -> None:
        self.world.pings += 1
        if not self.answers:
            raise SandboxFaultError(message="silent")

    async def close(self) -> None:
        self.world.removing += 1
        await self.world.removal.wait()
        self.world.removing -= 1
        self.world.there.discard(self)


class World:
    """The daemon: starts take until they are let through, and fail as they are told."""

    def __init__(self) -> None:
        self.there: set[FakeContainer] = set()
        self.most = 0
        self.begun: list[str] = []
        self.starting = 0
        self.removing = 0
        self.pings = 0
        self.go, self.removal = asyncio.Event(), asyncio.Event()
        self.go.set()
        self.removal.set()
        self.faults: dict[str, Exception] = {}
        self._numbers = itertools.count()

    async def start(self, _docker: Any, spec: ContainerSpec) -> FakeContainer:
        self.begun.append(spec.image)
        container = FakeContainer(spec, next(self._numbers))
        container.world = self
        self.there.add(container)
        self.most = max(self.most, len(self.there))
        self.starting += 1
        try:
            await self.go.wait()
            if spec.image in self.faults:
                raise self.faults[spec.image]
        except BaseException:
            self.there.discard(container)
            raise
        finally:
            self.starting -= 1
        return container

    def names(self) -> list[str]:
        return sorted(one.spec.image for one in self.there)


class FixedQuota:
    def __init__(self, count: int) -> None:
        self.count = count
        self.claims: list[tuple[int, int]] = []
        self.released = False

    async def claim(self, held: int, want: int) -> int:
        self.claims.append((held, want))
        return min(want, self.count)

    async def release(self) -> None:
        self.released = True


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    real = pool_module.Container.start

    async def start(docker: aiodocker.Docker | None, spec: ContainerSpec) -> Any:
        # The real pool of an earlier test may still live on this event loop, and start what it lacks.
        return await (world.start(docker, spec) if docker is None else real(docker, spec))

    monkeypatch.setattr(pool_module.Container, "start", start)
    return world


@pytest.fixture
async def make_pool(world: World) -> AsyncIterator[Callable[..., Any]]:
    """Starts pools, and closes them at the end; nothing may be left."""
    pools: list[Pool] = []

    async def make(warm: tuple[str, ...] = IMAGES, quota: Any = None, jobs: int = 1000, **bounds: Any) -> Pool:
        chosen = {"floor": len(warm), "useful": 2, "scale_up": 0.9, "scale_down": 0.1, **bounds}
        limits = PoolLimits(cap=chosen.pop("cap", 5), max_jobs_per_container=jobs, bounds=Bounds(**chosen))
        spec = {"labels": {}, "memory_bytes": 1, "pids": 1, "work_bytes": 1, "work_inodes": 1}
        pools.append(Pool(None, {image: ContainerSpec(image=image, **spec) for image in IMAGES}, limits, quota))  # type: ignore[arg-type]
        await pools[-1].start(warm)
        return pools[-1]

    yield make
    world.go.set()
    world.removal.set()
    for pool in pools:
        await pool.close()
        assert pool.size == 0
    assert not world.there


async def eventually(holds: Callable[[], Any]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not holds():  # noqa: ASYNC110  what is waited for has no event
            await asyncio.sleep(0.005)


async def hold(pool: Pool, image: str, over: asyncio.Event) -> None:
    async with pool.acquire(image):
        await over.wait()


async def test_an_idle_container_is_taken_without_a_turn_of_the_loop(make_pool: Any, world: World):
    pool = await make_pool()
    taking = pool._take("c")
    with pytest.raises(StopIteration) as stopped:
        taking.send(None)
    container = stopped.value.value
    assert container.spec.image == "c"
    pool._give_back(container, clean=True)
    assert world.begun == list(IMAGES)


async def test_the_one_that_keeps_the_files_or_was_used_last_is_taken(make_pool: Any):
    pool = await make_pool(("c", "c", "c"))
    async with pool.acquire("c") as first, pool.acquire("c") as second:
        pass
    async with pool.acquire("c") as again:
        assert again is first, "it was given back last"
    second.kept = (7,)
    async with pool.acquire("c", (7,)) as wanted:
        assert wanted is second
    async with pool.acquire("c", (8,)) as other:
        assert other is second


async def test_who_finds_none_idle_gets_the_first_that_comes_free(make_pool: Any, world: World):
    pool = await make_pool()
    async with pool.acquire("c") as first:
        world.go.clear()
        waiting = asyncio.create_task(pool._take("c"))
        await eventually(lambda: world.starting == 1)
    assert await asyncio.wait_for(waiting, LIMIT_S) is first
    world.go.set()
    await eventually(lambda: pool.state.idle == 3)
    pool._give_back(first, clean=True)
    assert pool.state.idle == 4


async def test_who_gives_up_takes_nothing_along(make_pool: Any, world: World):
    pool = await make_pool()
    over = asyncio.Event()
    holder = asyncio.create_task(hold(pool, "c", over))
    await asyncio.sleep(0)
    waiting = asyncio.create_task(pool._take("c"))
    await asyncio.sleep(0)
    over.set()
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, holder, return_exceptions=True)
    await eventually(lambda: pool.state.busy == 0)
    assert not pool._shelves["c"].waiting


async def test_a_cancelled_wait_leaves_the_start_to_others(make_pool: Any, world: World):
    pool = await make_pool(())
    world.go.clear()
    waiting = asyncio.create_task(pool._take("c"))
    await eventually(lambda: world.starting == 1)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    world.go.set()
    await eventually(lambda: pool.state.idle == 1)


async def test_as_many_starts_as_wait(make_pool: Any, world: World):
    pool = await make_pool((), cap=5)
    over = asyncio.Event()
    world.go.clear()
    holders = [asyncio.create_task(hold(pool, "c", over)) for _ in range(3)]
    await eventually(lambda: world.starting == 3)
    world.go.set()
    await eventually(lambda: pool.state.busy == 3)
    over.set()
    await asyncio.gather(*holders)
    assert world.begun == ["c"] * 3


async def test_a_full_pool_removes_before_it_starts(make_pool: Any, world: World):
    pool = await make_pool(cap=3)
    async with pool.acquire("java"):
        pass
    world.removal.clear()
    over = asyncio.Event()
    holders = [asyncio.create_task(hold(pool, "python", over)) for _ in range(2)]
    await eventually(lambda: world.removing == 1)
    assert world.begun == list(IMAGES), "the place is not free yet"
    world.removal.set()
    await eventually(lambda: pool.state.busy == 2)
    assert world.names() == ["java", "python", "python"], "c was used longest ago"
    assert world.most == 3
    over.set()
    await asyncio.gather(*holders)


async def test_when_all_places_are_busy_the_next_free_one_makes_room(make_pool: Any, world: World):
    pool = await make_pool(("c", "c"), cap=2)
    over = asyncio.Event()
    holders = [asyncio.create_task(hold(pool, "c", over)) for _ in range(2)]
    await eventually(lambda: pool.state.busy == 2)
    other = asyncio.create_task(hold(pool, "java", over))
    await asyncio.sleep(0.05)
    assert world.names() == ["c", "c"]
    over.set()
    await asyncio.gather(*holders, other)
    assert world.most == 2


async def test_no_place_in_time_is_said(make_pool: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pool_module, "ACQUIRE_TIMEOUT_S", 0.05)
    pool = await make_pool(("c",), cap=1)
    async with pool.acquire("c"):
        with pytest.raises(PoolExhaustedError, match="no container of java came free: 0 idle, 1 busy"):
            async with pool.acquire("java"):
                pass


@pytest.mark.parametrize("how", ["dirty", "retired", "fault"])
async def test_what_cannot_serve_again_is_replaced_in_the_background(make_pool: Any, world: World, how: str):
    pool = await make_pool(("c",), jobs=1 if how == "retired" else 9, cap=1)
    try:
        async with pool.acquire("c") as container:
            container.jobs_done += 1
            container.reusable = how != "dirty"
            if how == "fault":
                raise SandboxFaultError
    except SandboxFaultError:
        pass
    await eventually(lambda: pool.state.idle == 1)
    assert container not in world.there
    assert (world.begun, world.most) == (["c", "c"], 1)


async def test_a_dead_one_is_not_handed_out_and_replaced(make_pool: Any, world: World):
    pool = await make_pool(("c", "c"))
    dead = pool._shelves["c"].idle[-1].container
    dead.is_connected = False
    async with pool.acquire("c") as container:
        assert container is not dead
    await eventually(lambda: pool.state.idle == 2)
    assert dead not in world.there


async def test_what_is_being_asked_when_the_pool_closes_goes_too(make_pool: Any, world: World):
    pool = await make_pool(("c",))
    (shelf,) = [one for one in pool._shelves.values() if one.idle]
    pool._look_at_idle(shelf, asyncio.get_running_loop().time() + 2 * pool_module.PING_INTERVAL_S)
    assert pool.state.checking == 1
    # The question has not even begun.
    await pool.close()
    assert (pool.size, world.there) == (0, set())


async def test_idle_ones_are_asked_and_those_that_do_not_answer_replaced(
    make_pool: Any, world: World, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(pool_module, "TICK_S", 0.01)
    monkeypatch.setattr(pool_module, "PING_INTERVAL_S", 0.04)
    pool = await make_pool()
    silent = pool._shelves["java"].idle[0].container
    silent.answers = False
    await eventually(lambda: silent not in world.there and world.names() == sorted(IMAGES))
    pings = world.pings
    await eventually(lambda: world.pings > pings + 10)
    assert pool.state.starting == 0


async def test_refills_come_one_at_a_time(make_pool: Any, world: World):
    """A storm of starts would take the CPU from running tests."""
    pool = await make_pool(("c", "c", "c", "c"), cap=4)
    world.go.clear()
    for entry in pool._shelves["c"].idle:
        entry.container.is_connected = False
    pool._tick(0, 1)
    await eventually(lambda: world.starting == 1)
    await asyncio.sleep(0.1)
    assert world.starting == 1
    world.go.set()
    await eventually(lambda: pool.state.idle == 4)


async def test_a_daemon_that_fails_opens_the_breaker_and_holds_jobs_back(
    make_pool: Any, world: World, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(pool_module, "DAEMON_PATIENCE_S", 0.2)
    pool = await make_pool(("c",))
    world.faults = dict.fromkeys(IMAGES, DockerUnavailableError(message="no daemon"))
    with pytest.raises(DockerUnavailableError, match="no daemon"):
        async with pool.acquire("java"):
            pass
    begun = len(world.begun)
    with pytest.raises(DockerUnavailableError, match="no daemon"):
        async with pool.acquire("java"):
            pass
    assert len(world.begun) == begun, "nobody asks a daemon that is away for each job"
    await pool.usable("c")
    pool._daemon._retry_at += 1000
    with pytest.raises(DockerUnavailableError):
        await pool.usable("java")
    assert "the daemon is in trouble: no daemon" in pool.state.troubles
    async with pool.acquire("c"):
        pass
    world.faults.clear()
    pool._daemon._retry_at = 0
    async with pool.acquire("java"):
        pass
    assert not pool.state.troubles


async def test_a_crash_looping_image_is_said_and_does_not_hinder_others(make_pool: Any, world: World):
    pool = await make_pool(())
    world.faults = {"java": SandboxFaultError(message="image java did not greet")}
    for _ in range(3):
        with pytest.raises(SandboxFaultError, match="did not greet"):
            async with pool.acquire("java"):
                pass
        pool._shelves["java"].breaker._retry_at = 0
    assert pool._daemon.is_closed
    (trouble,) = pool.state.troubles
    assert trouble == "java is crash-looping (3 starts failed): image java did not greet"
    async with pool.acquire("c"):
        pass
    world.faults.clear()
    async with pool.acquire("java"):
        pass
    assert not pool.state.troubles


async def test_a_refusal_by_the_daemon_is_the_images_own(make_pool: Any, world: World):
    pool = await make_pool(())
    fault = DockerUnavailableError(message="no such image")
    fault.__cause__ = aiodocker.DockerError(404, "no such image")
    world.faults = {"java": fault}
    with pytest.raises(DockerUnavailableError):
        async with pool.acquire("java"):
            pass
    assert (pool._daemon.is_closed, pool._shelves["java"].breaker.failures) == (True, 1)


async def test_one_image_that_does_not_start_keeps_no_worker_from_starting(make_pool: Any, world: World):
    world.faults = {"java": SandboxFaultError(message="broken")}
    pool = await make_pool()
    assert pool.state.idle == 2
    world.faults = dict.fromkeys(IMAGES, DockerUnavailableError(message="no daemon"))
    with pytest.raises(DockerUnavailableError):
        await make_pool()


async def test_the_quota_bounds_and_is_asked_only_for_more(make_pool: Any, world: World):
    quota = FixedQuota(2)
    pool = await make_pool((), quota, cap=4)
    over = asyncio.Event()
    holders = [asyncio.create_task(hold(pool, image, over)) for image in ("c", "java", "python")]
    await eventually(lambda: pool.state.busy == 2 and pool._places.is_short)
    assert quota.claims == [(0, 0), (0, 1), (1, 2), (2, 3)]
    assert any("only 2 containers are allowed here" in one for one in pool.state.troubles)
    assert world.most == 2
    over.set()
    await asyncio.gather(*holders)
    assert world.most == 2
    await pool.close()
    assert quota.released


async def test_what_the_quota_takes_back_goes_idle_ones_first(make_pool: Any, world: World):
    quota = FixedQuota(5)
    pool = await make_pool(("c", "c", "java", "python"), quota)
    over = asyncio.Event()
    holders = [asyncio.create_task(hold(pool, image, over)) for image in ("c", "java")]
    await eventually(lambda: pool.state.busy == 2)
    quota.count = 1
    await pool._renew_and_obey(4)
    await eventually(lambda: world.names() == ["c", "java"])
    over.set()
    await asyncio.gather(*holders)
    await eventually(lambda: len(world.there) == 1)


async def test_a_grant_that_was_not_renewed_is_asked_for_again(make_pool: Any, world: World):
    """The process was stopped: its share may be another worker's by now."""
    quota = FixedQuota(5)
    pool = await make_pool(("c",), quota)
    pool._places._granted_at -= 1000
    before = len(quota.claims)
    async with pool.acquire("java"):
        pass
    assert len(quota.claims) == before + 1


async def test_closing_lets_a_job_end_and_leaves_nothing(make_pool: Any, world: World):
    pool = await make_pool(("c", "java"), cap=2)
    over = asyncio.Event()
    holder = asyncio.create_task(hold(pool, "c", over))
    await asyncio.sleep(0)
    waiting = asyncio.create_task(pool._take("c"))
    await asyncio.sleep(0)
    await pool.close()
    with pytest.raises(PoolExhaustedError, match="closed"):
        await waiting
    assert world.names() == ["c"]
    over.set()
    await holder
    assert not world.there


async def test_closing_ends_who_waits_for_a_change_that_comes_at_that_moment(make_pool: Any, world: World):
    """Nothing may be started any more, or it would be removed and started again for as long as somebody waits."""
    pool = await make_pool(("c",), cap=1)
    async with asyncio.timeout(LIMIT_S), pool.acquire("c"):
        waiting = asyncio.create_task(pool._take("python"))
        await eventually(lambda: bool(pool._changed._waiters))
        begun = len(world.begun)
        pool._changed.fire()
        await pool.close()
        with pytest.raises(PoolExhaustedError, match="closed"):
            await waiting
        assert len(world.begun) == begun


async def test_random_load_keeps_count(make_pool: Any, world: World):
    pool = await make_pool(cap=4)

    async def job(number: int) -> None:
        async with pool.acquire(IMAGES[number % 7 % 3]) as container:
            container.jobs_done += 1
            await asyncio.sleep(0.001 * (number % 5))
            if number % 23 == 0:
                raise SandboxFaultError
            if number % 17 == 0:
                await asyncio.sleep(10)

    jobs = [asyncio.create_task(job(number)) for number in range(200)]
    await asyncio.sleep(0.02)
    for number in range(0, 200, 17):
        await asyncio.sleep(0.005)
        jobs[number].cancel()
    for number in range(0, 200, 17):
        jobs[number].cancel()
    await asyncio.wait_for(asyncio.gather(*jobs, return_exceptions=True), LIMIT_S)
    await eventually(lambda: not pool._removals and pool.state.starting == 0)
    assert (pool.size, pool.state.busy) == (pool.state.idle, 0)
    assert world.most <= 4
