"""Attacks on the kernel, and what they say of themselves.

An attack reports each attempt by a line, `+ NAME ...` when it worked and `- NAME ERROR` when it was refused, and says
`end` at last, so that one that was stopped early is not taken for one that failed.
"""

from __future__ import annotations

from typing import Any

from arena import PROGRAMS, Batch

KERNEL = PROGRAMS / "kernel"
#: Bounds for hangs: a child for each of a thousand attempts, on a machine that has other things to do.
WIDE: dict[str, Any] = {
    "cpu_time_ms": 30_000,
    "wall_time_ms": 90_000,
    "memory_bytes": 256 << 20,
    "output_bytes": 1 << 20,
    "processes": 32,
}


def source(program: str) -> str:
    """The text of a program; those in C begin with what they share."""
    text = (KERNEL / program).read_text()
    return (KERNEL / "attempt.h").read_text() + text if program.endswith(".c") else text


def attempts(batch: Batch) -> list[dict[str, str]]:
    """For each test, the attempts and how each ended: an error's name, or `WORKED ...`."""
    assert batch.artifact.files, batch.text
    return [_parse(test.stdout, f"{test.verdict} {test.stderr}") for test in batch.tests]


def _parse(stdout: str, otherwise: str) -> dict[str, str]:
    lines = stdout.splitlines()
    assert lines, otherwise
    assert lines[-1] == "end", (otherwise, lines[-5:])
    found = {}
    for line in lines[:-1]:
        sign, name, *rest = line.split(" ", 2)
        assert sign in ("+", "-"), line
        found[name] = " ".join(rest) if sign == "-" else "WORKED " + " ".join(rest)
    return found


def worked(found: dict[str, str]) -> dict[str, str]:
    """The attempts that worked."""
    return {name: end for name, end in found.items() if end.startswith("WORKED")}
