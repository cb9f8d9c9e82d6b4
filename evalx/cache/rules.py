"""What may be kept, so that it is given to others as their answer. ``docs/caching.md`` explains it to users.

A verdict is kept only if another run would most likely give the same one. A limit makes that doubtful from both sides:

- ``TLE`` and ``MLE`` are never kept. The program was stopped at the limit, so nobody knows by how much it would have
  missed it; on a machine that is less busy it may pass.
- Any other verdict is kept only if the run stayed at or below ``NEAR_LIMIT`` of every limit: CPU time, wall time and
  memory. One that needed more may be stopped the next time.
- ``JE`` is our fault and no verdict, ``SK`` says nothing of the test. Neither is kept.
- A compiler that was stopped at a limit may come through the next time. Its failure is not kept; an ordinary compile
  error is.
"""

from __future__ import annotations

import msgspec

from evalx.messages import CompileReport, Limits, TestResult
from evalx.verdicts import Verdict

#: A run that used more than this part of a limit may fall on the other side of it next time: times of one program
#: differ by some per cent from run to run, and by more when the machine is busy.
NEAR_LIMIT = 0.8
#: Verdicts that depend on more than the program and the test.
UNREPEATABLE = frozenset({Verdict.TLE, Verdict.MLE, Verdict.JE, Verdict.SK})


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """Which levels an operator has switched on. Compiled programs are always kept."""

    results: bool = True
    tests: bool = True
    single_flight: bool = True


def is_conclusive(report: CompileReport | None) -> bool:
    """Whether another compile would end the same way."""
    return report is None or report.exit_code is not None


def is_repeatable(test: TestResult, limits: Limits) -> bool:
    """Whether another run of the test would most likely have the same verdict."""
    return (
        test.verdict not in UNREPEATABLE
        and test.cpu_time_ms <= NEAR_LIMIT * limits.cpu_time_ms
        and test.wall_time_ms <= NEAR_LIMIT * limits.wall_time_ms
        and test.peak_memory_bytes <= NEAR_LIMIT * limits.memory_bytes
    )
