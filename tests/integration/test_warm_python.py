"""Python tests that are forked from the warm interpreter end as started ones do: same output, code and verdict."""

from __future__ import annotations

import os
import re
import secrets
import signal
from collections.abc import AsyncIterator

import msgspec
import pytest
import pytest_asyncio
import warm_scene
from warm_programs import PROGRAMS, Program

from evalx.languages import Language, Registry
from evalx.sandbox.protocol import Bounds, File, Job, Mode, ResultFlag, RunResult
from evalx.sandbox.runtime import SandboxRuntime
from evalx.settings import Settings

REGISTRY = Registry.load()
PYTHON: Language = REGISTRY.resolve("python")
MIB = 1 << 20
ADDRESS = re.compile("0x[0-9a-f]{6,}")

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sandbox() -> AsyncIterator[SandboxRuntime]:
    # One container, so that each test meets what the others have left.
    runtime = SandboxRuntime(Settings.load(container_cap=1), [PYTHON.image], REGISTRY.interpreters)
    await runtime.start(owner="test-warm-python", warm=[PYTHON.image])
    try:
        yield runtime
    finally:
        await runtime.close()


def job(program: Program, mode: Mode, runs: int, parallel: int = 2) -> Job:
    memory = program.memory_mib * MIB
    assert PYTHON.address_space_headroom_bytes is not None
    bounds = Bounds(
        cpu_time_ms=program.seconds * 1000,
        wall_time_ms=program.wall_seconds * 1000,
        memory_bytes=memory,
        output_bytes=program.output,
        file_bytes=program.output + 1,
        processes=program.processes,
        address_space_bytes=memory + PYTHON.address_space_headroom_bytes,
        stack_bytes=memory,
    )
    return Job(
        argv=PYTHON.run_argv(memory),
        env=PYTHON.run_env,
        bounds=bounds,
        files=(File(PYTHON.source, program.source.encode()),),
        inputs=(program.stdin,) * runs,
        parallel=parallel,
        mode=mode,
    )


async def run(sandbox: SandboxRuntime, work: Job) -> list[RunResult]:
    results: list[RunResult] = []

    def keep(result: RunResult) -> None:
        results.append(result)

    await sandbox.execute(PYTHON.image, work, rank=0, on_result=keep)
    return sorted(results, key=lambda result: result.index)


def is_warm(result: RunResult) -> bool:
    return ResultFlag.WARM in result.flags


def seen(result: RunResult, loose: bool) -> tuple[object, ...]:
    if loose:
        return (result.outcome,)
    texts = (ADDRESS.sub("0x", text.decode(errors="replace")) for text in (result.stdout, result.stderr))
    return (result.outcome, result.exit_code, result.signal, *texts)


@pytest.mark.parametrize("name", PROGRAMS)
async def test_ends_as_by_exec(sandbox: SandboxRuntime, name: str):
    program = PROGRAMS[name]
    (started,) = await run(sandbox, job(program, Mode.EXEC, 1))
    assert not is_warm(started)
    for runs in (1, 2):
        for result in await run(sandbox, job(program, Mode.WARM_INTERPRETER, runs)):
            assert is_warm(result) or "\0" in program.source
            assert seen(result, program.loose) == seen(started, program.loose)


async def test_random_numbers_differ_between_tests(sandbox: SandboxRuntime):
    program = Program("import random, uuid, secrets\nprint(random.random(), uuid.uuid4(), secrets.token_hex())")
    results = await run(sandbox, job(program, Mode.WARM_INTERPRETER, 6))
    assert all(is_warm(result) for result in results)
    assert len({result.stdout for result in results}) == 6


async def test_each_test_has_a_user_id_and_a_directory_of_its_own(sandbox: SandboxRuntime):
    program = Program("import os\nprint(os.getuid(), os.getcwd())\nopen('/tmp/mine', 'x') if input() == '1 2' else 0")
    results = await run(sandbox, job(program, Mode.WARM_INTERPRETER, 5))
    assert len({tuple(result.stdout.split()) for result in results}) == 5
    assert not any(result.stdout.startswith(b"0 ") for result in results)


async def test_another_command_is_started_in_the_ordinary_way(sandbox: SandboxRuntime):
    work = job(Program("import sys\nprint(sys.argv)"), Mode.WARM_INTERPRETER, 2)
    for result in await run(sandbox, msgspec.structs.replace(work, argv=(*work.argv, "more"))):
        assert (is_warm(result), result.stdout) == (False, b"['/box/main.py', 'more']\n")


async def test_the_setting_turns_it_off():
    runtime = SandboxRuntime(Settings.load(warm_interpreters=False), [PYTHON.image], REGISTRY.interpreters)
    await runtime.start(owner="test-warm-python-off", warm=[PYTHON.image])
    try:
        results = await run(runtime, job(Program("print(1)"), Mode.WARM_INTERPRETER, 3))
    finally:
        await runtime.close()
    assert [(is_warm(result), result.stdout) for result in results] == [(False, b"1\n")] * 3


#: The interpreter is the process of root that is not the runner. Prints what of it could be touched.
ATTACK = """
import os, resource, signal
def works(f):
    try:
        f()
    except OSError:
        return False
    return True
pids = [int(p) for p in os.listdir('/proc') if p.isdigit() and p != '1' and os.stat('/proc/' + p).st_uid == 0]
print(len(pids))
for pid in pids:
    for name in ('mem', 'environ', 'maps', 'fd', 'auxv', 'stack', 'syscall', 'cwd', 'root', 'exe', 'map_files', 'io'):
        path = f'/proc/{pid}/{name}'
        if name in ('cwd', 'root', 'exe'):
            ok = works(lambda: os.readlink(path))
        elif name in ('fd', 'map_files'):
            ok = works(lambda: os.listdir(path))
        else:
            ok = works(lambda: open(path, 'rb').read(1))
        if ok:
            print('reads', name)
    for number in (0, signal.SIGSTOP, signal.SIGKILL, signal.SIGINT):
        if works(lambda: os.kill(pid, number)):
            print('signals', number)
    if works(lambda: os.setpriority(os.PRIO_PROCESS, pid, 19)):
        print('slows')
    if works(lambda: os.sched_setaffinity(pid, {0})):
        print('binds')
    if works(lambda: resource.prlimit(pid, resource.RLIMIT_NOFILE, (1, 1))):
        print('limits')
    if works(lambda: open(f'/proc/{pid}/oom_score_adj', 'w').write('1000')):
        print('volunteers')
os.kill(-1, signal.SIGKILL) if input() == 'kill' else None
"""


async def test_programs_cannot_touch_the_interpreter(sandbox: SandboxRuntime):
    # One at a time: another test is root's as well, for the moment between its fork and its own user id.
    alone = msgspec.structs.replace(job(Program(ATTACK, b"\n"), Mode.WARM_INTERPRETER, 2), parallel=1)
    for result in await run(sandbox, alone):
        assert (is_warm(result), result.stdout, result.stderr) == (True, b"1\n", b"")
    for stdin in (b"kill\n", b"\n"):
        results = await run(sandbox, job(Program(ATTACK, stdin), Mode.WARM_INTERPRETER, 2))
        assert all(is_warm(result) for result in results)


async def test_what_programs_leave_is_killed_and_the_interpreter_stays(sandbox: SandboxRuntime):
    """Processes that leave their session and outlive the test, and a bomb of them; the container is used again."""
    escape = "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        time.sleep(60)\n"
    bomb = "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass\n"
    for source, limit in ((escape, 4), (bomb, 1)):
        await run(sandbox, job(Program(source, seconds=limit), Mode.WARM_INTERPRETER, 3))
        results = await run(sandbox, job(Program("print(1)"), Mode.WARM_INTERPRETER, 3))
        assert [(is_warm(result), result.stdout) for result in results] == [(True, b"1\n")] * 3
    assert sandbox._pool is not None
    assert sandbox._pool.size == 1


def host_pids(runtime: SandboxRuntime) -> tuple[int, int]:
    """The runner's and the interpreter's pid of the only container, as the host sees them."""
    return warm_scene.host_pids(runtime, runtime._specs[PYTHON.image].image)


async def test_the_interpreter_has_seen_nothing_of_a_batch(sandbox: SandboxRuntime):
    """Neither source nor input nor output is in its memory, and no descriptor of a test is open in it."""
    mark = "remember" + secrets.token_hex(8)
    program = Program(f"{mark} = '{mark}' * 3\nprint(input(), {mark})\n", stdin=mark.encode())
    before = warm_scene.names(host_pids(sandbox)[1], "fd")
    for result in await run(sandbox, job(program, Mode.WARM_INTERPRETER, 5)):
        assert (is_warm(result), mark.encode() in result.stdout) == (True, True)
    _, interpreter = host_pids(sandbox)
    assert not any(mark.encode() in piece for piece in warm_scene.memory_of(interpreter))
    assert warm_scene.names(interpreter, "fd") == before == {"0", "1", "2", "3"}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
async def test_without_its_interpreter_a_container_finishes_its_job_and_goes(number: signal.Signals):
    # One container, so that each test meets what the others have left.
    runtime = SandboxRuntime(Settings.load(container_cap=1), [PYTHON.image], REGISTRY.interpreters)
    await runtime.start(owner="test-warm-python-lost", warm=[PYTHON.image])
    try:
        runner, interpreter = host_pids(runtime)
        os.kill(interpreter, number)
        results = await run(runtime, job(Program("print(1)"), Mode.WARM_INTERPRETER, 4))
        assert [(is_warm(result), result.stdout) for result in results] == [(False, b"1\n")] * 4
        results = await run(runtime, job(Program("print(1)"), Mode.WARM_INTERPRETER, 4))
        assert [(is_warm(result), result.stdout) for result in results] == [(True, b"1\n")] * 4
        assert host_pids(runtime)[0] != runner
    finally:
        await runtime.close()


async def test_memory_and_time_as_by_exec(sandbox: SandboxRuntime):
    """Figures of a program are its own: what the interpreter has imported before is not on its bill."""
    for size in (0, 16, 64, 150):
        program = Program(f"x = bytearray({size} << 20)\nfor i in range(0, len(x), 4096):\n    x[i] = 1\n")
        (started,) = await run(sandbox, job(program, Mode.EXEC, 1))
        for result in await run(sandbox, job(program, Mode.WARM_INTERPRETER, 2)):
            assert is_warm(result)
            assert abs(result.peak_bytes - started.peak_bytes) < 0.05 * started.peak_bytes + 3 * MIB


async def test_a_parser_that_needs_too_much_is_the_programs_own_fault(sandbox: SandboxRuntime):
    """What the compilation for all tests cannot do is tried by each test under its own limits."""
    program = Program("x = [" + "'a'," * 400_000 + "]\nprint(len(x))", memory_mib=256)
    large = Program("x = 1\n" * 300_000, seconds=1)
    for case in (program, large):
        (started,) = await run(sandbox, job(case, Mode.EXEC, 1))
        for result in await run(sandbox, job(case, Mode.WARM_INTERPRETER, 2)):
            assert is_warm(result)
            assert result.outcome is started.outcome
