"""C and C++ programs are linked with slim archives first: programs and messages are as from the whole libraries."""

from __future__ import annotations

import re
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio
from native_scene import REGISTRY, native_sandbox

from evalx.execution import Artifact, compile_program
from evalx.languages import Language
from evalx.sandbox.runtime import SandboxRuntime

HERE = Path(__file__).parent
COLLECT2 = HERE.parents[1] / "docker/sandbox/c-cpp/link/collect2.c"

SOURCES = {
    path.name: path.read_text()
    for folder in ("linked_programs", "native_programs")
    for path in (HERE / folder).iterdir()
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sandbox() -> AsyncIterator[SandboxRuntime]:
    async with native_sandbox("test-slim") as runtime:
        yield runtime


def by_whole_libraries(language: Language) -> Language:
    """The same language, linked by GCC's own collect2."""
    assert language.compile is not None
    argv = tuple(word for word in language.compile.argv if not word.startswith("-B"))
    assert len(argv) == len(language.compile.argv) - 1
    return msgspec.structs.replace(language, compile=msgspec.structs.replace(language.compile, argv=argv))


def said(artifact: Artifact) -> tuple[int | None, str]:
    """Exit code and messages; the names of temporary files differ by nature."""
    assert artifact.report is not None
    return artifact.report.exit_code, re.sub(r"/cc\w{6}", "/cc", artifact.report.output)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", sorted(SOURCES))
async def test_a_program_is_what_the_whole_libraries_give(sandbox: SandboxRuntime, name: str):
    language = REGISTRY.resolve(name.rpartition(".")[2])
    slim = await compile_program(sandbox, language, SOURCES[name], 0)
    whole = await compile_program(sandbox, by_whole_libraries(language), SOURCES[name], 0)
    assert said(slim) == said(whole)
    assert slim.files == whole.files


#: What the linker does when it is tried with the slim archives, and whether that is taken for good.
LINKER = {
    "succeeds": ("echo slim >main", True),
    "warns": ("echo slim >main; echo 'a warning' >&2", False),
    "fails": ("echo half >main; exit 1", False),
    "says very much and fails": ("head -c 1000000 /dev/zero >&2; exit 1", False),
    "is killed": ("echo half >main; kill -9 $$", False),
}


def scripts(folder: Path, linker: str) -> Path:
    """collect2.c under sanitizers, with scripts for the linker and for GCC's own collect2."""
    for name, text in (("linker", linker), ("whole", 'test ! -e main && echo "whole $*" >main')):
        (folder / name).write_text(f'#!/bin/sh\necho "$*" >{name}.arguments\n{text}\n')
        (folder / name).chmod(0o755)
    paths = {"COLLECT2": folder / "whole", "LINKER": folder / "linker", "SLIM": "/slim"}
    subprocess.run(
        ["gcc", "-std=gnu17", "-D_GNU_SOURCE", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-Wshadow", "-Wconversion"]
        + ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-o", str(folder / "collect2"), str(COLLECT2)]
        + [f'-D{name}="{path}"' for name, path in paths.items()],
        check=True,
    )
    return folder / "collect2"


@pytest.mark.parametrize("case", LINKER)
def test_whatever_the_linker_says_about_slim_archives_is_a_reason_to_start_again(tmp_path: Path, case: str):
    linker, good = LINKER[case]
    command = [str(scripts(tmp_path, linker)), "-pie", "-fuse-ld=mold", "-o", "main", "-lm"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    assert (tmp_path / "linker.arguments").read_text() == "-L/slim/c -pie -o main -lm\n"
    assert (tmp_path / "main").read_text() == ("slim\n" if good else "whole -pie -fuse-ld=mold -o main -lm\n")


def test_cpp_has_archives_of_its_own(tmp_path: Path):
    subprocess.run([scripts(tmp_path, "echo slim >main"), "-o", "main", "-lstdc++"], cwd=tmp_path, check=True)
    assert (tmp_path / "linker.arguments").read_text() == "-L/slim/c++ -o main -lstdc++\n"


def test_without_a_linker_it_is_as_if_the_slim_archives_were_not_there(tmp_path: Path):
    collect2 = scripts(tmp_path, "")
    (tmp_path / "linker").unlink()
    subprocess.run([collect2, "-o", "main"], cwd=tmp_path, check=True)
    assert (tmp_path / "main").read_text() == "whole -o main\n"
