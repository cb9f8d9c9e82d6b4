"""The framed binary protocol between a worker and the runner, PID 1 of every sandbox container.

Theory of operation
===================
A container is driven over one stream: Docker's attach stream, or the socket that MOVE leads to. The worker writes one
*job* in one go: a JOB frame, its FILE frames (placed under ``/box``) and one INPUT frame per run. The runner answers
with one RESULT the moment a run ends, with COLLECTED frames when the job asked for files back (a compile), and with
exactly one DONE after it has reset and verified the container. One job at a time travels over a stream, so a reply
needs no correlation beyond the run's index.

Every frame is ``u32 length`` (of what follows), ``u8 type``, payload; integers are little endian. The full layout of
each payload is documented in ``docker/sandbox/runner/protocol.h``, the other end of this wire.

The runner is trusted, what it carries is not: stdout, stderr and file contents are the program's own bytes. They are
length-prefixed, so nothing that a program prints can be taken for a frame.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Iterable, Iterator
from enum import IntEnum, IntFlag

import msgspec

from evalx.errors import SandboxFaultError
from evalx.verdicts import Outcome

VERSION = 1
#: What tells a container that has come over a socket from any other.
MOVE_TOKEN_BYTES = 16
#: A frame larger than this is a breach of the protocol, not data (the largest is a 64 MiB artifact with its header).
MAX_FRAME_BYTES = (64 << 20) + (64 << 10)

NANOSECONDS_PER_MS = 1_000_000

_HEADER = struct.Struct("<IB")
_JOB = struct.Struct("<IBBHHHHQQQQQQQIQ")
_RESULT = struct.Struct("<IBiBQQQQBI")
_U32 = struct.Struct("<I")
_U16 = struct.Struct("<H")
_U64 = struct.Struct("<Q")
_RUNNING = struct.Struct("<IH")


class Request(IntEnum):
    """Frame types from the worker to the runner."""

    JOB = 0x01
    FILE = 0x02
    INPUT = 0x03
    CANCEL = 0x04
    PING = 0x05
    PARALLEL = 0x06
    WARM = 0x07
    KEEP = 0x08
    KEPT = 0x09
    MOVE = 0x0A


class Reply(IntEnum):
    """Frame types from the runner to the worker."""

    HELLO = 0x81
    RESULT = 0x82
    COLLECTED = 0x83
    DONE = 0x84
    PONG = 0x85
    FATAL = 0x86
    COLLECT_FAILED = 0x87
    NEEDED = 0x88
    RUNNING = 0x89
    MOVED = 0x8A


class Mode(IntEnum):
    """How the runs of a job are started. The runner falls back to ``EXEC`` by itself, with the same results."""

    EXEC = 0
    FORK_SERVER = 1
    WARM_INTERPRETER = 2


class ResultFlag(IntFlag):
    """What else happened during a run."""

    STDOUT_CUT = 1
    STDERR_CUT = 2
    CONTAINER_OUT_OF_MEMORY = 4
    #: A fork of a program that was started once for the whole job, not a start of its own.
    SERVED = 8
    #: A fork of the interpreter that the container was warmed with.
    WARM = 16


class File(msgspec.Struct, frozen=True, gc=False):
    """A file that goes into ``/box`` or comes out of a run's work directory."""

    name: str
    data: bytes
    mode: int = 0o644


class Bounds(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one run may use. Times in milliseconds, sizes in bytes; 0 = no bound where the runner allows it."""

    cpu_time_ms: int
    wall_time_ms: int
    memory_bytes: int
    output_bytes: int
    file_bytes: int
    processes: int
    address_space_bytes: int = 0
    stack_bytes: int = 0


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One unit of work for a container: the same command once per input."""

    argv: tuple[str, ...]
    env: tuple[str, ...]
    bounds: Bounds
    files: tuple[File, ...] = ()
    #: The files are likely to be needed again, so the container should keep them.
    keep_files: bool = False
    inputs: tuple[bytes, ...] = (b"",)
    parallel: int = 1
    #: The CPU where the runs begin, from 1; 0 = any.
    cpu: int = 0
    mode: Mode = Mode.EXEC
    merge_stderr: bool = False
    collect: tuple[str, ...] = ()
    collect_max_bytes: int = 0


class RunResult(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How one run ended, as the runner saw it. Times in nanoseconds, memory in bytes."""

    index: int
    outcome: Outcome
    exit_code: int | None
    signal: int | None
    user_ns: int
    sys_ns: int
    wall_ns: int
    peak_bytes: int
    flags: ResultFlag
    stdout: bytes
    stderr: bytes

    @property
    def cpu_time_ms(self) -> float:
        """User and system time of the whole process tree, in milliseconds."""
        return (self.user_ns + self.sys_ns) / NANOSECONDS_PER_MS

    @property
    def wall_time_ms(self) -> float:
        """Wall-clock time from start to end of the run, in milliseconds."""
        return self.wall_ns / NANOSECONDS_PER_MS


class Feature(IntFlag):
    """What is installed in an image, or known to its runner."""

    FORK_SERVER = 1
    WARM_INTERPRETER = 2
    KEPT_FILES = 4
    ANSWERS_PARALLEL = 8
    MOVE = 16


class Hello(msgspec.Struct, frozen=True, gc=False):
    """The runner is up and speaks this version; ``features`` are bits of ``Feature``."""

    version: int
    features: int


class Done(msgspec.Struct, frozen=True, gc=False):
    """A job has ended; ``clean`` says whether the container may be used again."""

    job_id: int
    clean: bool
    reason: str


class CollectFailed(msgspec.Struct, frozen=True, gc=False):
    """The files that a job asked for could not be brought out safely."""

    reason: str


class Pong(msgspec.Struct, frozen=True, gc=False):
    """The runner is alive."""


class Needed(msgspec.Struct, frozen=True, gc=False):
    """The container does not keep the file of this id; the job waits for ``encode_keep``."""

    file_id: int


class Running(msgspec.Struct, frozen=True, gc=False):
    """So many runs of the job are under way: no more than the last ``encode_parallel`` allows."""

    job_id: int
    count: int


class Moved(msgspec.Struct, frozen=True, gc=False):
    """Why the runner stays where it is, or nothing: then this was the last frame over the old stream."""

    reason: str


Event = Hello | RunResult | File | Done | CollectFailed | Pong | Needed | Running | Moved


def encode_job(job_id: int, job: Job, files: Iterable[bytes] | None = None) -> list[bytes]:
    """Return the frames of a job, in the order in which they must be written.

    Args:
        job_id: what the runner's answers name it by.
        job: what to run.
        files: frames that place its files, if some are to be kept or are kept already.
    """
    chunks = [_frame(Request.JOB, _job_payload(job_id, job))]
    chunks += itertools.chain.from_iterable(map(encode_file, job.files)) if files is None else files
    for index, data in enumerate(job.inputs):
        chunks += _frame_with_body(Request.INPUT, _U32.pack(index), data)
    return chunks


def encode_file(file: File) -> list[bytes]:
    """Place a file for this job alone."""
    return _frame_with_body(Request.FILE, _U32.pack(file.mode) + _str16(file.name), file.data)


def encode_keep(file_id: int, file: File) -> list[bytes]:
    """Place a file, and keep it under the id for jobs to come."""
    return _frame_with_body(Request.KEEP, _U64.pack(file_id) + _U32.pack(file.mode) + _str16(file.name), file.data)


def encode_kept(file_id: int, name: str) -> bytes:
    """Place what is kept under the id, or be answered with ``Needed``."""
    return _frame(Request.KEPT, _U64.pack(file_id) + _str16(name))


def encode_cancel(job_id: int, from_index: int) -> bytes:
    """Runs of the job from this index on are killed or not started; they answer ``CANCELLED``."""
    return _frame(Request.CANCEL, _U32.pack(job_id) + _U32.pack(from_index))


def encode_parallel(job_id: int, parallel: int) -> bytes:
    """Set a new bound on how many runs of the job are under way at once; ``Running`` answers when it is kept."""
    return _frame(Request.PARALLEL, _U32.pack(job_id) + _U16.pack(parallel))


def encode_warm(argv: tuple[str, ...], env: tuple[str, ...]) -> bytes:
    """Start the interpreter that jobs of mode ``WARM_INTERPRETER`` with this command are forked from."""
    return _frame(Request.WARM, _strings(argv) + _strings(env))


def encode_move(token: bytes) -> bytes:
    """Go on over the socket that was mounted for it; answered with ``Moved``, before anything else may be sent."""
    return _frame(Request.MOVE, token)


def encode_ping() -> bytes:
    """Ask for a PONG, and keep the runner's dead-man timer from firing."""
    return _frame(Request.PING, b"")


class FrameReader:
    """Turns the bytes of a stream into events, however they are cut up on the way."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Event]:
        """Yield every event that is complete with this data.

        Raises:
            SandboxFaultError: the stream breaks the protocol, or the runner reported that it gave up.
        """
        self._buffer += data
        offset = 0
        try:
            while (end := self._frame_end(offset)) is not None:
                kind = self._buffer[offset + 4]
                payload = bytes(memoryview(self._buffer)[offset + _HEADER.size : end])
                offset = end
                yield _decode(kind, payload)
        finally:
            del self._buffer[:offset]

    def _frame_end(self, offset: int) -> int | None:
        if len(self._buffer) - offset < _HEADER.size:
            return None
        (length,) = _U32.unpack_from(self._buffer, offset)
        if not 1 <= length <= MAX_FRAME_BYTES:
            raise SandboxFaultError(message=f"the runner announced a frame of {length} bytes")
        end = offset + 4 + int(length)
        return end if len(self._buffer) >= end else None


def _decode(kind: int, payload: bytes) -> Event:
    decoder = _DECODERS.get(kind)
    if decoder is None:
        raise SandboxFaultError(message=f"the runner sent a frame of unknown type 0x{kind:02x}")
    try:
        return decoder(payload)
    except (struct.error, ValueError) as error:
        raise SandboxFaultError(message=f"the runner sent a malformed {Reply(kind).name} frame: {error}") from error


def _decode_hello(payload: bytes) -> Hello:
    version, features = struct.unpack_from("<II", payload)
    return Hello(version, features)


def _decode_result(payload: bytes) -> RunResult:
    index, outcome, code, died, user, system, wall, peak, flags, stdout_len = _RESULT.unpack_from(payload)
    body = payload[_RESULT.size :]
    if stdout_len > len(body):
        raise ValueError(f"stdout of {stdout_len} bytes in a body of {len(body)}")
    return RunResult(
        index=index,
        outcome=Outcome(outcome),
        exit_code=None if died else code,
        signal=code if died else None,
        user_ns=user,
        sys_ns=system,
        wall_ns=wall,
        peak_bytes=peak,
        flags=ResultFlag(flags),
        stdout=body[:stdout_len],
        stderr=body[stdout_len:],
    )


def _decode_collected(payload: bytes) -> File | CollectFailed:
    (mode,) = _U32.unpack_from(payload)
    (length,) = _U16.unpack_from(payload, 4)
    name = payload[6 : 6 + length]
    if len(name) < length:
        raise ValueError("the file's name is cut off")
    try:
        return File(name.decode("utf-8"), payload[6 + length :], mode)
    except UnicodeDecodeError:
        # The name was the program's choice: no breach of the protocol.
        return CollectFailed(f"{name!r}: a name that is not UTF-8")


def _decode_done(payload: bytes) -> Done:
    job_id, clean = struct.unpack_from("<IB", payload)
    return Done(job_id, bool(clean), payload[5:].decode("utf-8", "replace"))


def _decode_collect_failed(payload: bytes) -> CollectFailed:
    return CollectFailed(payload.decode("utf-8", "replace"))


def _decode_needed(payload: bytes) -> Needed:
    return Needed(*_U64.unpack(payload))


def _decode_running(payload: bytes) -> Running:
    return Running(*_RUNNING.unpack(payload))


def _decode_moved(payload: bytes) -> Moved:
    return Moved(payload.decode("utf-8", "replace"))


def _decode_pong(_payload: bytes) -> Pong:
    return Pong()


def _decode_fatal(payload: bytes) -> Event:
    raise SandboxFaultError(message=f"the runner gave up: {payload.decode('utf-8', 'replace')}")


_DECODERS: dict[int, Callable[[bytes], Event]] = {
    Reply.HELLO: _decode_hello,
    Reply.RESULT: _decode_result,
    Reply.COLLECTED: _decode_collected,
    Reply.DONE: _decode_done,
    Reply.PONG: _decode_pong,
    Reply.FATAL: _decode_fatal,
    Reply.COLLECT_FAILED: _decode_collect_failed,
    Reply.NEEDED: _decode_needed,
    Reply.RUNNING: _decode_running,
    Reply.MOVED: _decode_moved,
}


def _job_payload(job_id: int, job: Job) -> bytes:
    bounds = job.bounds
    fixed = _JOB.pack(
        job_id,
        job.mode,
        1 if job.merge_stderr else 0,
        len(job.inputs),
        len(job.files),
        job.parallel,
        job.cpu,
        bounds.cpu_time_ms * NANOSECONDS_PER_MS,
        bounds.wall_time_ms * NANOSECONDS_PER_MS,
        bounds.memory_bytes,
        bounds.address_space_bytes,
        bounds.output_bytes,
        bounds.file_bytes,
        bounds.stack_bytes,
        bounds.processes,
        job.collect_max_bytes,
    )
    return fixed + _strings(job.argv) + _strings(job.env) + _strings(job.collect)


def _strings(values: tuple[str, ...]) -> bytes:
    return _U16.pack(len(values)) + b"".join(map(_str16, values))


def _str16(value: str) -> bytes:
    data = value.encode("utf-8")
    return _U16.pack(len(data)) + data


def _frame(kind: int, payload: bytes) -> bytes:
    return _HEADER.pack(len(payload) + 1, kind) + payload


def _frame_with_body(kind: int, head: bytes, body: bytes) -> list[bytes]:
    """Keep a large body out of the header's bytes object, so that it is not copied once more."""
    return [_HEADER.pack(len(head) + len(body) + 1, kind) + head, body]
