"""go-judge, by its own batch call: one POST /run with a command for each test, the artifact copied in from its cache.

It runs inside a container of the same image, since it shares its root's toolchain with the programs that it judges. It
needs to mount and to make control groups; it gets just these rights, no limit, and the host's network to be called by.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp

from bench import accounting, docker_cli, workload
from bench.measure import Sample
from evalx.messages import TestCase
from evalx.sandbox.protocol import File

#: Environments made beforehand: those of two batches in progress, so that no run has to wait for one.
PREFORK = 40
#: Seconds for it to make them.
START_TIMEOUT_S = 30.0
#: As its own default, but with /etc and /opt, where Java and its archives are.
_MOUNTS = """
mount:
{binds}
  - {{type: bind, source: /dev/null, target: /dev/null}}
  - {{type: bind, source: /dev/urandom, target: /dev/urandom}}
  - {{type: tmpfs, target: /w, data: "size=128m,nr_inodes=4k"}}
  - {{type: tmpfs, target: /tmp, data: "size=128m,nr_inodes=4k"}}
proc: true
workDir: /w
hostName: go-judge
domainName: go-judge
uid: 1536
gid: 1536
"""
_BIND = "  - {{type: bind, source: {0}, target: {0}, readonly: true}}"
_SHARED = ("/bin", "/lib", "/lib64", "/usr", "/etc", "/opt")


def mounts() -> str:
    """Its mount configuration."""
    return _MOUNTS.format(binds="\n".join(_BIND.format(path) for path in _SHARED))


def command(argv: Sequence[str], env: Sequence[str], test: TestCase, files: dict[str, str]) -> dict[str, Any]:
    """One of the commands of a batch; `files` are cached file ids by name."""
    return {
        "args": [word.replace("/box/", "/w/") for word in argv],
        "env": list(env),
        "files": [{"content": test.stdin}, {"name": "stdout", "max": 65536}, {"name": "stderr", "max": 65536}],
        "cpuLimit": workload.LIMITS.cpu_time_ms * 1_000_000,
        "clockLimit": workload.LIMITS.wall_time_ms * 1_000_000,
        "memoryLimit": workload.LIMITS.memory_bytes + (256 << 20),
        "procLimit": 128,
        "copyIn": {name: {"fileId": file_id} for name, file_id in files.items()},
    }


class GoJudge:
    """A contender. Use it as a context; `binary` is go-judge's."""

    name = "go-judge"
    unit = "batch calls at a time"
    settings: Sequence[int] = (1, 2, 4)

    def __init__(
        self, binary: Path, image: str, place: Path, files: Sequence[File], argv: Sequence[str], env: Sequence[str],
        tests: Sequence[TestCase],
    ) -> None:  # fmt: skip
        self._binary, self._image, self._place = binary, image, place
        self._files, self._argv, self._env, self._tests = files, argv, env, tests
        self._container = f"{place.name}-go-judge"
        self._group = self._container
        self._url = f"http://127.0.0.1:{_free_port()}"
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        self._batch = b""

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        await self._stop()

    async def run(self, batches: int, setting: int) -> Sample:
        """Send batch calls, so many at a time; go-judge works on as many as it was told to, which is the cores."""
        todo = iter(range(batches))
        used, client, started = accounting.cgroups_ms([self._group]), time.process_time(), time.perf_counter()
        wrong = sum(await asyncio.gather(*(self._work(todo) for _ in range(setting))))
        seconds, client = time.perf_counter() - started, time.process_time() - client
        now = accounting.cgroups_ms([self._group])
        tests = batches * len(self._tests)
        cpu_ms = {"client": client * 1000 / tests}
        if used is not None and now is not None:
            cpu_ms["go-judge"] = (now - used) / tests
        return Sample(tests=tests, seconds=seconds, wrong=wrong, cpu_ms=cpu_ms)

    async def _work(self, todo: Any) -> int:
        wrong = 0
        for _ in todo:
            async with self._session.post(f"{self._url}/run", data=self._batch) as response:
                results = json.loads(await response.read())
            for test, result in zip(self._tests, results, strict=True):
                right = result["status"] == "Accepted" and result["files"]["stdout"] == test.expected_output
                wrong += not right
        return wrong

    async def _start(self) -> None:
        (self._place / "mount.yaml").write_text(mounts())
        docker_cli.docker(
            "run", "-d", "--name", self._container, "--network", "host", "--shm-size", "512m", "--cap-add", "SYS_ADMIN",
            "--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined",
            "--security-opt", "systempaths=unconfined", "--cgroupns", "host", "-v", "/sys/fs/cgroup:/sys/fs/cgroup",
            "-v", f"{self._binary}:/bench/go-judge:ro", "-v", f"{self._place / 'mount.yaml'}:/bench/mount.yaml:ro",
            "--entrypoint", "/bench/go-judge", self._image,
            "-http-addr", self._url.removeprefix("http://"), "-mount-conf", "/bench/mount.yaml", "-release", "-silent",
            "-no-fallback", "-pre-fork", str(PREFORK), "-parallelism", "2", "-cgroup-prefix", self._group,
        )  # fmt: skip
        await self._wait_until_up()
        files = {file.name.rpartition("/")[2]: await self._upload(file) for file in self._files}
        argv = [word.replace("/box/classes", "/w") for word in self._argv]
        self._batch = json.dumps({"cmd": [command(argv, self._env, test, files) for test in self._tests]}).encode()

    async def _wait_until_up(self) -> None:
        async with asyncio.timeout(START_TIMEOUT_S):
            while True:
                with contextlib.suppress(aiohttp.ClientError):
                    async with self._session.get(f"{self._url}/version"):
                        return
                await asyncio.sleep(0.2)

    async def _upload(self, file: File) -> str:
        form = aiohttp.FormData()
        form.add_field("file", file.data, filename=file.name.rpartition("/")[2])
        async with self._session.post(f"{self._url}/file", data=form) as response:
            return str(json.loads(await response.read()))

    async def _stop(self) -> None:
        await self._session.close()
        await docker_cli.remove(self._container)
        _remove_groups(self._group)


def _remove_groups(name: str) -> None:
    """Control groups of version 1 outlive their container."""
    for group in Path("/sys/fs/cgroup").glob(f"*/{name}"):
        for directory in sorted({group, *group.glob("**/")}, reverse=True):
            with contextlib.suppress(OSError):
                directory.rmdir()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
