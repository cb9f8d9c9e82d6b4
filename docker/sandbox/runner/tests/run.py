"""Passes all tests of the runner, then shows its throughput. Needs root, no Docker; RUNNER names what is tested."""

from __future__ import annotations

import sys
import time
import unittest
from pathlib import Path

import harness


def throughput(mode: int, program: str, batches: int = 50, tests: int = 20) -> str:
    """Tests a second through one sandbox, batches one after the other, the best of three rounds."""
    job = harness.Job([program], inputs=[b"hello\n"] * tests, parallel=3, mode=mode).frames()
    best = 0.0
    with harness.Sandbox() as sandbox:
        for _ in range(3):
            start = time.monotonic()
            for _ in range(batches):
                sandbox.send(job)
                sandbox.finish()
            best = max(best, batches * tests / (time.monotonic() - start))
    name = ("exec", "fork server")[mode]
    return f"{harness.RUNNER.name}: {best:.0f} tests/s, batches of {tests}, {name}, {Path(program).name}"


if __name__ == "__main__":
    pattern = sys.argv[1] if len(sys.argv) > 1 else "test_*.py"
    suite = unittest.defaultTestLoader.discover(str(harness.HERE), pattern=pattern)
    passed = unittest.TextTestRunner(verbosity=1).run(suite).wasSuccessful()
    if passed:
        print(throughput(harness.MODE, harness.TRIVIAL))
    sys.exit(not passed)
