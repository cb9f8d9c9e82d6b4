"""The one table of verdicts: what each means, and which outcomes of a run lead to it.

Both directions come from it: `of_outcome` turns the runner's answer into a verdict, `OUTCOMES` lists what may lie
behind a verdict. Whether a program that exited with 0 was right (`AC`, `WA`) is the checker's word, not the runner's:
such a run is `OK` until its output was compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import IntEnum, StrEnum
from types import MappingProxyType
from typing import NamedTuple


class Verdict(StrEnum):
    """What is said about a test, or about a whole submission."""

    AC = "AC"
    OK = "OK"
    WA = "WA"
    TLE = "TLE"
    MLE = "MLE"
    OLE = "OLE"
    RTE = "RTE"
    CE = "CE"
    SK = "SK"
    JE = "JE"


class Outcome(IntEnum):
    """How a run ended, in the numbers of the runner protocol."""

    EXITED = 0
    SIGNALED = 1
    CPU_LIMIT = 2
    WALL_LIMIT = 3
    MEMORY_LIMIT = 4
    OUTPUT_LIMIT = 5
    CANCELLED = 6
    INTERNAL = 7


class Row(NamedTuple):
    """A verdict, its meaning in words, and the outcomes that lead to it without a look at the output."""

    verdict: Verdict
    meaning: str
    outcomes: tuple[Outcome, ...]


TABLE: tuple[Row, ...] = (
    Row(Verdict.AC, "accepted", ()),
    Row(Verdict.OK, "ran to exit code 0, nothing to compare", (Outcome.EXITED,)),
    Row(Verdict.WA, "wrong answer", ()),
    Row(Verdict.TLE, "time limit exceeded", (Outcome.CPU_LIMIT, Outcome.WALL_LIMIT)),
    Row(Verdict.MLE, "memory limit exceeded", (Outcome.MEMORY_LIMIT,)),
    Row(Verdict.OLE, "output limit exceeded", (Outcome.OUTPUT_LIMIT,)),
    Row(Verdict.RTE, "runtime error", (Outcome.SIGNALED,)),
    Row(Verdict.CE, "compile error", ()),
    Row(Verdict.SK, "skipped", (Outcome.CANCELLED,)),
    Row(Verdict.JE, "judge error", (Outcome.INTERNAL,)),
)

MEANING: Mapping[Verdict, str] = MappingProxyType({row.verdict: row.meaning for row in TABLE})
OUTCOMES: Mapping[Verdict, tuple[Outcome, ...]] = MappingProxyType({row.verdict: row.outcomes for row in TABLE})
VERDICT: Mapping[Outcome, Verdict] = MappingProxyType({o: row.verdict for row in TABLE for o in row.outcomes})

PASSED: frozenset[Verdict] = frozenset({Verdict.AC, Verdict.OK})
"""What does not fail a submission, and does not stop one that stops on failure."""


def of_outcome(outcome: Outcome, exit_code: int = 0) -> Verdict:
    """The verdict of a run before its output is compared; a non-zero exit code is a runtime error."""
    if outcome is Outcome.EXITED and exit_code != 0:
        return Verdict.RTE
    return VERDICT[outcome]


def overall(verdicts: Iterable[Verdict]) -> Verdict:
    """The submission's verdict: the first neither `AC` nor `OK`, else `AC` if any test was compared, else `OK`."""
    compared = False
    for verdict in verdicts:
        if verdict not in PASSED:
            return verdict
        compared = compared or verdict is Verdict.AC
    return Verdict.AC if compared else Verdict.OK
