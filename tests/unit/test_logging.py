"""What a service's log looks like: JSON unless a person looks, and nothing that must not be read there."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys

#: Logs as a service does, and fails with something in its variables, once by itself and once in a library.
SCRIPT = """
import logging
import structlog
from evalx.cli.running import log_to_stderr
from evalx.settings import Settings

log_to_stderr(Settings.load())
log = structlog.get_logger("evalx")

def fail(code):
    password = {"of": "hu" + "sh-password"}
    try:
        raise ValueError("a defect")
    except ValueError:
        log.exception("crashed", submission="s-1")
        logging.getLogger("library").exception("a library has crashed")

log.info("begun", count=1)
fail("hu" + "sh-code")
"""


def _run(stderr: int) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-c", SCRIPT], stderr=stderr, check=True, timeout=60)


def test_outside_a_terminal_each_line_is_json_and_tracebacks_have_no_values():
    lines = _run(subprocess.PIPE).stderr.splitlines()
    begun, crashed, library = map(json.loads, lines)
    assert (begun["event"], begun["level"], begun["count"]) == ("begun", "info", 1)
    assert (crashed["event"], crashed["submission"], library["logger"]) == ("crashed", "s-1", "library")
    for line in (crashed, library):
        (raised,) = line["exception"]
        assert (raised["exc_type"], raised["exc_value"]) == ("ValueError", "a defect")
        assert raised["frames"][-1]["name"] == "fail"
    assert b"hush" not in b"".join(lines)


def test_on_a_terminal_neither():
    ours, theirs = pty.openpty()
    _run(theirs)
    os.close(theirs)
    said = b""
    # What a terminal says when the other side is gone is an error.
    while True:
        try:
            said += os.read(ours, 1 << 16)
        except OSError:
            break
    os.close(ours)
    assert b"begun" in said
    assert said.count(b"a defect") == 2
    assert b"hush" not in said
