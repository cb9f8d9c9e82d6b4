"""Claims while Redis is away; what Redis makes of them is in ``tests/integration/test_leases.py``."""

from __future__ import annotations

import asyncio

import pytest
import redis.asyncio

from evalx.cache import claims as claims_module
from evalx.cache import link as link_module
from evalx.cache.claims import Claims
from evalx.cache.holding import Keeper
from evalx.cache.link import Link


def make(link: Link | None = None) -> Claims:
    return Claims(Keeper(link or Link(None, timeout_ms=50)), prefix="unit", ttl_s=60)


async def attempt_of(claims: Claims, submission_id: str, content: bytes = b"c") -> tuple[int, bool]:
    async with claims.hold(submission_id, content) as claim:
        return claim.attempt, claim.conflict


async def test_a_process_knows_its_own_ids():
    claims = make()
    assert await attempt_of(claims, "s-1") == (1, False)
    assert await attempt_of(claims, "s-1") == (2, False)
    assert await attempt_of(claims, "s-1", b"other") == (3, True)
    assert await attempt_of(claims, "s-1") == (3, False), "a conflict is no attempt"


async def test_an_answer_is_kept_for_repeats_of_this_content_only():
    claims = make()
    async with claims.hold("s-1", b"c") as claim:
        assert claim.answer is None
        assert await claims.end(claim, b"AC")
    async with claims.hold("s-1", b"c") as claim:
        assert claim.answer == b"AC"
    async with claims.hold("s-1", b"other") as claim:
        assert (claim.answer, claim.conflict) == (None, True)


async def test_an_id_is_in_progress_once():
    claims = make()
    order: list[str] = []

    async def judge(name: str) -> None:
        async with claims.hold("s-1", b"c"):
            order.append(f"{name} begins")
            await asyncio.sleep(0.01)
            order.append(f"{name} ends")

    await asyncio.gather(*(judge(name) for name in "abc"))
    assert order == [f"{name} {what}" for name in "abc" for what in ("begins", "ends")]


async def test_who_is_cancelled_keeps_nobody_waiting():
    claims = make()
    begun = asyncio.Event()

    async def judge() -> None:
        async with claims.hold("s-1", b"c"):
            begun.set()
            await asyncio.Event().wait()

    first = asyncio.create_task(judge())
    await begun.wait()
    second = asyncio.create_task(attempt_of(claims, "s-1"))
    waiting = asyncio.create_task(attempt_of(claims, "s-1"))
    await asyncio.sleep(0)
    second.cancel()
    first.cancel()
    assert await asyncio.wait_for(waiting, 5) == (2, False)
    await asyncio.gather(first, second, return_exceptions=True)


async def test_remembered_ids_are_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(claims_module, "MEMORY_CLAIMS", 10)
    claims = make()
    for number in range(50):
        await attempt_of(claims, f"s-{number}")
    assert len(claims._known) == 10
    assert await attempt_of(claims, "s-49") == (2, False)


def test_ids_of_which_redis_knows_more_are_bounded_as_well(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(claims_module, "MEMORY_CLAIMS", 10)
    claims = make()
    for number in range(50):
        here = claims_module.Claim(id=f"s-{number}", content=b"content", attempt=1)
        assert claims._understand(here, "token", 0.0, [b"done", 3, b"damaged"]).attempt == 3
    assert len(claims._known) == 10


class Flaky:
    """A Redis whose first answers are lost."""

    def __init__(self, lost: int) -> None:
        self.lost = lost
        self.calls = 0

    async def call(self) -> str:
        self.calls += 1
        if self.calls <= self.lost:
            raise redis.ConnectionError("reset")
        return "answer"


@pytest.mark.parametrize(("lost", "answer", "calls"), [(0, "answer", 1), (1, "answer", 2), (2, None, 2)])
async def test_a_call_whose_loss_would_show_is_made_twice(lost: int, answer: str | None, calls: int):
    flaky = Flaky(lost)
    assert await Link(None, timeout_ms=50).insist(flaky.call) == answer
    assert flaky.calls == calls


async def test_it_is_not_made_twice_while_redis_is_known_to_be_away(monkeypatch: pytest.MonkeyPatch):
    link = Link(None, timeout_ms=50)
    flaky = Flaky(100)
    await link.insist(flaky.call)
    monkeypatch.setattr(link_module, "INSIST_WITHIN_S", 0.0)
    for _ in range(10):
        assert await link.insist(flaky.call) is None
    assert flaky.calls == 2


async def test_what_redis_says_that_is_not_understood_is_as_if_it_said_nothing(monkeypatch: pytest.MonkeyPatch):
    claims = make()

    async def nonsense(*args: object) -> list[bytes]:
        return [b"taken", b"not a number"]

    monkeypatch.setattr(claims._link, "run", nonsense)
    assert await attempt_of(claims, "s-1") == (1, False)
