"""The way of one record whose claim is another's, was overtaken, or has failed before."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from pipeline_scene import Rig, message, until

from evalx import engine as engine_module
from evalx.agents import pulse as pulse_module
from evalx.cache.claims import Claim, Claims
from evalx.cache.holding import Keeper
from evalx.cache.link import Link
from evalx.testing import FakeSandbox


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "RETRY_PAUSES_S", (0.0, 0.0, 0.0))


class HeldClaims(Claims):
    """Claims of which Redis says what the test wants."""

    def __init__(self, **known: Any) -> None:
        super().__init__(Keeper(Link(None, timeout_ms=50)), prefix="unit", ttl_s=60)
        self.known = known
        self.overtaken = 0

    async def _take(self, submission_id: str, content: bytes, wanted: Callable[[], bool]) -> Claim | None:
        claim = await super()._take(submission_id, content, wanted)
        assert claim is not None
        return msgspec.structs.replace(claim, **self.known)

    async def holds(self, claim: Claim) -> bool:
        self.overtaken -= 1
        return self.overtaken < 0


def with_claims(claims: Claims, sandbox: FakeSandbox | None = None) -> Rig:
    rig = Rig(sandbox)
    rig.pipeline._claims = claims
    return rig


async def test_a_poison_is_not_judged_and_is_one_dead_letter():
    rig = with_claims(HeldClaims(deaths=2, lone=2))
    event = rig.send(message())
    await rig.step()
    ((_, error),) = rig.publisher.dead_letters
    assert error.code == "poison"
    assert "2 workers died" in str(error)
    assert [result.status for result in rig.publisher.results] == ["judge_error"]
    assert rig.sandbox.jobs == []
    assert event.acked


async def test_a_suspect_is_judged_alone():
    gate = asyncio.Event()
    rig = Rig(FakeSandbox(gate=gate))
    rig.send(message("s-1", code="1"))
    rig.send(message("s-2", code="2"))
    rig.send(message("s-3", code="3"))
    usual = asyncio.create_task(rig.step())
    await until(lambda: len(rig.sandbox.jobs) == 1)
    rig.pipeline._claims = HeldClaims(deaths=2, lone=0)
    suspect = asyncio.create_task(rig.step())
    await asyncio.sleep(0.01)
    rig.pipeline._claims = rig.claims
    later = asyncio.create_task(rig.step())
    await asyncio.sleep(0.01)
    assert len(rig.sandbox.jobs) == 1, "it waits for those that have begun, and nobody begins before it"
    gate.set()
    await asyncio.wait_for(asyncio.gather(usual, suspect, later), 5)
    assert [result.id for result in rig.publisher.results] == ["s-1", "s-2", "s-3"]


@pytest.mark.parametrize(
    ("deaths", "lone", "unexplained", "suspect", "poison"),
    [
        (1, 0, 0, False, False),
        (1, 1, 0, False, False),
        (2, 0, 0, True, False),
        (2, 0, 2, True, False),
        (2, 0, 3, False, False),
        (2, 2, 0, True, True),
        (2, 2, 2, True, False),
        (3, 1, 0, True, False),
        (4, 2, 1, True, True),
        (9, 2, 20, False, False),
    ],
)
def test_when_a_submission_is_suspect_and_when_poison(
    deaths: int, lone: int, unexplained: int, suspect: bool, poison: bool
):
    claim = Claim(id="s", content=b"", attempt=1, deaths=deaths, lone=lone, unexplained=unexplained)
    assert (claim.suspect, claim.poison) == (suspect, poison)


async def test_a_claim_that_was_overtaken_is_dropped_and_taken_again():
    """A zombie does not publish what it found; it answers with what has been published, or judges anew."""
    claims = HeldClaims()
    claims.overtaken = 1
    rig = with_claims(claims)
    event = rig.send(message(cache="bypass"))
    await rig.step()
    assert len(rig.publisher.results) == 1
    assert event.acked


async def test_after_a_stop_nothing_is_published_before_kafka_was_heard(monkeypatch: pytest.MonkeyPatch):
    now = 100.0
    monkeypatch.setattr(pulse_module, "clock", lambda: now)
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)
        rig.sequencer.revoke([event.message.tp])

    rig = Rig()
    pulse = rig.pipeline._pulse
    pulse._beat()
    event = rig.send(message())
    now += 60
    with monkeypatch.context() as patch:
        patch.setattr(pulse_module.asyncio, "sleep", sleep)
        await pulse.settled()
    assert waited == [pulse_module.SETTLE_S]
    await rig.step()
    assert rig.publisher.results == []
    assert not event.acked
