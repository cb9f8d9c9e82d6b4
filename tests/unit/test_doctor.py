"""What the doctor concludes from what he sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evalx.doctor import check_cgroups, check_channel, check_redis_memory, check_swap, check_topic, examine
from evalx.settings import Settings


@pytest.mark.parametrize(
    ("info", "status", "what"),
    [
        ({"CgroupVersion": "2", "MemoryLimit": True, "PidsLimit": True, "SwapLimit": True}, "ok", "cgroup v2"),
        ({"MemoryLimit": True, "PidsLimit": True, "SwapLimit": False}, "warn", "cgroup v1: swap"),
        ({"MemoryLimit": False, "PidsLimit": True, "SwapLimit": True}, "fail", "memory"),
        ({"MemoryLimit": False, "PidsLimit": False}, "fail", "memory and pids"),
    ],
)
def test_cgroups(info: dict[str, Any], status: str, what: str):
    check = check_cgroups(info)
    assert check.status == status
    assert what in check.detail
    assert bool(check.advice) == (status != "ok")


@pytest.mark.parametrize(
    ("memory", "status"),
    [
        ({"maxmemory": 512 << 20, "maxmemory_policy": "allkeys-lru"}, "ok"),
        ({"maxmemory": 512 << 20, "maxmemory_policy": "allkeys-lfu"}, "ok"),
        ({"maxmemory": 512 << 20, "maxmemory_policy": "noeviction"}, "warn"),
        ({"maxmemory": 0, "maxmemory_policy": "allkeys-lru"}, "warn"),
        ({}, "warn"),
    ],
)
def test_redis_memory(memory: dict[str, Any], status: str):
    assert check_redis_memory(memory).status == status


@pytest.mark.parametrize(("found", "status"), [(12, "ok"), (0, "fail"), (11, "fail"), (13, "fail")])
def test_topics(found: int, status: str):
    assert check_topic("evalx.results", 12, found).status == status


@pytest.mark.parametrize(
    ("kind", "reasons", "on", "status", "what"),
    [
        ("socket", [], True, "ok", "over a socket"),
        ("attach", ["an older image"], True, "warn", "an older image"),
        ("attach", [], False, "ok", "EVALX_DIRECT_SOCKETS"),
    ],
)
def test_what_frames_travel_over(kind: str, reasons: list[str], on: bool, status: str, what: str):
    check = check_channel(kind, reasons, Settings.load(direct_sockets=on))
    assert check.status == status
    assert what in check.detail


def test_swap(tmp_path: Path):
    table = tmp_path / "swaps"
    assert check_swap(table).status == "ok"
    table.write_text("Filename\tType\tSize\tUsed\tPriority\n")
    assert check_swap(table).status == "ok"
    table.write_text("Filename\tType\tSize\tUsed\tPriority\n/dev/sda2 partition 1 0 -2\n")
    assert (check_swap(table).status, check_swap(table).detail) == ("warn", "on: /dev/sda2")


async def test_with_everything_away_every_check_still_answers(tmp_path: Path):
    settings = Settings(
        kafka_bootstrap="127.0.0.1:1", redis_url="redis://127.0.0.1:1", docker_host=f"unix://{tmp_path}/none"
    )
    checks = {check.name: check for check in await examine(settings, {"EVALX_CPU_SLOT": "1"})}
    assert {name: check.status for name, check in checks.items() if name != "swap"} == {
        "settings": "warn",
        "docker": "fail",
        "kafka": "fail",
        "redis": "warn",
    }
    assert all(check.advice for check in checks.values() if check.status != "ok")
    assert "EVALX_CPU_SLOTS" in checks["settings"].detail
