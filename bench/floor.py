"""The floor: what compiles and runs of the bench's programs take with nothing around them, two at a time.

Each language's program is compiled by evalx's own command in a container of its own image that has no limit, and run
there by `floor.c`; archives that evalx has prepared for the Java machine are left out, as a bare judge would not have
them. Of many runs a sample is made, and what all would take is computed from it.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from bench import bare, workload
from bench.docker_cli import docker
from bench.measure import batches_for
from evalx.languages import CompileStep, Language, Registry
from evalx.messages import TestCase

#: At a time, as the machine that the figures are asked for has cores.
PARALLEL = 2
#: Seconds that a sample takes: enough to tell a tenth, and there are two samples of most languages.
SAMPLE_S = 1.5
TESTS = 20
#: Each compile has a folder of its own, since two are made at a time.
_IN_A_FOLDER = ("sh", "-c", 'mkdir /tmp/$$ && cd /tmp/$$ && exec "$@"', "compile")


class Work(msgspec.Struct, frozen=True):
    """How many programs of a language are compiled, and how many tests run."""

    compiles: int
    runs: int


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds that one compile, and one run, take when they are made two at a time."""

    compile_s: float
    run_s: float


def seconds_of(work: Mapping[str, Work], costs: Mapping[str, Cost]) -> float:
    """What all of it takes."""
    return sum(one.compiles * costs[name].compile_s + one.runs * costs[name].run_s for name, one in work.items())


class Floor:
    """Use it as a context. ``wrong`` counts runs with another output than the right one, and failed compiles."""

    def __init__(self, images: str, names: Sequence[str]) -> None:
        registry = Registry.load()
        self._images = images
        self._languages = {name: workload.resolve(registry, name) for name in names}
        self._loops: dict[str, tuple[bare.BareLoop | None, bare.BareLoop]] = {}
        self._held = contextlib.AsyncExitStack()
        self.wrong = 0

    async def sample(self, work: Mapping[str, Work]) -> dict[str, Cost]:
        """What the work costs now, by language: never more of it is made than there is, nor much more than a sample.

        Raises:
            RuntimeError: a loop ended.
        """
        costs = {}
        for name, one in work.items():
            compiler, runner = self._loops[name]
            compile_s = 0.0 if compiler is None else await self._seconds(compiler, one.compiles, 1)
            costs[name] = Cost(compile_s=compile_s, run_s=await self._seconds(runner, one.runs, TESTS))
        return costs

    async def _seconds(self, loop: bare.BareLoop, count: int, each: int) -> float:
        first = await loop.run(PARALLEL, PARALLEL)
        most = max(1, count // each)
        sample = await loop.run(max(PARALLEL, min(most, batches_for(first.rate / each, SAMPLE_S))), PARALLEL)
        self.wrong += first.wrong + sample.wrong
        return 1 / sample.rate

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as held:
            place = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="evalx-bench-floor-")))
            run, build = place / f"{place.name}-run", place / f"{place.name}-compile"
            _prepare(run, workload.make_tests(TESTS))
            # A compiler that has nothing to say reads and writes nothing.
            _prepare(build, [TestCase(id="1", stdin="", expected_output="")])
            for name, language in self._languages.items():
                runner = await held.enter_async_context(await self._runner(language, run))
                compiler = self._compiler(language, build)
                if compiler is not None:
                    await held.enter_async_context(compiler)
                self._loops[name] = compiler, runner
            self._held = held.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._held.aclose()

    async def _runner(self, language: Language, place: Path) -> bare.BareLoop:
        source = _source(place, language)
        box = source
        if language.compile is not None:
            box = place / f"{language.name}-{language.version}-box"
            box.mkdir()
            await asyncio.to_thread(self._compile, language.compile, language.image, source, box)
        image, argv = self._images + language.image, workload.plain_argv(language)
        name = f"{language.name} runs"
        return bare.BareLoop(name, image, place, box, argv, language.run_env, TESTS, (PARALLEL,))

    def _compile(self, step: CompileStep, image: str, source: Path, box: Path) -> None:
        program, *words = step.argv
        docker(
            "run", "--rm", "--network", "none", "-v", f"{source}:/box:ro", "-v", f"{box}:/out", "--workdir", "/out",
            *(word for entry in step.env for word in ("-e", entry)), "--entrypoint", program,
            self._images + image, *words,
        )  # fmt: skip

    def _compiler(self, language: Language, place: Path) -> bare.BareLoop | None:
        if language.compile is None:
            return None
        argv = (*_IN_A_FOLDER, *workload.plain(language.compile.argv))
        box, image = _source(place, language), self._images + language.image
        name = f"{language.name} compiles"
        return bare.BareLoop(name, image, place, box, argv, language.compile.env, 1, (PARALLEL,))


def _prepare(place: Path, tests: Sequence[TestCase]) -> None:
    place.mkdir()
    bare.build_floor(place)
    bare.write_tests(place / "tests", tests)


def _source(place: Path, language: Language) -> Path:
    folder = place / f"{language.name}-{language.version}"
    folder.mkdir()
    shutil.copyfile(workload.PROGRAMS / language.name / language.source, folder / language.source)
    return folder
