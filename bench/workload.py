"""What is measured: a program for each language, and a batch of tests with the outputs that are right."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import msgspec

from evalx.languages import Language, Registry
from evalx.messages import LinesChecker, Submission, TestCase
from evalx.messages.submission import Limits

PROGRAMS = Path(__file__).parent / "programs"
#: Numbers in a test's input: the usual size of a sample test, where starting the program is most of the work.
NUMBERS_PER_TEST = 20
#: Enough for each program on a machine that is busy with something else; no test comes near.
LIMITS = Limits(cpu_time_ms=10_000, wall_time_ms=60_000, memory_bytes=256 << 20)


class Musts(msgspec.Struct, frozen=True):
    """How many times as fast as each of the others evalx has to be."""

    bare_loop: float
    go_judge: float


MUSTS = {
    "c": Musts(2.0, 12.0),
    "cpp": Musts(2.5, 12.0),
    "python": Musts(5.0, 10.0),
    "java": Musts(0.85, 1.5),
    "javascript": Musts(0.85, 1.5),
}

#: `language` or `language-version`, as it is given on the command line.
DEFAULT_LANGUAGES = ("c", "cpp", "python", "java-21", "java-25", "javascript")


def resolve(registry: Registry, name: str) -> Language:
    """The language of `java` or `java-25`; raises RejectedError."""
    language, _, version = name.partition("-")
    return registry.resolve(language, version or None)


def source(language: Language, program: str | None = None) -> str:
    """The source text of the measured program, or of another one of the language's folder."""
    return (PROGRAMS / language.name / (program or language.source)).read_text()


def make_tests(count: int, seed: int = 20) -> tuple[TestCase, ...]:
    """Tests with distinct inputs; the right answers are computed here, not by any of the measured programs."""
    dice = random.Random(seed)
    tests = []
    for index in range(count):
        values = [dice.randrange(-1000, 1000) for _ in range(NUMBERS_PER_TEST - 1)] + [index]
        stdin = f"{len(values)}\n{' '.join(map(str, values))}\n"
        tests.append(TestCase(id=str(index + 1), stdin=stdin, expected_output=_answer(values)))
    return tuple(tests)


#: The program, in C, whose output is as long as its input says.
WRITER = "writer.c"


def make_outputs(count: int, seed: int, output_bytes: int) -> tuple[TestCase, ...]:
    """Tests of ``WRITER`` with distinct inputs and so many bytes of output."""
    alphabet = "abcdefghijklmnopqrstuvwxyz"
    tests = []
    for index in range(count):
        start = seed * count + index
        first = start % len(alphabet)
        text = (alphabet * (output_bytes // len(alphabet) + 2))[first : first + output_bytes]
        tests.append(TestCase(id=str(index + 1), stdin=f"{output_bytes} {start}\n", expected_output=text))
    return tuple(tests)


def _answer(values: list[int]) -> str:
    return f"{sum(values)} {sorted(values)[len(values) // 2]} {len(set(values))}\n"


def submission(language: Language, code: str, tests: tuple[TestCase, ...]) -> Submission:
    """The batch as it would come from Kafka."""
    return Submission(
        id="bench",
        language=language.name,
        version=language.version,
        code=code,
        tests=tests,
        limits=LIMITS,
        checker=LinesChecker(),
        cache="bypass",
    )


#: What evalx has prepared for its own runs, and how it uses that; a bare judge would not have it.
_PREPARED = (
    "-XX:SharedArchiveFile=",
    "-XX:+UnlockDiagnosticVMOptions",
    "-XX:ArchiveRelocationMode=",
    "-J-XX:SharedArchiveFile=",
)
_STARTERS = "/opt/evalx/"


def plain_argv(language: Language) -> tuple[str, ...]:
    """The command of a judge that starts the same binary the usual way."""
    if language.name == "python":
        return ("python3", "-I", "-S", f"/box/{language.source}")
    return plain(own_argv(language))


def plain(argv: Sequence[str]) -> tuple[str, ...]:
    """A command without what evalx has prepared."""
    program, *words = argv
    if program.startswith(_STARTERS):
        program = program.removeprefix(_STARTERS)
    return (program, *(word for word in words if not word.startswith(_PREPARED)))


def own_argv(language: Language) -> tuple[str, ...]:
    """The command that evalx itself runs."""
    return language.run_argv(LIMITS.memory_bytes)


#: The loop of a program that was built as below.
USUAL_BUILD = "bare loop, built by plain -O2"
_COMPILERS = {"c": "gcc", "cpp": "g++"}


def usual_build(language: Language) -> tuple[str, ...] | None:
    """How an ordinary judge builds it, libraries shared, from /box into /out; None where evalx does so too."""
    if language.name not in _COMPILERS:
        return None
    standard = f"-std=gnu{'++' if language.name == 'cpp' else ''}{language.version}"
    return (_COMPILERS[language.name], standard, "-O2", "-o", "/out/main", f"/box/{language.source}", "-lm")
