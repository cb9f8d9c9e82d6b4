"""C and C++ programs that lean on how they are linked: they must behave as programs of a usual compiler call do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from native_scene import REGISTRY, native_sandbox

from evalx.execution import compile_program, run_tests
from evalx.languages import Language
from evalx.messages import LinesChecker, Submission, TestCase
from evalx.messages.submission import Limits
from evalx.sandbox.runtime import SandboxRuntime
from evalx.verdicts import Verdict

pytestmark = pytest.mark.asyncio(loop_scope="module")

#: Each squares the number that it reads, in a way that depends on the linking.
PROGRAMS = {path.name: path.read_text() for path in sorted((Path(__file__).parent / "native_programs").iterdir())}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sandbox() -> AsyncIterator[SandboxRuntime]:
    async with native_sandbox("test-native") as runtime:
        yield runtime


@pytest.mark.parametrize("name", PROGRAMS)
async def test_a_linked_program_behaves_as_usual(sandbox: SandboxRuntime, name: str):
    await squares(sandbox, REGISTRY.resolve(name.rpartition(".")[2]), PROGRAMS[name])


@pytest.mark.parametrize("version", ["20", "23"])
async def test_instances_come_with_the_header_in_each_standard(sandbox: SandboxRuntime, version: str):
    await squares(sandbox, REGISTRY.resolve("cpp", version), PROGRAMS["what_headers_use.cpp"])


async def squares(sandbox: SandboxRuntime, language: Language, code: str) -> None:
    artifact = await compile_program(sandbox, language, code, 0)
    assert artifact.report is not None
    assert artifact.report.exit_code == 0, artifact.report.output
    tests = tuple(TestCase(id=str(n), stdin=f"{n}\n", expected_output=f"{n * n}\n") for n in (3, 4))
    limits = Limits(cpu_time_ms=4000, wall_time_ms=60_000, processes=8)
    submission = Submission(
        id="x", language=language.name, code=code, tests=tests, limits=limits, checker=LinesChecker()
    )
    results = await run_tests(sandbox, language, artifact.files, submission, 0)
    assert [(one.verdict, one.stdout.split(), one.stderr) for one in results] == [
        (Verdict.AC, ["9"], ""),
        (Verdict.AC, ["16"], ""),
    ]
