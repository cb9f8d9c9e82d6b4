"""The old way: a ``docker exec`` for each test, in a container that is there already."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from bench import docker_cli
from bench.bare import LABEL
from bench.measure import Sample
from evalx.messages import TestCase


class DockerExec:
    """A contender. Use it as a context; the program is in ``box``."""

    name = "docker exec"

    def __init__(self, image: str, place: Path, box: Path, argv: Sequence[str], tests: Sequence[TestCase]) -> None:
        self._image, self._box, self._argv, self._tests = image, box, argv, tests
        self._container = f"{place.name}-docker-exec"

    async def __aenter__(self) -> Self:
        docker_cli.docker(
            "run", "-d", "--name", self._container, "--label", LABEL, "--network", "none", "--log-driver", "none",
            "-v", f"{self._box}:/box:ro", "--entrypoint", "sleep", self._image, "infinity",
        )  # fmt: skip
        return self

    async def __aexit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        await docker_cli.remove(self._container)

    async def run(self, batches: int, setting: int) -> Sample:
        """Run the tests of so many batches, so many at a time."""
        tests = batches * len(self._tests)
        todo = iter(range(tests))
        started = time.perf_counter()
        wrong = sum(await asyncio.gather(*(self._work(todo) for _ in range(setting))))
        return Sample(tests=tests, seconds=time.perf_counter() - started, wrong=wrong, cpu_ms={})

    async def _work(self, todo: Iterator[int]) -> int:
        wrong = 0
        for number in todo:
            wrong += not await self._passes(self._tests[number % len(self._tests)])
        return wrong

    async def _passes(self, test: TestCase) -> bool:
        process = await asyncio.create_subprocess_exec(
            "docker", "exec", "-i", self._container, *self._argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        output, _ = await process.communicate(test.stdin.encode())
        return process.returncode == 0 and output.decode() == test.expected_output
