"""The bound of containers over all workers, in a real Redis."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from integration_stack import Services

from evalx.cache import quota as quota_module
from evalx.cache.link import Link
from evalx.cache.quota import RedisQuota

BOUND = 12
#: Seconds for which a field counts here.
SHORT_QUOTA_S = 1.0
MakeQuota = Callable[..., Any]


@pytest.fixture(scope="module")
def redis_port(services: Services) -> int:
    return services.start_redis("quota")


@pytest.fixture
async def make(redis_port: int, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[MakeQuota]:
    """Makes quotas of workers on an empty Redis that counts as old."""
    links: list[Link] = []
    monkeypatch.setattr(quota_module, "YOUNG_S", 0.0)

    def make(owner: str, **changes: Any) -> RedisQuota:
        links.append(Link(f"redis://127.0.0.1:{redis_port}/0", timeout_ms=5000))
        options = {"prefix": "it", "owner": owner, "bound": BOUND, "most_workers": 4, **changes}
        return RedisQuota(links[-1], **options)

    await links_first(make).flushdb()
    yield make
    for link in links:
        await link.close()


def links_first(make: MakeQuota) -> Any:
    return make("nobody")._link.client


async def test_whoever_asks_gets_what_is_left(make: MakeQuota):
    one, two = make("one"), make("two")
    assert await one.claim(0, 8) == 8
    assert await two.claim(0, 4) == 4
    assert await one.claim(8, 9) == 8
    assert await one.claim(2, 2) == 2, "what is not wanted is free"
    assert await two.claim(4, 12) == 10


async def test_who_has_more_than_a_fair_share_gives_it_to_who_has_less(make: MakeQuota):
    one, two = make("one"), make("two")
    assert await one.claim(0, 12) == 12
    assert await two.claim(0, 3) == 0
    assert await one.claim(12, 12) == 6
    assert await two.claim(0, 3) == 0, "they are still there"
    assert await one.claim(6, 6) == 6
    assert await two.claim(0, 3) == 3
    assert await one.claim(6, 12) == 9, "nobody is short any more"


async def test_installations_on_one_redis_have_bounds_of_their_own(make: MakeQuota):
    assert await make("one").claim(0, 12) == 12
    assert await make("two", prefix="other").claim(0, 12) == 12


async def test_a_share_ends_with_its_owner(make: MakeQuota, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(quota_module, "QUOTA_S", SHORT_QUOTA_S)
    one, two = make("one"), make("two")
    assert await one.claim(0, 12) == 12
    assert await two.claim(0, 1) == 0
    await asyncio.sleep(SHORT_QUOTA_S + 0.1)
    assert await two.claim(0, 12) == 12
    assert await one.claim(0, 1) == 0, "it was stopped, and is back"


async def test_released_is_free_at_once(make: MakeQuota):
    one, two = make("one"), make("two")
    assert await one.claim(0, 12) == 12
    await one.release()
    assert await two.claim(0, 12) == 12
    await two.release()
    assert await links_first(make).hkeys(two._key) == [b"#born"]


async def test_a_redis_that_has_lost_everything_is_not_trusted_at_once(make: MakeQuota, monkeypatch: Any):
    one, two = make("one"), make("two")
    assert await one.claim(0, 5) == 5
    assert await two.claim(0, 6) == 6
    await links_first(make).flushdb()
    monkeypatch.setattr(quota_module, "YOUNG_S", 1.0)
    assert await two.claim(6, 12) == 6, "its share of two; nobody has told yet what is there"
    assert await make("new").claim(0, 12) == 3, "its share of four"
    assert await one.claim(5, 5) == 5 - 2, "what is left"
    await asyncio.sleep(1.1)
    assert await one.claim(3, 5) == 3, "what is left"
    assert await one.claim(0, 0) == 0
    assert await two.claim(6, 8) == 4, "a fair share of three, as the new one has less"


async def test_without_redis_each_has_a_share(make: MakeQuota):
    one, two = make("one"), make("two")
    await one.claim(0, 1)
    await two.claim(0, 1)
    for quota in (one, two, new := make("new")):
        await quota._link.close()
        quota._link.client = None
    assert await one.claim(0, 12) == 12, "it was alone when it last asked"
    assert await two.claim(0, 12) == 6
    assert await new.claim(0, 12) == 3, "as many workers as there can be"
    await new.release()


async def test_whatever_workers_do_the_sum_is_bounded(make: MakeQuota):
    """Workers that start what they are granted and remove what they are told to, in any order."""
    seed = random.randrange(1 << 30)
    chance, held = random.Random(seed), dict.fromkeys("abcd", 0)
    quotas = {name: make(name) for name in held}
    for _ in range(400):
        name = chance.choice("abcd")
        granted = await quotas[name].claim(held[name], chance.randrange(BOUND + 4))
        # Some only later, as containers take their time to go.
        held[name] = granted if granted >= held[name] else chance.randrange(granted, held[name] + 1)
        assert sum(held.values()) <= BOUND, f"seed {seed}: {held}"
