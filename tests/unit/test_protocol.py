"""Both directions of the runner protocol against bytes made by hand from its description, not by our own encoder."""

from __future__ import annotations

import contextlib
import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalx.errors import SandboxFaultError
from evalx.sandbox import protocol
from evalx.sandbox.protocol import (
    Bounds,
    CollectFailed,
    Done,
    File,
    FrameReader,
    Hello,
    Job,
    Mode,
    Needed,
    Pong,
    ResultFlag,
    RunResult,
)
from evalx.verdicts import Outcome

BOUNDS = Bounds(
    cpu_time_ms=2000,
    wall_time_ms=7000,
    memory_bytes=1 << 28,
    output_bytes=65536,
    file_bytes=65537,
    processes=16,
    address_space_bytes=1 << 29,
    stack_bytes=1 << 20,
)


def frame(kind: int, payload: bytes) -> bytes:
    return struct.pack("<I", 1 + len(payload)) + bytes([kind]) + payload


def text16(text: bytes) -> bytes:
    return struct.pack("<H", len(text)) + text


def read(data: bytes) -> list[protocol.Event]:
    return list(FrameReader().feed(data))


def result_payload(index: int = 3, outcome: int = 0, code: int = 0, died: int = 0, flags: int = 0) -> bytes:
    return (
        struct.pack("<I", index)
        + bytes([outcome])
        + struct.pack("<i", code)
        + bytes([died])
        + struct.pack("<QQQQ", 1_500_000, 500_000, 9_000_000, 4096)
        + bytes([flags])
        + struct.pack("<I", 3)
        + b"out"
        + b"error"
    )


def test_a_job_is_its_head_its_files_and_its_inputs():
    job = Job(
        argv=("/box/main", "-x"),
        env=("A=b",),
        bounds=BOUNDS,
        files=(File("dir/main", b"\x7fELF", 0o755),),
        inputs=(b"1 2\n", b""),
        parallel=2,
        cpu=3,
        mode=Mode.EXEC,
        merge_stderr=True,
        collect=("classes/",),
        collect_max_bytes=1 << 26,
    )
    head = (
        struct.pack("<I", 7)
        + b"\x00\x01"
        + struct.pack("<HHHH", 2, 1, 2, 3)
        + struct.pack("<QQ", 2_000_000_000, 7_000_000_000)
        + struct.pack("<QQ", 1 << 28, 1 << 29)
        + struct.pack("<QQQ", 65536, 65537, 1 << 20)
        + struct.pack("<I", 16)
        + struct.pack("<Q", 1 << 26)
        + struct.pack("<H", 2)
        + text16(b"/box/main")
        + text16(b"-x")
        + struct.pack("<H", 1)
        + text16(b"A=b")
        + struct.pack("<H", 1)
        + text16(b"classes/")
    )
    expected = (
        frame(0x01, head)
        + frame(0x02, struct.pack("<I", 0o755) + text16(b"dir/main") + b"\x7fELF")
        + frame(0x03, struct.pack("<I", 0) + b"1 2\n")
        + frame(0x03, struct.pack("<I", 1))
    )
    assert b"".join(protocol.encode_job(7, job)) == expected


def test_a_file_may_stay_for_later_jobs():
    file = File("dir/main", b"\x7fELF", 0o755)
    keep = frame(0x08, struct.pack("<QI", 1 << 40, 0o755) + text16(b"dir/main") + b"\x7fELF")
    kept = frame(0x09, struct.pack("<Q", 1 << 40) + text16(b"dir/main"))
    assert b"".join(protocol.encode_keep(1 << 40, file)) == keep
    assert protocol.encode_kept(1 << 40, "dir/main") == kept
    job = Job(argv=("/box/main",), env=(), bounds=BOUNDS, files=(file, file), inputs=(b"",))
    placed = frame(0x02, struct.pack("<I", 0o755) + text16(b"dir/main") + b"\x7fELF") * 2
    plain = b"".join(protocol.encode_job(7, job))
    assert plain.count(placed) == 1
    assert b"".join(protocol.encode_job(7, job, [keep, kept])) == plain.replace(placed, keep + kept)


def test_small_requests():
    assert protocol.encode_ping() == frame(0x05, b"")
    assert protocol.encode_cancel(7, 2) == frame(0x04, struct.pack("<II", 7, 2))
    assert protocol.encode_parallel(7, 3) == frame(0x06, struct.pack("<IH", 7, 3))


def test_every_reply():
    stream = (
        frame(0x81, struct.pack("<II", 1, 1))
        + frame(0x82, result_payload())
        + frame(0x83, struct.pack("<I", 0o755) + text16(b"a/b.class") + b"\xca\xfe")
        + frame(0x84, struct.pack("<I", 9) + b"\x00" + b"two processes left")
        + frame(0x85, b"")
        + frame(0x87, b"not a regular file")
        + frame(0x88, struct.pack("<Q", 1 << 40))
    )
    assert read(stream) == [
        Hello(1, 1),
        RunResult(
            index=3,
            outcome=Outcome.EXITED,
            exit_code=0,
            signal=None,
            user_ns=1_500_000,
            sys_ns=500_000,
            wall_ns=9_000_000,
            peak_bytes=4096,
            flags=ResultFlag(0),
            stdout=b"out",
            stderr=b"error",
        ),
        File("a/b.class", b"\xca\xfe", 0o755),
        Done(9, False, "two processes left"),
        Pong(),
        CollectFailed("not a regular file"),
        Needed(1 << 40),
    ]


def test_a_file_whose_name_is_no_text_is_not_collected():
    (event,) = read(frame(0x83, struct.pack("<I", 0) + text16(b"a/\xff") + b"x"))
    assert event == CollectFailed("b'a/\\xff': a name that is not UTF-8")


def test_times_in_milliseconds():
    (run,) = read(frame(0x82, result_payload()))
    assert isinstance(run, RunResult)
    assert (run.cpu_time_ms, run.wall_time_ms) == (2.0, 9.0)


@pytest.mark.parametrize("outcome", list(Outcome))
def test_a_signal_is_no_exit_code(outcome: Outcome):
    (died,) = read(frame(0x82, result_payload(outcome=outcome, code=11, died=1, flags=3)))
    (ended,) = read(frame(0x82, result_payload(outcome=outcome, code=-1)))
    assert isinstance(died, RunResult)
    assert isinstance(ended, RunResult)
    assert (died.outcome, died.exit_code, died.signal) == (outcome, None, 11)
    assert died.flags == ResultFlag.STDOUT_CUT | ResultFlag.STDERR_CUT
    assert (ended.exit_code, ended.signal) == (-1, None)


@given(cuts=st.lists(st.integers(0, 200)))
def test_frames_arrive_whole_however_they_are_cut(cuts: list[int]):
    stream = frame(0x82, result_payload()) + frame(0x85, b"") + frame(0x84, struct.pack("<I", 1) + b"\x01")
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    reader = FrameReader()
    events = [event for start, end in itertools.pairwise(places) for event in reader.feed(stream[start:end])]
    assert events == read(stream)


def test_what_a_program_prints_is_never_a_frame():
    evil = frame(0x84, struct.pack("<I", 1) + b"\x01")
    payload = result_payload()[:-8][:-4] + struct.pack("<I", len(evil)) + evil
    (run,) = read(frame(0x82, payload))
    assert isinstance(run, RunResult)
    assert run.stdout == evil


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (struct.pack("<I", 0) + b"\x85", "0 bytes"),
        (struct.pack("<I", 0xFFFF_FFFF) + b"\x85", "4294967295 bytes"),
        (frame(0x01, b""), "unknown type 0x01"),
        (frame(0x82, b"\x00" * 10), "malformed RESULT"),
        (frame(0x82, result_payload(outcome=99)), "malformed RESULT"),
        (frame(0x82, result_payload()[:-8]), "malformed RESULT"),
        (frame(0x83, struct.pack("<I", 0) + b"\xff\x00ab"), "malformed COLLECTED"),
        (frame(0x84, b"\x00"), "malformed DONE"),
        (frame(0x86, b"no memory"), "gave up: no memory"),
        (frame(0x88, b"\x00" * 9), "malformed NEEDED"),
    ],
)
def test_a_breach_of_the_protocol_is_a_fault_of_the_sandbox(data: bytes, what: str):
    with pytest.raises(SandboxFaultError, match=what):
        read(data)


@given(st.binary(max_size=300))
def test_any_bytes_are_events_or_a_fault(data: bytes):
    with contextlib.suppress(SandboxFaultError):
        read(data)
