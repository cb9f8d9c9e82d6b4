"""Runs the suite once for each mutant and says what noticed it: ``python tests/chaos/prove_mutants.py [NAME]...``

A mutant counts as killed only if a test that names it failed with ``GuaranteeBrokenError``: a worker that does not even
start proves nothing.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from mutants import MUTANTS  # noqa: E402


def verdicts(mutant: str) -> list[str]:
    """What each test that names the mutant said, as ``TEST: KIND: DETAIL``; empty when none noticed it."""
    command = [sys.executable, "-m", "pytest", str(HERE), "--mutant", mutant, "-q", "-rf", "--tb=line"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=HERE.parents[1])
    (HERE.parents[1] / ".run").mkdir(exist_ok=True)
    (HERE.parents[1] / ".run" / f"mutant-{mutant}.log").write_text(done.stdout + done.stderr)
    return sorted(set(re.findall(r"GuaranteeBrokenError: (.*)", done.stdout)))


def main() -> int:
    survivors = []
    for mutant in sys.argv[1:] or MUTANTS:
        noticed = verdicts(mutant)
        print(f"{mutant:24} {'killed' if noticed else 'SURVIVED'}", flush=True)
        for one in noticed:
            print(f"    {one[:160]}", flush=True)
        survivors += [] if noticed else [mutant]
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
