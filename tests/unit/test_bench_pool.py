"""What of the pool's bench can be checked without measuring."""

from __future__ import annotations

from typing import Any

import pytest

from bench import pool
from bench.pool import Report, Run, Step


def make_report(**changes: Any) -> Report:
    steps = [
        Step(batches=1, done=9, waits_ms=[0.01] * 9, starts_ms=[], most_containers=3),
        Step(batches=200, done=400, waits_ms=[0.02] * 398 + [40.0, 140.0], starts_ms=[120.0], most_containers=5),
    ]
    run = {"floor": 3, "idle_start_ms": 100.0, "immediate_ms": [0.02, 0.03, 0.9], "steps": steps, "back_s": 44.0}
    run = {**run, "most_containers": 5, "wrong": 0, **changes}
    return Report(machine={"kernel": "Linux"}, cap=6, places=8, runs=[Run(**run)])


def verdicts(report: Report) -> list[str]:
    musts = pool.as_markdown(report).split("| must")[1].splitlines()[2:]
    return [line.split("|")[-2].strip() for line in musts if line.startswith("|")]


def test_what_is_as_wanted_passes():
    text = pool.as_markdown(make_report())
    assert verdicts(make_report()) == ["pass"] * 5
    assert "1.40x" in text
    assert "1.17x" in text
    (row,) = [line for line in text.splitlines() if line.startswith("| 1   | 200 ")]
    assert row.replace("|", " ").split() == ["1", "200", "400", "0.020", "0.02", "140.0", "1", "120", "5"]


@pytest.mark.parametrize(
    ("changes", "failed"),
    [
        ({"idle_start_ms": 50.0}, [0]),
        ({"back_s": None}, [2]),
        ({"back_s": 61.0}, [2]),
        ({"most_containers": 7}, [3]),
        ({"immediate_ms": [1.5]}, [4]),
    ],
)
def test_what_is_not_is_marked(changes: dict[str, Any], failed: list[int]):
    marks = verdicts(make_report(**changes))
    assert [place for place, mark in enumerate(marks) if mark != "pass"] == failed


def test_options():
    options = pool.parse(["--languages", "c,java-25", "--steps", "1,7,1", "--repeats", "2"])
    assert (options.languages, options.steps, options.repeats) == (("c", "java-25"), (1, 7, 1), 2)
    with pytest.raises(SystemExit):
        pool.parse(["--steps", "0"])
