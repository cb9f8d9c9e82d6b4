"""A sandbox container in private namespaces, without Docker, and a client of the runner's protocol for it."""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
import unittest
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

HERE = Path(__file__).resolve().parent
PROGRAMS = Path(os.environ.get("PROGRAMS", HERE.parent / "build"))
RUNNER = Path(os.environ.get("RUNNER", PROGRAMS / "runner"))
# What a sandbox container has. The leak check at the end of a build with sanitizers traces the runner and needs more.
CAPABILITIES = "+all" if "checked" in RUNNER.name else "-all,+chown,+dac_override,+fowner,+kill,+setuid,+setgid"
# MODE=1 passes the same tests with programs that a fork server may serve.
MODE = int(os.environ.get("MODE", "0"))
SUFFIX = "-dynamic" if MODE == 1 else ""
PROBE = f"/opt/evalx/programs/probe{SUFFIX}"
TRIVIAL = f"/opt/evalx/programs/trivial{SUFFIX}"

EXITED, SIGNALED, CPU, WALL, MEMORY, OUTPUT, CANCELLED, INTERNAL = range(8)
JOB, FILE, INPUT, CANCEL, PING, PARALLEL, WARM, KEEP, KEPT, MOVE = range(1, 11)
HELLO, RESULT, COLLECTED, DONE, PONG, FATAL, COLLECT_FAILED, NEEDED, RUNNING, MOVED = range(0x81, 0x8B)
MIB = 1 << 20
TOKEN = bytes(range(16))

# The kernel counts RLIMIT_NPROC per uid over the whole machine: no two runners may share uids.
_uid_bases = itertools.count(200_000 + os.getpid() % 1000 * 100_000, 10_000)


def str16(text: str | bytes) -> bytes:
    """A string as the protocol wants it."""
    data = text.encode() if isinstance(text, str) else text
    return struct.pack("<H", len(data)) + data


def frame(kind: int, payload: bytes = b"") -> bytes:
    """A frame with its length."""
    return struct.pack("<IB", len(payload) + 1, kind) + payload


def keep(file_id: int, name: str, data: bytes, mode: int = 0o755) -> bytes:
    """A KEEP."""
    return frame(KEEP, struct.pack("<QI", file_id, mode) + str16(name) + data)


def kept(file_id: int, name: str) -> bytes:
    """A KEPT."""
    return frame(KEPT, struct.pack("<Q", file_id) + str16(name))


@dataclass
class Job:
    """A JOB with its inputs and files; times in seconds, sizes in bytes."""

    argv: list[str]
    inputs: list[bytes] = field(default_factory=lambda: [b""])
    files: list[tuple[str, int, bytes]] = field(default_factory=list)
    #: Frames that stand for a FILE each.
    kept: list[bytes] = field(default_factory=list)
    job_id: int = 1
    mode: int = MODE
    merge: bool = False
    parallel: int = 2
    cpu: float = 2.0
    on_cpu: int = 0
    wall: float = 10.0
    memory: int = 256 * MIB
    address_space: int = 0
    output: int = 65536
    file_bytes: int | None = None
    stack: int = 0
    processes: int = 64
    collect: list[str | bytes] = field(default_factory=list)
    collect_max: int = 64 * MIB
    env: list[str] = field(default_factory=lambda: ["PATH=/usr/bin:/bin"])

    def head(self) -> bytes:
        """The JOB frame."""
        files = len(self.files) + len(self.kept)
        numbers = struct.pack(
            "<IBBHHHHQQQQQQQIQ", self.job_id, self.mode, int(self.merge), len(self.inputs), files,
            self.parallel, self.on_cpu, int(self.cpu * 1e9), int(self.wall * 1e9), self.memory, self.address_space,
            self.output, self.output + 1 if self.file_bytes is None else self.file_bytes, self.stack,
            self.processes, self.collect_max,
        )  # fmt: skip
        lists = b""
        for strings in (self.argv, self.env, self.collect):
            lists += struct.pack("<H", len(strings)) + b"".join(map(str16, strings))
        return frame(JOB, numbers + lists)

    def frames(self) -> bytes:
        """All frames of the job in one piece."""
        files = [frame(FILE, struct.pack("<I", mode) + str16(name) + data) for name, mode, data in self.files]
        inputs = [frame(INPUT, struct.pack("<I", i) + data) for i, data in enumerate(self.inputs)]
        return self.head() + b"".join(files + self.kept) + b"".join(inputs)


@dataclass
class Result:
    """A RESULT frame; times in seconds."""

    index: int
    outcome: int
    code: int
    died: bool
    cpu: float
    wall: float
    peak: int
    flags: int
    served: bool
    warm: bool
    stdout: bytes
    stderr: bytes


@dataclass
class Report:
    """All that came back for a job."""

    results: list[Result] = field(default_factory=list)
    collected: dict[bytes, tuple[int, bytes]] = field(default_factory=dict)
    failed: str | None = None
    needed: list[int] = field(default_factory=list)
    clean: bool = False
    why: str = ""
    order: list[int] = field(default_factory=list)

    @property
    def one(self) -> Result:
        """The only result."""
        assert len(self.results) == 1, self.results
        return self.results[0]


def parse_result(payload: bytes) -> Result:
    """Takes a RESULT apart."""
    index, outcome, code, died, user, system, wall, peak, flags, size = struct.unpack_from("<IBiBQQQQBI", payload)
    rest = payload[struct.calcsize("<IBiBQQQQBI") :]
    cpu = (user + system) / 1e9
    return Result(
        index, outcome, code, bool(died), cpu, wall / 1e9, peak, flags & ~24, bool(flags & 8), bool(flags & 16),
        rest[:size], rest[size:],
    )  # fmt: skip


class Sandbox:
    """A running runner. Use as a context manager."""

    def __init__(self, dead_man: int = 60, uid_count: int = 10_000, cgroup: str = "-", *, warm: bool = False) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="runner-test-"))
        self.uid_base = next(_uid_bases)
        self.buffer = bytearray()
        #: Bound to /run/evalx, read-only.
        self.sockets = Path(tempfile.mkdtemp(prefix="runner-sockets-"))
        #: What is sent for a NEEDED.
        self.stock: dict[int, bytes] = {}
        environment = {"ASAN_OPTIONS": "detect_leaks=1", "WARM": "yes" if warm else "", "SOCKETS": str(self.sockets)}
        enter = [
            HERE / "enter.sh",
            self.root,
            RUNNER,
            PROGRAMS,
            cgroup,
            CAPABILITIES,
            self.uid_base,
            uid_count,
            dead_man,
        ]
        self.process = subprocess.Popen(
            ["unshare", "--mount", "--pid", "--ipc", "--fork", "--kill-child", "--", *map(str, enter)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0,
            env={**os.environ, **environment},
        )  # fmt: skip
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.stdin, self.stdout = self.process.stdin, self.process.stdout
        kind, payload = self.read()
        features = 1 | 4 | 8 | 16 | (2 if warm else 0)
        assert (kind, payload) == (HELLO, struct.pack("<II", 1, features)), (kind, payload)

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> int:
        """Closes stdin and gives the runner's exit code."""
        if not self.stdin.closed:
            self.stdin.close()
        try:
            code = self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        finally:
            self.stdout.close()
            shutil.rmtree(self.root, ignore_errors=True)
            shutil.rmtree(self.sockets, ignore_errors=True)
        return code

    def listen(self) -> socket.socket:
        """A socket where the runner looks for one."""
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self.sockets / "worker"))
        listener.listen(1)
        listener.settimeout(10)
        return listener

    def move(self) -> None:
        """Goes on over a socket."""
        with self.listen() as listener:
            self.send(frame(MOVE, TOKEN))
            connection, _ = listener.accept()
            ours, theirs = socket.socketpair()
            with connection, theirs:
                assert connection.recv(100) == TOKEN
                socket.send_fds(connection, [b"x"], [theirs.fileno()])
        assert self.read() == (MOVED, b"")
        self.stdin.close()
        self.stdout.close()
        self.stdin = self.stdout = os.fdopen(ours.detach(), "rb+", buffering=0)

    @property
    def pid(self) -> int:
        """The runner's pid on the host."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(children[0])

    def send(self, data: bytes) -> None:
        """Writes without caring how fast the runner reads."""
        if len(data) <= 16384:
            self._write(data)
        else:
            threading.Thread(target=self._write, args=(data,), daemon=True).start()

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self.stdin.fileno(), view) :]

    def read(self, timeout: float = 30.0) -> tuple[int, bytes]:
        """The next frame; EOFError when the runner has gone."""
        end = time.monotonic() + timeout
        while True:
            if len(self.buffer) >= 4:
                size = 4 + int.from_bytes(self.buffer[:4], "little")
                if len(self.buffer) >= size:
                    kind, payload = self.buffer[4], bytes(self.buffer[5:size])
                    del self.buffer[:size]
                    return kind, payload
            if not select.select([self.stdout], [], [], max(0.0, end - time.monotonic()))[0]:
                raise TimeoutError
            data = os.read(self.stdout.fileno(), 1 << 18)
            if not data:
                raise EOFError
            self.buffer += data

    def finish(self, timeout: float = 30.0) -> Report:
        """Reads until DONE."""
        report = Report()
        while True:
            kind, payload = self.read(timeout)
            report.order.append(kind)
            if kind == RESULT:
                report.results.append(parse_result(payload))
            elif kind == COLLECTED:
                mode, size = struct.unpack_from("<IH", payload)
                report.collected[payload[6 : 6 + size]] = (mode, payload[6 + size :])
            elif kind == COLLECT_FAILED:
                report.failed = payload.decode()
            elif kind == NEEDED:
                report.needed.append(int.from_bytes(payload, "little"))
                self.send(self.stock[report.needed[-1]])
            elif kind == FATAL:
                raise AssertionError("FATAL: " + payload.decode())
            elif kind == DONE:
                report.clean, report.why = payload[4] == 1, payload[5:].decode()
                report.results.sort(key=lambda result: result.index)
                return report

    def run(self, job: Job) -> Report:
        """One job from JOB to DONE."""
        self.send(job.frames())
        return self.finish()

    def kill(self, pid: int) -> None:
        """Kills a process of the sandbox by its pid on the host."""
        os.kill(pid, signal.SIGKILL)

    def probe(self, *argv: object, **options: object) -> Report:
        """One run of the probe program."""
        return self.run(Job([PROBE, *map(str, argv)], **options))  # type: ignore[arg-type]


@contextlib.contextmanager
def cgroup(limit: int) -> Iterator[str]:
    """A cgroup with a memory limit for a sandbox, version 1 or 2; version 1 has one of the same name for CPU time."""
    name = f"runner-test-{os.getpid()}"
    made = list(_new_cgroups(name, limit))
    if not made:
        raise unittest.SkipTest("no memory cgroup to be had")
    try:
        yield str(made[0])
    finally:
        for path in made:
            path.rmdir()


def _new_cgroups(name: str, limit: int) -> Iterator[Path]:
    top = Path("/sys/fs/cgroup")
    for parent, bound in ((top / "memory", "memory.limit_in_bytes"), (top, "memory.max")):
        path = parent / name
        try:
            path.mkdir()
        except OSError:
            continue
        if (path / bound).exists():
            (path / bound).write_text(str(limit))
            yield path
            break
        path.rmdir()
    else:
        return
    with contextlib.suppress(OSError):
        (top / "cpuacct" / name).mkdir()
        yield top / "cpuacct" / name
