"""The folder of sockets: whose it is, what is in it, and what becomes of it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiodocker
import pytest

from evalx.sandbox.sockets import Doorway, Sockets, open_sockets, sweep
from evalx.settings import Settings


class Daemon:
    """Knows one volume."""

    async def _query_json(self, path: str) -> dict[str, Any]:
        if path != "volumes/stack_sockets":
            raise aiodocker.DockerError(404, "no such volume")
        return {"Mountpoint": "/var/lib/docker/volumes/stack_sockets/_data"}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "s"


def opened(directory: Path, told: list[str] | None = None, **changes: Any) -> Sockets | None:
    """``told`` gets why frames go through Docker."""
    settings = Settings.load(socket_dir=directory, **changes)
    return asyncio.run(open_sockets(Daemon(), settings, [].append if told is None else told.append))  # type: ignore[arg-type]


def test_a_doorway_is_its_owners_alone(directory: Path):
    sockets = opened(directory)
    assert sockets is not None
    doorway, other = sockets.doorway(), sockets.doorway()
    assert doorway is not None
    assert other is not None
    folder = Path(doorway.mount["Source"])
    assert doorway.mount == {"Type": "bind", "Source": str(folder), "Target": "/run/evalx", "ReadOnly": True}
    for place in (directory, folder.parent, folder):
        assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert doorway.token != other.token
    assert doorway.mount != other.mount
    assert [entry.name for entry in folder.iterdir()] == ["worker"]
    doorway.close()
    other.close()
    assert not folder.exists()
    sockets.close()
    assert list(directory.iterdir()) == []


def test_a_runner_comes_through(directory: Path):
    sockets = opened(directory)
    assert sockets is not None
    doorway = sockets.doorway()
    assert doorway is not None
    with socket.socket(socket.AF_UNIX) as runner:
        runner.connect(str(Path(doorway.mount["Source"]) / "worker"))
        runner.send(doorway.token)
        asyncio.run(talk(doorway, runner))
    sockets.close()


async def talk(doorway: Doorway, runner: socket.socket) -> None:
    channel = await doorway.receive("c0ffee")
    doorway.close()
    assert channel is not None
    _, (fd,), *_ = socket.recv_fds(runner, 1, 1)
    with socket.socket(fileno=fd) as handed:
        assert [handed.getsockname(), handed.getpeername()] == ["", ""]
        handed.send(b"here")
        assert await asyncio.wait_for(channel.read(), 10) == b"here"
    await channel.close()


def test_a_stranger_is_handed_nothing(directory: Path):
    sockets = opened(directory)
    assert sockets is not None
    doorway = sockets.doorway()
    assert doorway is not None
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(str(Path(doorway.mount["Source"]) / "worker"))
        stranger.send(bytes(len(doorway.token)))
        assert asyncio.run(doorway.receive("c0ffee")) is None
        assert socket.recv_fds(stranger, 1, 1)[:2] == (b"", [])
    doorway.close()
    sockets.close()


def test_folders_of_the_dead_are_removed_and_those_of_the_living_are_not(directory: Path):
    sockets = opened(directory)
    assert sockets is not None
    code = (
        "import asyncio, sys, time; from pathlib import Path; from evalx.settings import Settings\n"
        "from evalx.sandbox.sockets import open_sockets\n"
        "sockets = asyncio.run(open_sockets(None, Settings.load(socket_dir=Path(sys.argv[1]))))\n"
        "sockets.doorway(); print(flush=True); time.sleep(100)"
    )
    worker = subprocess.Popen([sys.executable, "-c", code, str(directory)], stdout=subprocess.PIPE)
    with worker:
        assert worker.stdout is not None
        worker.stdout.readline()
        settings = Settings.load(socket_dir=directory)
        (directory / "somebody's").mkdir()
        assert sweep(settings) == 0
        assert len(list(directory.glob("w-*/"))) == 2
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        assert sweep(settings) == 1
    assert len(list(directory.glob("w-*/"))) == 1
    doorway = sockets.doorway()
    assert doorway is not None, "the living one can still be used"
    doorway.close()
    sockets.close()
    assert [entry.name for entry in directory.iterdir()] == ["somebody's"]


def test_a_volume_is_named_as_the_daemon_knows_it(directory: Path):
    sockets = opened(directory, socket_volume="stack_sockets")
    assert sockets is not None
    doorway = sockets.doorway()
    assert doorway is not None
    source = Path(doorway.mount["Source"])
    (worker,) = directory.iterdir()
    assert source.parent == Path("/var/lib/docker/volumes/stack_sockets/_data") / worker.name
    assert (worker / source.name / "worker").is_socket()
    doorway.close()
    sockets.close()


def test_where_sockets_are_of_no_use(directory: Path):
    told: list[str] = []
    assert opened(directory, told, direct_sockets=False) is None
    assert told == []
    assert opened(directory, told, docker_host="tcp://10.0.0.1:2375") is None
    assert opened(directory, told, socket_volume="another") is None
    assert opened(directory / ("x" * 100), told) is None
    directory.chmod(0o755)
    assert opened(directory, told) is None
    if os.geteuid() == 0:
        directory.chmod(0o700)
        os.chown(directory, 6066, 6066)
        assert opened(directory, told) is None
    assert len(told) == (5 if os.geteuid() == 0 else 4)
    assert "another machine" in told[0]
    assert "no such volume" in told[1]
    assert "too long" in told[2]
    assert all("user alone" in reason for reason in told[3:])


def test_it_says_a_reason_once(directory: Path):
    told: list[str] = []
    sockets = opened(directory, told)
    assert sockets is not None
    for _ in range(3):
        sockets.tell("an older image")
    sockets.give_up("the daemon does not see it")
    assert told == ["an older image", "the daemon does not see it"]
    assert sockets.doorway() is None
    sockets.close()
