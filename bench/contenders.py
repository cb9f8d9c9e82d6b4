"""Other ways to run the load of the headline: bare loops, go-judge, ``docker exec`` for each test.

They run the programs that evalx compiled, on inputs of the same kind; nothing is compiled in their time, no broker is
between, and nobody waits for anybody else. They take turns with evalx, so that a machine that gets slower meanwhile is
slower for all. What is slow runs a part of the tests, and its time is scaled.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import msgspec

from bench import bare, workload
from bench.dockerexec import DockerExec
from bench.gojudge import GoJudge
from bench.load import TESTS
from bench.measure import Sample
from bench.pooled import Pooled
from bench.sandbox import write_artifact
from evalx.execution import Artifact
from evalx.languages import Language, Registry
from evalx.messages import TestCase
from evalx.settings import Settings

FLOOR, PLAIN_FLOOR, GO_JUDGE, DOCKER_EXEC = "bare loop", "bare loop of plain -O2 builds", "go-judge", "docker exec"
#: What they are, for those who read the report.
ABOUT = {
    FLOOR: "`posix_spawn` of the very binaries that evalx runs, no sandbox",
    PLAIN_FLOOR: "the same of what `gcc -O2` and `g++ -O2` build, libstdc++ dynamic",
    GO_JUDGE: "its own batch calls of 20 tests",
    DOCKER_EXEC: "one `docker exec` a test in a container that is there already",
}
#: Batch calls of go-judge at a time for each core: with fewer it waits for its client.
CALLS_PER_CORE = 2


class Samples(msgspec.Struct, frozen=True, kw_only=True):
    """How many of the tests each peer runs, shared between the languages; 0 leaves it out."""

    floor: int
    plain_floor: int = 0
    go_judge: int = 0
    docker_exec: int = 0


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a peer: seconds for all tests, scaled from those that it ran."""

    seconds: float
    ran: int
    wrong: int


class Contender(Protocol):
    """As much of one as is needed here."""

    async def run(self, batches: int, setting: int) -> Sample:
        """Run so many batches of 20 tests, ``setting`` things at a time."""

    async def __aenter__(self) -> object: ...

    async def __aexit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None: ...


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """One other way, with a contender for each language."""

    name: str
    tests: int
    setting: int
    contenders: list[Contender]

    async def measure(self, tests: int) -> Turn:
        """Run the sample, one language after the other, and scale it to so many tests."""
        batches = max(1, round(self.tests / TESTS / len(self.contenders)))
        samples = [await contender.run(batches, self.setting) for contender in self.contenders]
        ran = sum(sample.tests for sample in samples)
        seconds = sum(sample.seconds for sample in samples) * tests / ran
        return Turn(seconds=seconds, ran=ran, wrong=sum(sample.wrong for sample in samples))


class Peers:
    """Use it as a context: ``peers`` are ready in it."""

    def __init__(self, languages: Sequence[str], samples: Samples, go_judge: Path | None, settings: Settings) -> None:
        registry = Registry.load()
        self._languages = [workload.resolve(registry, name) for name in languages]
        self._samples, self._go_judge, self._settings = samples, go_judge, settings
        self._tests = workload.make_tests(TESTS)
        self._exits = contextlib.AsyncExitStack()
        cores = os.cpu_count() or 1
        self._found = {
            FLOOR: Peer(name=FLOOR, tests=samples.floor, setting=cores, contenders=[]),
            PLAIN_FLOOR: Peer(name=PLAIN_FLOOR, tests=samples.plain_floor, setting=cores, contenders=[]),
            GO_JUDGE: Peer(name=GO_JUDGE, tests=samples.go_judge, setting=CALLS_PER_CORE * cores, contenders=[]),
            DOCKER_EXEC: Peer(name=DOCKER_EXEC, tests=samples.docker_exec, setting=cores, contenders=[]),
        }

    @property
    def peers(self) -> list[Peer]:
        """Those that are measured."""
        return [peer for peer in self._found.values() if peer.contenders]

    @property
    def notes(self) -> list[str]:
        """What each one is, how much it runs, and which is not measured."""
        notes = [
            f"{peer.name}: {ABOUT[peer.name]}; {peer.tests:,} tests a run, {peer.setting} at a time, scaled to all."
            for peer in self.peers
        ]
        if self._samples.go_judge and self._go_judge is None:
            notes.append("go-judge is not measured: give its binary with --go-judge PATH or GO_JUDGE.")
        return notes

    async def __aenter__(self) -> Self:
        try:
            root = self._exits.enter_context(tempfile.TemporaryDirectory(prefix="evalx-bench-"))
            for language in self._languages:
                place, artifact = make_place(Path(root), language, self._tests), await self._compile(language)
                for name, contender in self._contenders(language, place, artifact):
                    await self._exits.enter_async_context(contender)
                    self._found[name].contenders.append(contender)
        except BaseException:
            await self._exits.aclose()
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        await self._exits.aclose()

    async def _compile(self, language: Language) -> Artifact:
        async with Pooled(self._settings, language, f"bench:{os.getpid()}", ()) as pooled:
            return await pooled.compile(workload.source(language), self._tests)

    def _contenders(self, language: Language, place: Path, artifact: Artifact) -> Iterator[tuple[str, Contender]]:
        image, argv, env = self._settings.image_prefix + language.image, workload.plain_argv(language), language.run_env
        box = place / "artifact"
        write_artifact(box, artifact)
        yield FLOOR, bare.BareLoop(FLOOR, image, place, box, argv, env, TESTS, ())
        if self._samples.plain_floor and (command := workload.usual_build(language)) is not None:
            built = bare.build(place, language, image, command)
            yield PLAIN_FLOOR, bare.BareLoop(PLAIN_FLOOR, image, place, built, argv, env, TESTS, ())
        if self._samples.go_judge and self._go_judge is not None:
            yield GO_JUDGE, GoJudge(self._go_judge, image, place, artifact.files, argv, env, self._tests)
        if self._samples.docker_exec:
            yield DOCKER_EXEC, DockerExec(image, place, box, argv, self._tests)


def make_place(root: Path, language: Language, tests: Sequence[TestCase]) -> Path:
    """The directory of a language, with the loop and the tests; its name becomes that of containers."""
    place = root / f"{root.name}-{language.name}"
    # Programs in containers run under other user ids.
    root.chmod(0o755)
    place.mkdir()
    bare.build_floor(place)
    bare.write_tests(place / "tests", tests)
    return place
