"""Java tests that are forked from the warm virtual machine end as started ones do: same output, code and verdict."""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import AsyncIterator
from functools import cache

import msgspec
import pytest
import pytest_asyncio
from java_programs import PROGRAMS, Program
from warm_scene import host_pids, memory_of, names

from evalx.execution import compile_program
from evalx.languages import Language, Registry
from evalx.sandbox.protocol import Bounds, File, Job, Mode, ResultFlag, RunResult
from evalx.sandbox.runtime import SandboxRuntime
from evalx.settings import Settings

REGISTRY = Registry.load()
JAVA = {version: REGISTRY.resolve("java", version) for version in REGISTRY.versions("java")}
MIB = 1 << 20
DEFAULT_MEMORY = 256 * MIB

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Scene:
    """A container of one version, and programs that were compiled in it."""

    def __init__(self, language: Language, runtime: SandboxRuntime) -> None:
        self.language = language
        self.runtime = runtime
        self._compiled: dict[str, tuple[File, ...]] = {}

    async def files(self, source: str) -> tuple[File, ...]:
        if source not in self._compiled:
            artifact = await compile_program(self.runtime, self.language, source, 0)
            assert artifact.files, artifact.report
            self._compiled[source] = artifact.files
        return self._compiled[source]

    async def job(self, program: Program, mode: Mode, runs: int, memory: int = DEFAULT_MEMORY) -> Job:
        bounds = Bounds(
            cpu_time_ms=program.seconds * 1000,
            wall_time_ms=program.wall_seconds * 1000,
            # The heap has its own limit; what a deep stack takes varies from start to start.
            memory_bytes=memory + self.language.memory_overhead_bytes + 512 * MIB,
            output_bytes=MIB,
            file_bytes=MIB + 1,
            processes=16 + self.language.processes_overhead,
            stack_bytes=self.language.stack_bytes or memory,
        )
        return Job(
            argv=self.language.run_argv(memory),
            env=self.language.run_env,
            bounds=bounds,
            files=await self.files(program.source),
            inputs=(program.stdin,) * runs,
            parallel=2,
            mode=mode,
        )

    async def run(self, work: Job) -> list[RunResult]:
        results: list[RunResult] = []

        def keep(result: RunResult) -> None:
            results.append(result)

        await self.runtime.execute(self.language.image, work, rank=0, on_result=keep)
        return sorted(results, key=lambda result: result.index)


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=JAVA)
async def scene(request: pytest.FixtureRequest) -> AsyncIterator[Scene]:
    language = JAVA[request.param]
    # One container, so that each test meets what the others have left.
    runtime = SandboxRuntime(Settings.load(container_cap=1), [language.image], REGISTRY.interpreters)
    await runtime.start(owner="test-warm-java", warm=[language.image])
    try:
        yield Scene(language, runtime)
    finally:
        await runtime.close()


@cache
def is_served() -> bool:
    return os.uname().machine == "x86_64"


def is_warm(result: RunResult) -> bool:
    return ResultFlag.WARM in result.flags or not is_served()


def seen(result: RunResult) -> tuple[object, ...]:
    return (result.outcome, result.exit_code, result.signal, result.stdout.decode(), result.stderr.decode())


@pytest.mark.parametrize("name", PROGRAMS)
async def test_ends_as_by_exec(scene: Scene, name: str):
    program = PROGRAMS[name]
    (started,) = await scene.run(await scene.job(program, Mode.EXEC, 1))
    assert ResultFlag.WARM not in started.flags
    for result in await scene.run(await scene.job(program, Mode.WARM_INTERPRETER, 3)):
        assert is_warm(result)
        assert seen(result) == seen(started)


async def test_random_numbers_differ_between_tests(scene: Scene):
    source = """
import java.security.SecureRandom;
import java.util.*;
import java.util.concurrent.ThreadLocalRandom;
public class Main {
    public static void main(String[] args) {
        System.out.println(Math.random());
        System.out.println(new Random().nextLong());
        System.out.println(ThreadLocalRandom.current().nextLong());
        System.out.println(new SplittableRandom().nextLong());
        System.out.println(UUID.randomUUID());
        System.out.println(new SecureRandom().nextLong());
    }
}
"""
    results = await scene.run(await scene.job(Program(source), Mode.WARM_INTERPRETER, 6))
    assert all(is_warm(result) for result in results)
    for numbers in zip(*(result.stdout.split() for result in results), strict=True):
        assert len(set(numbers)) == 6


async def test_another_memory_limit_is_served_by_a_start_of_its_own(scene: Scene):
    work = await scene.job(PROGRAMS["sum"], Mode.WARM_INTERPRETER, 2, memory=64 * MIB)
    for result in await scene.run(work):
        assert (ResultFlag.WARM in result.flags, result.stdout) == (False, b"10")


#: The virtual machine that waits is the process of root that is not the runner. Prints what of it could be touched.
ATTACK = """
import java.nio.file.*;
import java.util.*;
public class Main {
    public static void main(String[] args) throws Exception {
        int found = 0;
        for (String name : new java.io.File("/proc").list()) {
            if (!name.matches("[0-9]+") || name.equals("1"))
                continue;
            Path process = Path.of("/proc", name);
            if ((int) Files.getAttribute(process, "unix:uid") != 0)
                continue;
            found++;
            for (String file : List.of("mem", "environ", "maps", "auxv", "stack", "syscall", "io"))
                try (var in = Files.newInputStream(process.resolve(file))) {
                    in.read();
                    System.out.println("reads " + file);
                } catch (java.io.IOException expected) {
                }
            for (String file : List.of("fd", "map_files"))
                if (process.resolve(file).toFile().list() != null)
                    System.out.println("lists " + file);
            Process kill = new ProcessBuilder("/bin/sh", "-c", "kill -9 " + name + " || kill -STOP " + name).start();
            if (kill.waitFor() == 0)
                System.out.println("kills");
        }
        System.out.println(found);
        if (System.in.read() == 'k')
            new ProcessBuilder("/bin/sh", "-c", "kill -9 -1").start().waitFor();
    }
}
"""


async def test_programs_cannot_touch_the_virtual_machine_that_waits(scene: Scene):
    # One at a time: another test is root's as well, for the moment between its fork and its own user id.
    alone = msgspec.structs.replace(await scene.job(Program(ATTACK), Mode.WARM_INTERPRETER, 2), parallel=1)
    for result in await scene.run(alone):
        assert (is_warm(result), result.stdout, result.stderr) == (True, b"1\n" if is_served() else b"0\n", b"")
    for stdin in (b"kill\n", b"\n"):
        results = await scene.run(await scene.job(Program(ATTACK, stdin), Mode.WARM_INTERPRETER, 2))
        assert all(is_warm(result) for result in results)


@pytest.mark.skipif("not is_served()", reason="nothing is kept on this architecture")
async def test_the_virtual_machine_has_seen_nothing_of_a_batch(scene: Scene):
    """Neither input nor output is in its memory, no descriptor of a test is open in it, and it has one thread."""
    mark = "remember" + secrets.token_hex(8)
    image = scene.runtime._specs[scene.language.image].image
    before = names(host_pids(scene.runtime, image)[1], "fd")
    program = Program(PROGRAMS["echo"].source, mark.encode())
    for result in await scene.run(await scene.job(program, Mode.WARM_INTERPRETER, 5)):
        assert (is_warm(result), mark.encode() in result.stdout) == (True, True)
    _, machine = host_pids(scene.runtime, image)
    assert not any(mark.encode() in piece for piece in memory_of(machine))
    assert names(machine, "fd") == before
    assert len(names(machine, "task")) == 1


@pytest.mark.skipif("not is_served()", reason="nothing is kept on this architecture")
async def test_tests_share_no_open_file(scene: Scene):
    """What one test does to the offset of a file that Java has open is not seen by the next."""
    source = """
import java.io.*;
import java.nio.file.*;
public class Main {
    public static void main(String[] args) throws Exception {
        for (String fd : new File("/proc/self/fd").list()) {
            Path link = Path.of("/proc/self/fd", fd);
            if (!Files.isSymbolicLink(link) || !Files.readSymbolicLink(link).toString().endsWith("modules"))
                continue;
            System.out.println(Files.readAllLines(Path.of("/proc/self/fdinfo", fd)).get(0));
            new ProcessBuilder("/bin/sh", "-c", "head -c 5 >/dev/null <&" + fd).start().waitFor();
        }
    }
}
"""
    first, *rest = await scene.run(await scene.job(Program(source), Mode.WARM_INTERPRETER, 4))
    assert first.stdout
    assert all(result.stdout == first.stdout for result in rest)


@pytest.mark.skipif("not is_served()", reason="nothing is kept on this architecture")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
async def test_without_it_a_container_finishes_its_job_and_goes(number: signal.Signals):
    language = JAVA["21"]
    runtime = SandboxRuntime(Settings.load(container_cap=1), [language.image], REGISTRY.interpreters)
    await runtime.start(owner="test-warm-java-lost", warm=[language.image])
    lost = Scene(language, runtime)
    image = runtime._specs[language.image].image
    try:
        work = await lost.job(PROGRAMS["sum"], Mode.WARM_INTERPRETER, 3)
        runner, machine = host_pids(runtime, image)
        os.kill(machine, number)
        results = await lost.run(work)
        assert [(ResultFlag.WARM in result.flags, result.stdout) for result in results] == [(False, b"10")] * 3
        results = await lost.run(work)
        assert [(is_warm(result), result.stdout) for result in results] == [(True, b"10")] * 3
        assert host_pids(runtime, image)[0] != runner
    finally:
        await runtime.close()


async def test_memory_as_by_exec(scene: Scene):
    """What the virtual machine has in memory before is no more than what every start of it has."""
    for size in (1, 64, 150):
        source = (
            "public class Main { public static void main(String[] args) { "
            f"byte[] x = new byte[{size} << 20]; for (int i = 0; i < x.length; i += 4096) x[i] = 1; }} }}"
        )
        (started,) = await scene.run(await scene.job(Program(source), Mode.EXEC, 1))
        for result in await scene.run(await scene.job(Program(source), Mode.WARM_INTERPRETER, 2)):
            assert is_warm(result)
            assert abs(result.peak_bytes - started.peak_bytes) < 0.05 * started.peak_bytes + 16 * MIB
