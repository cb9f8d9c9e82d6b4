"""Attacks on the accounting: memory and CPU time that no look at the processes of a test shows."""

from __future__ import annotations

import pytest
from arena import Arena

from evalx.verdicts import Verdict


@pytest.mark.parametrize("how", ["memfds", "tmp", "cwd", "let-go", "in-flight", "sockets"])
async def test_memory_that_no_process_has_mapped(arena: Arena, how: str) -> None:
    """Eight times the limit, of files that are each as small as an output."""
    # Two of them can fill the places themselves before they are stopped.
    expect = {Verdict.MLE, Verdict.RTE} if how == "tmp" else Verdict.MLE
    await arena.attack(
        "c/hidden_memory.c", stdins=[how, how], expect=expect, cpu_time_ms=2000, output_bytes=1 << 20, processes=4
    )


@pytest.mark.parametrize("language", ["python", "java"])
async def test_memory_in_files_from_other_languages(arena: Arena, language: str) -> None:
    limits = {"cpu_time_ms": 4000, "wall_time_ms": 20_000, "output_bytes": 4 << 20, "memory_bytes": 32 << 20}
    batch = await arena.attack(f"{language}:{FILES[language]}", expect=Verdict.MLE, **limits)
    assert "kept" not in batch.text


FILES = {
    "python": """
import os
files = [os.memfd_create("x") for _ in range(500)]
for file in files:
    os.write(file, bytes(1 << 20))
print("kept")
""",
    "java": """
import java.nio.file.*;
public class Main {
    public static void main(String[] a) throws Exception {
        byte[] block = new byte[4 << 20];
        for (int i = 0; i < 120; i++)
            Files.write(Path.of(i % 2 == 0 ? "/tmp" : "/dev/shm", "x" + i), block);
        System.out.println("kept");
    }
}
""",
}


async def test_work_of_children_that_nobody_waits_for(arena: Arena) -> None:
    """20 s are a bound for hangs: it is stopped for its CPU time, or has worked for four seconds."""
    batch = await arena.attack(
        "c/hidden_time.c", stdins=["", ""], expect=Verdict.TLE, cpu_time_ms=300, wall_time_ms=20_000
    )
    assert batch.text == ""
