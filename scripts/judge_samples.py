"""Judges the samples through Kafka, in every installed version of every language, and prints a table.

Usage: judge_samples.py EXAMPLES. A sample is EXAMPLES/PROBLEM with tests/ and one source for each language, named as the
language table names it. Exit code 0 only if every verdict is AC.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

import orjson

from evalx.languages import Registry

# Each command is a process of half a second of CPU time of its own.
AT_ONCE = 3
TIMEOUT_S = 120
ROW = "  {:<12} {:<9} {:<8} {:<8} {:>6} {:>11} {:>11} {:>8}  {}"


async def submit(source: Path, tests: Path, language: str, version: str) -> dict[str, Any]:
    """The result of one submission, or `{"error": ...}`."""
    argv = ["submit", str(source), "--tests", str(tests), "--language", language, "--version", version, "--json"]
    evalx = Path(sys.executable).with_name("evalx")
    process = await asyncio.create_subprocess_exec(
        str(evalx), *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), TIMEOUT_S)
    except TimeoutError:
        process.kill()
        return {"error": f"no result after {TIMEOUT_S} s"}
    try:
        return dict(orjson.loads(out))
    except ValueError:
        return {"error": (err or out).decode("utf-8", "replace").strip() or f"exit code {process.returncode}"}


def row(problem: str, language: str, version: str, result: dict[str, Any], elapsed_s: float) -> str:
    """One line of the table, times in milliseconds."""
    tests = result.get("tests") or []
    good = sum(test["verdict"] in ("AC", "OK") for test in tests)
    compiled = result.get("compile") or {}
    slowest = max((test["wall_time_ms"] for test in tests), default=0.0)
    error = result.get("error")
    return ROW.format(
        problem, language, version, result.get("verdict") or "-", f"{good}/{len(tests)}",
        f"{compiled['wall_time_ms']:.0f} ms" if compiled else "-", f"{slowest:.1f} ms", f"{elapsed_s:.1f} s",
        error if error else result.get("source", ""),
    )  # fmt: skip


async def judge(examples: Path) -> bool:
    """Judge everything, print rows in the order of the table; true if all is AC."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(problem: Path, name: str, version: str, source: Path) -> tuple[str, bool]:
        async with slots:
            start = time.monotonic()
            result = await submit(source, problem / "tests", name, version)
        line = row(problem.name, name, version, result, time.monotonic() - start)
        return line, result.get("verdict") == "AC"

    jobs = [
        asyncio.create_task(one(problem, language.name, language.version, problem / language.source))
        for problem in sorted(examples.iterdir())
        for language in Registry.load().languages
        if (problem / language.source).exists()
    ]
    print(ROW.format("problem", "language", "version", "verdict", "tests", "compile", "slowest run", "in all", ""))
    verdicts = []
    for job in jobs:
        line, accepted = await job
        print(line, flush=True)
        verdicts.append(accepted)
    return bool(verdicts) and all(verdicts)


if __name__ == "__main__":
    sys.exit(not asyncio.run(judge(Path(sys.argv[1]))))
