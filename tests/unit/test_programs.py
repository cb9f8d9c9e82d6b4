"""A program is compiled once at a time; who waits for another's compile never waits in vain."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from evalx.errors import SandboxFaultError
from evalx.execution import Artifact
from evalx.languages import Registry
from evalx.messages import Submission, decode_submission
from evalx.programs import Programs
from evalx.settings import Settings
from evalx.testing import FakeSandbox, MemoryCache, Ran
from evalx.verdicts import Outcome

REGISTRY = Registry.load()
RULES = REGISTRY.rules(Settings())
CPP = REGISTRY.resolve("cpp")


def make(**fields: Any) -> Submission:
    document = {"id": "s-1", "language": "cpp", "code": "int main;", "tests": [{"stdin": ""}], **fields}
    return decode_submission(msgspec.json.encode(document), RULES)


def ask(programs: Programs, key: str = "key", rank: int = 0, **fields: Any) -> asyncio.Task[Artifact]:
    return asyncio.create_task(programs.of(make(**fields), CPP, key, rank))


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def said_cached(artifacts: list[Artifact]) -> list[bool]:
    return [bool(artifact.report and artifact.report.cached) for artifact in artifacts]


async def test_who_asks_meanwhile_gets_the_same_program():
    gate = asyncio.Event()
    sandbox = FakeSandbox(gate=gate)
    programs = Programs(sandbox, MemoryCache())
    tasks = [ask(programs) for _ in range(5)]
    other = ask(programs, "other key")
    await settle()
    gate.set()
    artifacts = await asyncio.gather(*tasks)
    await other
    assert sandbox.compiles == 2
    assert said_cached(artifacts) == [False, True, True, True, True]
    # The very same bytes: nobody has to hash or compare a megabyte again.
    known = await programs.of(make(), CPP, "key", 0)
    assert len({id(artifact.files[0].data) for artifact in [*artifacts, known]}) == 1


async def test_a_compile_error_is_shared_too():
    gate = asyncio.Event()
    sandbox = FakeSandbox(compiler=lambda source: Ran(stderr=b"no", exit_code=1), gate=gate)
    programs = Programs(sandbox, MemoryCache())
    tasks = [ask(programs) for _ in range(3)]
    await settle()
    gate.set()
    assert [artifact.report and artifact.report.exit_code for artifact in await asyncio.gather(*tasks)] == [1, 1, 1]
    assert sandbox.compiles == 1


async def test_after_a_fault_of_ours_the_next_one_compiles():
    gate = asyncio.Event()
    sandbox = FakeSandbox(gate=gate, faults=[SandboxFaultError(message="died")])
    programs = Programs(sandbox, MemoryCache())
    tasks = [ask(programs) for _ in range(3)]
    await settle()
    gate.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(outcomes[0], SandboxFaultError)
    assert [isinstance(outcome, Artifact) for outcome in outcomes[1:]] == [True, True]
    assert sandbox.compiles == 2


async def test_after_the_end_of_who_compiles_the_next_one_does():
    gate = asyncio.Event()
    sandbox = FakeSandbox(gate=gate)
    programs = Programs(sandbox, MemoryCache())
    first, second = ask(programs), ask(programs)
    await settle()
    first.cancel()
    await settle()
    gate.set()
    assert (await second).files
    assert sandbox.compiles == 2
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_the_end_of_who_waits_ends_nothing_else():
    gate = asyncio.Event()
    sandbox = FakeSandbox(gate=gate)
    programs = Programs(sandbox, MemoryCache())
    first, second = ask(programs), ask(programs)
    await settle()
    second.cancel()
    await settle()
    gate.set()
    assert (await first).files
    assert sandbox.compiles == 1


async def test_nobody_waits_for_a_lower_lane_that_has_not_had_its_turn():
    gate = asyncio.Event()
    compiled: list[bytes] = []
    sandbox = FakeSandbox(compiler=lambda source: compiled.append(source) or Ran(), gate=gate)
    programs = Programs(sandbox, MemoryCache())
    tasks = [ask(programs, rank=2), ask(programs, rank=0), ask(programs, rank=1)]
    await settle()
    assert sandbox.compiles == 2
    gate.set()
    # The lowest one's turn came first, and it found that somebody above has asked for the same.
    assert said_cached(await asyncio.gather(*tasks)) == [True, False, True]
    assert len(compiled) == 1


class Compiling(FakeSandbox):
    """A compile that has its turn ends when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.let = asyncio.Event()

    async def execute(self, *arguments: Any, on_turn: Any = None, **named: Any) -> Any:
        if on_turn is not None:
            on_turn()
        await self.let.wait()
        return await super().execute(*arguments, **named)


async def test_who_has_the_compiler_is_waited_for_by_higher_lanes_too():
    sandbox = Compiling()
    programs = Programs(sandbox, MemoryCache())
    low = ask(programs, rank=2)
    await settle()
    high = ask(programs, rank=0)
    await settle()
    sandbox.let.set()
    assert said_cached(await asyncio.gather(low, high)) == [False, True]
    assert sandbox.compiles == 1


async def test_who_was_overtaken_compiles_when_that_failed():
    gate = asyncio.Event()
    sandbox = FakeSandbox(gate=gate, faults=[SandboxFaultError(message="died")])
    programs = Programs(sandbox, MemoryCache())
    low, high = ask(programs, rank=2), ask(programs, rank=0)
    await settle()
    gate.set()
    outcomes = await asyncio.gather(low, high, return_exceptions=True)
    assert isinstance(outcomes[0], Artifact)
    assert isinstance(outcomes[1], SandboxFaultError)


async def test_a_compiler_that_was_stopped_says_nothing_to_others():
    gate = asyncio.Event()
    stopped = Ran(outcome=Outcome.CPU_LIMIT, exit_code=None, signal=9)
    sandbox = FakeSandbox(compiler=lambda source: stopped, gate=gate)
    programs = Programs(sandbox, MemoryCache())
    tasks = [ask(programs) for _ in range(3)]
    await settle()
    gate.set()
    assert said_cached(await asyncio.gather(*tasks)) == [False, False, False]
    assert sandbox.compiles == 3


@pytest.mark.parametrize("cache", ["refresh", "bypass"])
async def test_who_wants_no_cache_compiles(cache: str):
    sandbox = FakeSandbox()
    values = MemoryCache()
    programs = Programs(sandbox, values)
    artifacts = [await ask(programs, cache=cache) for _ in range(2)]
    assert sandbox.compiles == 2
    assert said_cached(artifacts) == [False, False]
    assert bool(values.values) == (cache == "refresh")
