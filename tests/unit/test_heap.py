"""What was large and is free goes back to the system, also when small objects that live on lie between."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from evalx.agents import heap

PROGRAM = """
import sys
from evalx.agents.heap import give_back_what_is_free

def resident_mb():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 1e6

if sys.argv[1] == "given back":
    assert give_back_what_is_free()
before = resident_mb()
# The C library learns from these, unless it was told.
for size in (1 << 20, 4 << 20, 16 << 20):
    bytearray(size)
kept = []
for _ in range(3):
    fetched = []
    for _ in range(100):
        fetched.append(bytearray(1 << 20))
        kept.append(bytearray(2000))
    del fetched
print(resident_mb() - before)
"""


def grown_mb(how: str) -> float:
    ran = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True, timeout=60)
    return float(ran.stdout)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library has no such settings")
def test_what_is_large_is_given_back_when_it_is_freed():
    assert grown_mb("given back") < 20 < 60 < grown_mb("kept")


def test_a_c_library_without_such_settings_stays_as_it_is(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(heap.ctypes, "CDLL", lambda name: object())
    assert not heap.give_back_what_is_free()
