"""The contract's example messages, and rules to read them by."""

import json
from typing import Any

from evalx.messages import LanguageRule, Rules

RULES = Rules(
    languages={
        "c": LanguageRule("17", ("17", "23")),
        "cpp": LanguageRule("17", ("17", "20", "23")),
        "python": LanguageRule("3.13", ("3.13",)),
        "java": LanguageRule("21", ("21", "25")),
        "javascript": LanguageRule("20", ("20",)),
    }
)

SUBMISSION: dict[str, Any] = json.loads("""{
  "id": "s-1",
  "language": "cpp",
  "version": "17",
  "code": "#include <bits/stdc++.h> ...",
  "tests": [{"id": "1", "stdin": "1 2\\n", "expected_output": "3\\n"}],
  "limits": {"cpu_time_ms": 2000, "wall_time_ms": 7000, "memory_bytes": 268435456,
             "output_bytes": 65536, "processes": 16},
  "checker": {"kind": "lines"},
  "stop_on_failure": false,
  "return_output": "always",
  "cache": "use",
  "metadata": {"problem": "aplusb"}
}""")

RESULT: dict[str, Any] = json.loads("""{
  "id": "s-1",
  "status": "judged",
  "verdict": "AC",
  "language": "cpp", "version": "17", "toolchain": "sha256:...",
  "compile": {"exit_code": 0, "output": "", "cpu_time_ms": 331.0, "wall_time_ms": 350.2, "cached": false},
  "tests": [
    {"id": "1", "verdict": "AC", "exit_code": 0, "signal": null,
     "cpu_time_ms": 0.6, "wall_time_ms": 0.9, "peak_memory_bytes": 3670016,
     "stdout": "3\\n", "stderr": "", "encoding": "utf-8",
     "stdout_truncated": false, "stderr_truncated": false, "cached": false}
  ],
  "source": "executed",
  "lane": "normal", "attempt": 1, "worker": "host-1:2313",
  "queued_ms": 3.1, "judged_ms": 371.4,
  "error": null,
  "metadata": {"problem": "aplusb"}
}""")

MINIMAL: dict[str, Any] = {"id": "s-1", "language": "cpp", "code": "int main(){}", "tests": [{}]}


def submission(**changes: Any) -> dict[str, Any]:
    """The smallest submission with some fields set, or removed when the value is `...`."""
    merged = {**MINIMAL, **changes}
    return {name: value for name, value in merged.items() if value is not ...}


def raw(document: Any) -> bytes:
    return json.dumps(document).encode()
