"""Where attacks are judged: the real sandbox, next to a victim, and what must hold after each of them.

An attack is a program that is judged like any other, by the runtime and the containers that a worker uses. Whatever
it does, afterwards: it got the verdict that it deserves; victims that were judged in other containers at the same time
got theirs; the container was reset or is gone; a spy that is run next in it finds nothing; no process of the attack
lives on the host; and the worker is as it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from evalx.execution import Artifact, compile_program, run_tests
from evalx.languages import Language, Registry
from evalx.messages import Limits, Submission, TestCase, TestResult
from evalx.sandbox.container import UID_STRIDE, Collected, Container
from evalx.sandbox.protocol import Bounds, File, Job, RunResult
from evalx.sandbox.runtime import SandboxRuntime
from evalx.settings import Settings
from evalx.verdicts import Verdict

PROGRAMS = Path(__file__).parent / "programs"
#: More than there are cores, so that attack and victim always run at the same time.
SLOTS = 4
#: Small, so that attacks on a limit end soon. Wall time leaves a busy machine room.
LIMITS = Limits(cpu_time_ms=500, wall_time_ms=3000, memory_bytes=64 << 20, output_bytes=64 << 10, processes=8)
BOUNDS = Bounds(
    cpu_time_ms=5000,
    wall_time_ms=20_000,
    memory_bytes=256 << 20,
    output_bytes=1 << 20,
    file_bytes=64 << 20,
    processes=64,
)
#: Seconds for tasks, descriptors and processes of the host to come back to what they were. A bound for hangs.
SETTLE_S = 10.0
#: Seconds for which the worker's state must be the same to be taken for what it is when nothing goes on.
STILL_S = 0.025

type_of_expected = Verdict | set[Verdict]
_used: ContextVar[list[Container] | None] = ContextVar("used", default=None)


class Batch(NamedTuple):
    """What became of one submission."""

    artifact: Artifact
    tests: tuple[TestResult, ...]
    #: Those that ran it, in order: one for the compile, if any, and one for the tests.
    containers: tuple[Container, ...]

    @property
    def verdicts(self) -> list[Verdict]:
        """Of each test; one CE when it did not compile."""
        return [test.verdict for test in self.tests] if self.artifact.files else [Verdict.CE]

    @property
    def text(self) -> str:
        """All that it wrote, and what the compiler said."""
        report = self.artifact.report.output if self.artifact.report is not None else ""
        return "".join(test.stdout + test.stderr for test in self.tests) + report


class Arena:
    """One runtime for all attacks. ``open`` it, then ``attack``."""

    def __init__(self, runtime: SandboxRuntime) -> None:
        self.runtime = runtime
        self.registry = Registry.load()
        self._uids: set[int] = set()
        self._spy = b""
        self._victim: Artifact | None = None
        pool: Any = runtime._pool
        self._pool = pool
        take = pool._take

        async def recorded(image: str, ids: tuple[int, ...] = ()) -> Container:
            container: Container = await take(image, ids)
            if (used := _used.get()) is not None:
                used.append(container)
            return container

        pool._take = recorded

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, **changes: Any) -> AsyncIterator[Arena]:
        """An arena with containers of its own, removed at the end; ``changes`` are settings."""
        registry = Registry.load()
        settings = Settings.load(**{"cpu_slots": SLOTS, "container_cap": 8, **changes})
        runtime = SandboxRuntime(settings, registry.images, registry.interpreters)
        await runtime.start(owner=f"hostile-{os.getpid()}", warm=["sandbox-c-cpp", "sandbox-c-cpp"])
        try:
            arena = cls(runtime)
            await arena._prepare()
            yield arena
        finally:
            await runtime.close()

    async def _prepare(self) -> None:
        source = File("spy.c", (PROGRAMS / "spy.c").read_bytes())
        argv = ("gcc", "-O1", "-static", "-Wall", "-Wextra", "-Werror", "-o", "spy", "/box/spy.c")
        env = ("PATH=/usr/bin:/bin", "TMPDIR=/tmp")
        job = Job(argv=argv, env=env, bounds=BOUNDS, files=(source,), merge_stderr=True, collect=("spy",))
        job = msgspec.structs.replace(job, collect_max_bytes=8 << 20)
        runs: list[RunResult] = []
        collected = await self.execute("sandbox-c-cpp", job, runs)
        assert collected.files, runs[0].stdout.decode()
        self._spy = collected.files[0].data
        victim = (PROGRAMS / "victim.c").read_text()
        self._victim = await compile_program(self.runtime, self.registry.resolve("c"), victim, 0)
        assert self._victim.files, self._victim.report

    async def execute(self, image: str, job: Job, runs: list[RunResult]) -> Collected:
        """Run a job of the test's own; its results are appended to ``runs``."""

        def keep(run: RunResult) -> None:
            runs.append(run)

        return await self.runtime.execute(image, job, rank=0, on_result=keep)

    async def judge(
        self, source: str, language: Language, stdins: Sequence[str], limits: Limits, artifact: Artifact | None = None
    ) -> Batch:
        """Judge one submission as the engine does, without caches and retries."""
        used: list[Container] = []
        token = _used.set(used)
        try:
            artifact = artifact or await compile_program(self.runtime, language, source, 0)
            tests = tuple(TestCase(id=str(i), stdin=stdin) for i, stdin in enumerate(stdins))
            submission = Submission(id="attack", language=language.name, code=source, tests=list(tests), limits=limits)
            results = ()
            if artifact.files:
                results = await run_tests(self.runtime, language, artifact.files, submission, 0)
            return Batch(artifact, results, tuple(used))
        finally:
            _used.reset(token)

    async def attack(
        self,
        program: str,
        *,
        expect: type_of_expected | Sequence[type_of_expected],
        stdins: Sequence[str] = ("",),
        container: str = "either",
        **limits: int,
    ) -> Batch:
        """Judge ``programs/PROGRAM``, or a source text with "LANGUAGE:" before it, and check all around it.

        Args:
            program: a path below ``programs/`` whose suffix names the language, or ``"c:int main..."``.
            expect: the verdict of every test, or of each, or the set that it may be in.
            stdins: one test each.
            container: what must have become of the container that ran it: ``reset``, ``destroyed`` or ``either``.
            limits: fields of ``Limits`` that differ from ``LIMITS``.
        """
        language, source = self._source(program)
        before = await self._settled_state()
        async with self._victims():
            batch = await self.judge(source, language, stdins, msgspec.structs.replace(LIMITS, **limits))
        _check_verdicts(batch, expect)
        for used in dict.fromkeys(batch.containers):
            kept = used.reusable and not used._closed
            if used is batch.containers[-1] and container != "either":
                assert kept == (container == "reset"), f"the container was {'reset' if kept else 'destroyed'}"
            await self._check_container(used, kept)
        await self._check_worker(before)
        return batch

    def _source(self, program: str) -> tuple[Language, str]:
        name, colon, text = program.partition(":")
        if colon:
            return self.registry.resolve(*name.split("@")), text
        path = PROGRAMS / program
        name = self.registry.of_file(path.name) or ""
        return self.registry.resolve(name), path.read_text()

    @contextlib.asynccontextmanager
    async def _victims(self) -> AsyncIterator[None]:
        """Somebody else's submission, over and over while the attack runs, at least once in whole."""
        over = asyncio.Event()
        victims = asyncio.create_task(self._be_judged_until(over))
        # It has a container before the attack begins.
        await asyncio.sleep(0.02)
        try:
            yield
        finally:
            over.set()
            await victims

    async def _be_judged_until(self, over: asyncio.Event) -> None:
        assert self._victim is not None
        limits = msgspec.structs.replace(LIMITS, cpu_time_ms=2000, wall_time_ms=20_000)
        stdins = [f"{n}\n" for n in (3, 4, 5)]
        while True:
            batch = await self.judge("", self.registry.resolve("c"), stdins, limits, self._victim)
            said = [(test.verdict, test.stdout) for test in batch.tests]
            assert said == [(Verdict.OK, "14\n"), (Verdict.OK, "30\n"), (Verdict.OK, "55\n")], said
            if over.is_set():
                return

    async def _check_container(self, used: Container, kept: bool) -> None:
        if kept:
            await self._spy_on(used)
        else:
            await self._check_gone(used)

    async def _spy_on(self, used: Container) -> None:
        """The next batch in this very container finds nothing of the one before."""
        idle = self._pool._shelves[used.spec.image].idle
        entry = next((one for one in idle if one.container is used), None)
        assert entry is not None, "a container that may be used again is not in the pool"
        idle.remove(entry)
        idle.append(entry)
        job = Job(
            argv=("/box/spy",), env=("A=b",), bounds=BOUNDS, files=(File("spy", self._spy, 0o755),), inputs=(b"",)
        )
        runs: list[RunResult] = []
        token = _used.set(containers := [])
        await self.execute(self._image(used), job, runs)
        _used.reset(token)
        assert containers == [used]
        lines = runs[0].stdout.decode().splitlines()
        assert runs[0].exit_code == 0, runs[0]
        assert lines[1:] == [], f"left for the next batch: {lines[1:]}"
        uid = int(lines[0].removeprefix("uid "))
        assert uid not in self._uids, "a user id was used twice"
        self._uids.add(uid)
        await eventually(lambda: not _processes_of(uid), "processes of the attack live on")

    def _image(self, used: Container) -> str:
        return next(name for name, spec in self.runtime._specs.items() if spec.image == used.spec.image)

    async def _check_gone(self, used: Container) -> None:
        async def gone() -> bool:
            found = await self.runtime.find_containers({})
            return not any(one.id.startswith(used.id) for one in found)

        deadline = time.monotonic() + SETTLE_S
        while not await gone():
            assert time.monotonic() < deadline, "a container that cannot be used again is still there"
            await asyncio.sleep(0.05)

    def _worker_state(self) -> tuple[object, ...]:
        """Tasks, free CPU slots, descriptors but for connections to the daemon, and children of the worker."""
        return len(asyncio.all_tasks()), len(self.runtime._slots._free), _own_descriptors(), _children()

    async def _settled_state(self) -> tuple[object, ...]:
        """The worker's state once it stands still: what ends by itself a moment later would be missed afterwards.

        A container that is being made has a task and a stream of the worker, and the pool's keeper has errands.
        """
        await self._settle_pool()
        state = self._worker_state()
        await asyncio.sleep(STILL_S)
        while (now := self._worker_state()) != state:
            state = now
            await asyncio.sleep(STILL_S)
        return state

    async def _check_worker(self, before: tuple[object, ...]) -> None:
        try:
            await eventually(lambda: self._worker_state() == before, "something of the worker did not come back")
        except AssertionError as error:
            tasks = "\n".join(map(repr, asyncio.all_tasks()))
            raise AssertionError(f"{error}: {before} before, {self._worker_state()} now; tasks:\n{tasks}") from None
        await self._settle_pool()
        # Nine of ours for the loop and the daemon, one for each attached container, some for pytest.
        assert _descriptors() < 64 + self._pool.size, "the worker's descriptors grow"

    async def _settle_pool(self) -> None:
        pool = self._pool
        await eventually(lambda: pool.size == pool.state.idle, f"the pool lost count: {pool.size}, {pool.state}")


def _check_verdicts(batch: Batch, expect: type_of_expected | Sequence[type_of_expected]) -> None:
    wanted = expect if isinstance(expect, (list, tuple)) else [expect] * len(batch.verdicts)
    sets = [one if isinstance(one, set) else {one} for one in wanted]
    assert len(sets) == len(batch.verdicts), batch.verdicts
    for verdict, allowed in zip(batch.verdicts, sets, strict=True):
        assert verdict in allowed, f"{batch.verdicts}, expected {expect}: {batch.text[:2000]}"


async def eventually(holds: Any, complaint: str) -> None:
    deadline = time.monotonic() + SETTLE_S
    while not holds():
        assert time.monotonic() < deadline, complaint
        await asyncio.sleep(0.02)


def _own_descriptors() -> list[str]:
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found.append(str(entry.readlink()))
    return sorted(name for name in found if not name.startswith(("socket:", "/proc/")))


def _children() -> list[str]:
    found: list[str] = []
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            found += (task / "children").read_text().split()
    return found


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def _processes_of(uid: int) -> list[str]:
    """Processes of the host that run under any user id of the container that this one is of."""
    block, found = uid // UID_STRIDE, []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            if entry.name.isdigit() and entry.stat().st_uid // UID_STRIDE == block and block > 0:
                found.append(entry.name)
    return found
