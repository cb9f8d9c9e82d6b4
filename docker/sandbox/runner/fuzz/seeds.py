"""Writes the first inputs of the fuzz targets' corpora, made by the worker's own encoder.

Needed only when the protocol changes: `PYTHONPATH=../../.. python3 fuzz/seeds.py`, from the runner's directory.
"""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

from evalx.sandbox import protocol
from evalx.sandbox.protocol import Bounds, File, Job, Mode

CORPUS = Path(__file__).resolve().parent / "corpus"
BOUNDS = Bounds(
    cpu_time_ms=2000,
    wall_time_ms=7000,
    memory_bytes=1 << 28,
    output_bytes=65536,
    file_bytes=65537,
    processes=16,
    stack_bytes=1 << 23,
)
NOTE = struct.pack("<III8sI", 6, 4, 1, b"evalx", 1)
ENVIRONMENT = ("PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8")
TESTS = Job(
    argv=("/box/main", "-x"),
    env=ENVIRONMENT,
    bounds=BOUNDS,
    files=(File("main", b"\x7fELF", 0o755), File("lib/a.so", b"")),
    inputs=(b"1 2\n", b"", b"x" * 300),
    parallel=2,
    mode=Mode.FORK_SERVER,
)
COMPILE = Job(
    argv=("gcc", "/box/main.c"),
    env=ENVIRONMENT,
    bounds=BOUNDS,
    files=(File("main.c", b"int main(void) {}"),),
    merge_stderr=True,
    collect=("main", "classes/"),
    collect_max_bytes=1 << 26,
)
#: One string more than allowed.
MANY = Job(argv=("",) * 4097, env=(), bounds=BOUNDS)
KEPT = [
    b"".join(protocol.encode_keep(7, File("main", b"\x7fELF", 0o755))),
    b"".join(protocol.encode_keep(8, File("lib/a.so", b""))),
    protocol.encode_kept((1 << 64) - 1, "lib/b.so"),
]
SMALL = [
    protocol.encode_ping(),
    protocol.encode_cancel(7, 1),
    protocol.encode_parallel(7, 3),
    protocol.encode_move(bytes(range(16))),
]
MARKED = b"A=b\0LD_PRELOAD=/opt/evalx/forkserver.so\0EVALX_FORK_SERVER=1\0"


def elf(kinds: list[int], first: int = 64) -> bytes:
    """A 64-bit file with program headers of these types."""
    head = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    head += struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0, first, 0, 0, 64, 56, len(kinds), 0, 0, 0)
    return head + b"".join(struct.pack("<I", kind).ljust(56, b"\0") for kind in kinds)


def built(stream: bytes) -> bytes:
    """The same frames as pieces with 16-bit sizes, as the target takes them with bit 0 set."""
    pieces = b""
    while stream:
        size = int.from_bytes(stream[:4], "little")
        pieces += struct.pack("<H", size - 1) + stream[4 : 4 + size]
        stream = stream[4 + size :]
    return pieces


def seeds() -> dict[str, list[bytes]]:
    """Inputs of each target, in the form that is described there."""
    jobs = [b"".join(protocol.encode_job(7, job)) for job in (TESTS, COMPILE)]
    streams = [*jobs, jobs[0] + b"".join(SMALL) + jobs[1], *SMALL, *KEPT, b"".join(KEPT)]
    lies = [struct.pack("<IB", 0, 5), struct.pack("<IB", (64 << 20) + 1, 2), struct.pack("<IBIH", 9, 2, 0, 500)]
    lies += [struct.pack("<IBQH", 12, 9, 7, 0) + b"x", struct.pack("<IBQHc", 12, 9, 7, 1, b"/")]
    lies += [struct.pack("<IBQH", 13, 9, 7, 1) + b"xy", struct.pack("<IBQIH", 16, 8, 7, 0, 2) + b"x"]
    request = struct.pack("<I28s", 1, b"/scratch/400001")
    answer = struct.pack("<I", 5)
    return {
        "frames": [
            *(b"\0" + struct.pack("<I", cut) + stream for stream in [*streams, *lies] for cut in (1, 60)),
            *(b"\1" + struct.pack("<I", 7) + built(stream) for stream in streams),
            *(b"\1" + struct.pack("<IHB", 7, 0xFF00 + kib, kind) for kib in (128, 129) for kind in (1, 3)),
            b"\0" + struct.pack("<IIBIH", 60, 5010, 2, 0, 5000) + b"x" * 5003,
        ],
        "job": [
            *(protocol.encode_job(7, job)[0][5:] for job in (TESTS, COMPILE, MANY)),
            *(b"a/b", b"../x", b"a//b", b"./a", b"a/", b"x" * 4095, b"x" * 4096),
        ],
        "request": [
            b"\3" + request,
            b"\2" + request,
            b"\4" + request,
            b"\3" + request + b"x",
            b"\x80" + MARKED,
            b"\x81A=b\0",
        ],
        "answer": [answer + said for said in (b"\4" + answer, b"\x84" + answer, b"\5" + answer + b"x", b"\0", b"")],
        "program": [
            *(elf(kinds) for kinds in ([], [1, 3], [3], [1] * 64)),
            elf([3], (1 << 64) - 56),
            elf([4])[:64] + struct.pack("<IIQQQQQQ", 4, 0, 120, 0, 0, 24, 0, 0) + NOTE,
        ],
        "names": [b"Uid:\t0\nUid:\t0", b") R 1 1 1 (", b"\\n\nPPid:\t1"],
    }


if __name__ == "__main__":
    for target, inputs in seeds().items():
        (CORPUS / target).mkdir(parents=True, exist_ok=True)
        for data in inputs:
            (CORPUS / target / hashlib.sha1(data).hexdigest()).write_bytes(data)
