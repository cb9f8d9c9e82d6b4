"""Health is answered from a thread of its own: also while the worker's loop is busy, and with every service away."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from evalx.agents.health import Board, HealthServer, ProgressWatch
from evalx.agents.lag import PartitionLag
from evalx.agents.standstill import Work
from evalx.errors import ConfigurationError
from evalx.settings import Settings


@pytest.fixture
def settings(tmp_path: Path, unused_tcp_port: int) -> Settings:
    return Settings(
        kafka_bootstrap="127.0.0.1:1",
        redis_url="redis://127.0.0.1:1",
        docker_host=f"unix://{tmp_path}/none",
        health_port=unused_tcp_port,
        standstill_grace_s=2,
    )


@pytest.fixture
def board() -> Board:
    return Board()


@pytest.fixture
async def server(settings: Settings, board: Board) -> AsyncIterator[HealthServer]:
    server = HealthServer(settings, "w", board)
    await server.start()
    yield server
    await server.stop()


def ask(settings: Settings, path: str) -> tuple[int, Any]:
    """Blocks the test's loop, which stands for the worker's, while it waits."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{settings.health_port}{path}", timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


async def test_it_answers_while_the_loop_is_busy(server: HealthServer, settings: Settings, board: Board):
    status, body = ask(settings, "/livez")
    assert (status, json.loads(body)["live"], json.loads(body)["phase"]) == (200, True, "starting")
    board.beat_at -= 10
    assert json.loads(ask(settings, "/livez")[1])["details"]["loop"] == "busy for 10 s"
    assert b"evalx_lane_waiting" in ask(settings, "/metrics")[1]


async def test_ready_names_each_part(server: HealthServer, settings: Settings, board: Board):
    board.phase = "judging"
    board.beat(Work(assigned=frozenset({1, 2})), pool_warm=True)
    status, body = ask(settings, "/readyz")
    document = json.loads(body)
    assert status == 503
    assert document["parts"] == {"kafka": True, "redis": False, "docker": False, "pool": True, "loop": True}
    assert document["details"]["kafka"] == "2 partitions"
    assert document["details"]["docker"]


async def test_stuck_is_neither_live_nor_ready(server: HealthServer, settings: Settings, board: Board):
    board.stuck = "partition 4 stands"
    assert ask(settings, "/readyz")[0] == 503
    status, body = ask(settings, "/livez")
    assert (status, json.loads(body)["reason"]) == (503, "partition 4 stands")


async def test_a_port_that_is_taken_is_a_sentence(server: HealthServer, settings: Settings, board: Board):
    second = HealthServer(settings, "w", board)
    with pytest.raises(ConfigurationError, match=r"EVALX_HEALTH_PORT: cannot listen on 127\.0\.0\.1:"):
        await second.start()
    await second.stop()


# --- the watch


class Reader:
    """Stands in for the broker's word."""

    def __init__(self, real: bool = True) -> None:
        self.real = real

    async def oldest(self, lags: list[PartitionLag]) -> dict[int, int]:
        return {lag.partition: 1 for lag in lags} if self.real else {}


STANDING = [PartitionLag(4, "normal", 5, 9, 4)]
MEMBERS = {"evalx-worker:w"}


@pytest.fixture
def watch(settings: Settings, board: Board, monkeypatch: pytest.MonkeyPatch) -> ProgressWatch:
    monkeypatch.setattr("evalx.agents.health.end_by_force_after", lambda seconds, code: None)
    board.beat(Work(assigned=frozenset({4})), pool_warm=True)
    return ProgressWatch(settings, "w", board)


def later(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    at = time.monotonic() + seconds
    monkeypatch.setattr("evalx.agents.health.time.monotonic", lambda: at)


async def test_a_standstill_is_reported(watch: ProgressWatch, board: Board, monkeypatch: pytest.MonkeyPatch):
    await watch._judge(Reader(), STANDING, MEMBERS)  # type: ignore[arg-type]
    later(monkeypatch, 3)
    await watch._judge(Reader(), STANDING, MEMBERS)  # type: ignore[arg-type]
    assert board.stuck.startswith("partition 4 stands at offset 5")
    assert not watch.part().up


async def test_a_marker_is_no_standstill(watch: ProgressWatch, board: Board, monkeypatch: pytest.MonkeyPatch):
    await watch._judge(Reader(), STANDING, MEMBERS)  # type: ignore[arg-type]
    later(monkeypatch, 3)
    await watch._judge(Reader(real=False), STANDING, MEMBERS)  # type: ignore[arg-type]
    assert not board.stuck


async def test_a_group_that_lost_the_worker(watch: ProgressWatch, board: Board, monkeypatch: pytest.MonkeyPatch):
    await watch._judge(Reader(), [], {"evalx-worker:another"})  # type: ignore[arg-type]
    assert not board.stuck
    later(monkeypatch, 3)
    await watch._judge(Reader(), [], {"evalx-worker:another"})  # type: ignore[arg-type]
    assert "has not had this worker as a member" in board.stuck


async def test_a_loop_that_hangs(watch: ProgressWatch, board: Board, monkeypatch: pytest.MonkeyPatch):
    watch._look_at_loop()
    assert not board.stuck
    later(monkeypatch, 61)
    watch._start_anew("the process did not run")
    watch._look_at_loop()
    assert not board.stuck, "it did not run because nothing of the process did"
    later(monkeypatch, 61)
    watch._look_at_loop()
    assert board.stuck.startswith("the event loop has not run for ")
