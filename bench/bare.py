"""The bare loop: `floor.c` inside a container of the same image, so that compiler and interpreter are the same.

The container has no limit, no seccomp profile and no network; what runs in it is an ordinary process of the machine.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from bench import docker_cli, workload
from bench.measure import Sample
from evalx.languages import Language
from evalx.messages import TestCase

SOURCE = Path(__file__).parent / "floor.c"
LABEL = "org.evalx.bench"


def build_floor(directory: Path) -> Path:
    """Compile the loop, static so that it runs in every image; raises CalledProcessError."""
    binary = directory / "floor"
    subprocess.run(["gcc", "-O2", "-static", "-o", str(binary), str(SOURCE)], check=True)
    return binary


def write_tests(directory: Path, tests: Sequence[TestCase]) -> None:
    """The inputs and answers as the loop reads them."""
    directory.mkdir()
    for index, test in enumerate(tests):
        (directory / f"{index}.in").write_text(test.stdin)
        (directory / f"{index}.ans").write_text(test.expected_output or "")


def build(place: Path, language: Language, image: str, command: Sequence[str]) -> Path:
    """A directory with the measured program as `command` makes it in the language's image; raises RuntimeError."""
    source, box = (place / f"{language.name}-{language.version}-{part}" for part in ("source", "built"))
    source.mkdir()
    box.mkdir()
    (source / language.source).write_text(workload.source(language))
    program, *words = command
    docker_cli.docker(
        "run", "--rm", "--network", "none", "-v", f"{source}:/box:ro", "-v", f"{box}:/out",
        "--entrypoint", program, image, *words,
    )  # fmt: skip
    return box


class BareLoop:
    """A contender. Use it as a context."""

    unit = "at a time"

    def __init__(
        self, name: str, image: str, place: Path, box: Path, argv: Sequence[str], env: Sequence[str],
        tests: int, parallel: Sequence[int],
    ) -> None:  # fmt: skip
        self.name = name
        self.settings = parallel
        self._tests = tests
        self._container = f"{place.name}-{'-'.join(re.findall('[a-z]+', name))}"
        self._command = [
            "docker", "run", "--rm", "-i", "--name", self._container, "--label", LABEL, "--network", "none",
            "--security-opt", "seccomp=unconfined", "--log-driver", "none", "--workdir", "/tmp",
            "-v", f"{place}:/bench:ro", "-v", f"{box}:/box:ro", *(word for entry in env for word in ("-e", entry)),
            "--entrypoint", "/bench/floor", image, "/bench/tests", str(tests), *argv,
        ]  # fmt: skip
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        return self

    async def __aexit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        await docker_cli.remove(self._container)
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            await self._process.wait()

    async def run(self, batches: int, setting: int) -> Sample:
        """Start the program for each test of so many batches; the loop does not wait for a batch to end.

        Raises:
            RuntimeError: the loop ended; it has said why on stderr.
        """
        assert self._process is not None, "use it as a context"
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        tests = batches * self._tests
        self._process.stdin.write(f"{tests} {setting}\n".encode())
        answer = (await self._process.stdout.readline()).split()
        if len(answer) != 3:
            raise RuntimeError(f"{self.name}: the loop ended")
        seconds, wrong, cpu = float(answer[0]), int(answer[1]), float(answer[2])
        return Sample(tests=tests, seconds=seconds, wrong=wrong, cpu_ms={"loop": cpu * 1000 / tests})
