"""What is kept in containers: names for content, the runner's rule, and a worker that is told otherwise."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import pytest

from evalx.errors import SandboxFaultError
from evalx.sandbox import kept
from evalx.sandbox.channel import AttachChannel
from evalx.sandbox.container import Container
from evalx.sandbox.kept import Held, Names
from evalx.sandbox.protocol import Bounds, Feature, File, Job, Reply, Request
from evalx.sandbox.shelf import Idle, Shelf
from evalx.sandbox.spec import ContainerSpec

BOUNDS = Bounds(cpu_time_ms=1, wall_time_ms=1, memory_bytes=1, output_bytes=1, file_bytes=2, processes=1)
PROGRAM = File("main", b"p" * kept.MIN_BYTES, 0o755)
SMALL = File("note", b"x")
SPEC = ContainerSpec(image="x", labels={}, memory_bytes=1, pids=1, work_bytes=1 << 20, work_inodes=100)


def job(*files: File, keep: bool = True) -> Job:
    return Job(argv=("/box/main",), env=(), bounds=BOUNDS, files=files, keep_files=keep)


def test_equal_content_has_one_name():
    names = Names()
    (one,) = names.of(job(PROGRAM))
    again = File("other", bytes(bytearray(PROGRAM.data)), 0o755)
    assert one != 0
    assert names.of(job(again, SMALL, PROGRAM)) == (one, 0, one)
    differing = msgspec.structs.replace(PROGRAM, mode=0o644), File("main", b"q" * kept.MIN_BYTES, 0o755)
    assert len({one, *names.of(job(*differing))}) == 3


def test_some_files_have_no_name():
    names = Names()
    assert names.of(job(PROGRAM, keep=False)) == ()
    assert names.of(job(*[PROGRAM] * (kept.KEPT_FILES + 1))) == ()
    sizes = (kept.MIN_BYTES - 1, kept.KEPT_BYTES + 1)
    assert names.of(job(*(File("a", bytes(size)) for size in sizes))) == (0, 0)


def test_what_is_known_is_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(kept, "KNOWN_BYTES", 3 * kept.MIN_BYTES)
    names = Names()
    files = [File("a", bytes([n]) * kept.MIN_BYTES) for n in range(4)]
    ids = [names.of(job(file))[0] for file in files]
    assert len(names._known) == 3
    # A name is never given again, not even to what had it before.
    assert names.of(job(*reversed(files)))[:3] == (ids[3], ids[2], ids[1])
    assert names.of(job(files[0]))[0] not in ids


def test_the_one_used_longest_ago_makes_room():
    held = Held()
    for number in range(1, kept.KEPT_FILES + 1):
        held.add(number, 1)
    held.use(1)
    held.add(100, 1)
    assert [number in held for number in (1, 2, 3, 100)] == [True, False, True, True]
    held.add(200, kept.KEPT_BYTES - 1)
    assert [number in held for number in (1, 3, 100, 200)] == [False, False, True, True]
    assert held.holds_all((100, 0, 200))
    assert not held.holds_all((100, 3))


class _Message(NamedTuple):
    stream: int
    data: bytes


class _Stream:
    """Answers as told, and keeps what was written."""

    def __init__(self, answers: Sequence[bytes]) -> None:
        self.written: list[bytes] = []
        self._answers = list(answers)

    async def write_in(self, data: bytes) -> None:
        self.written.append(data)

    async def read_out(self) -> _Message | None:
        return _Message(1, self._answers.pop(0)) if self._answers else None


def frame(kind: int, payload: bytes) -> bytes:
    return struct.pack("<IB", len(payload) + 1, kind) + payload


def result_and_done() -> bytes:
    result = frame(Reply.RESULT, struct.pack("<IBiBQQQQBI", 0, 0, 0, 0, 1, 1, 1, 1, 0, 0))
    return result + frame(Reply.DONE, struct.pack("<IB", 0, 1))


def needed(file_id: int) -> bytes:
    return frame(Reply.NEEDED, struct.pack("<Q", file_id))


def placed(data: bytes) -> list[int]:
    """The types of frames that place files."""
    kinds = []
    while data:
        kinds.append(data[4])
        data = data[4 + int.from_bytes(data[:4], "little") :]
    return [kind for kind in kinds if kind in (Request.FILE, Request.KEEP, Request.KEPT)]


def container(*answers: bytes, keeps: bool = True) -> tuple[Container, _Stream]:
    stream = _Stream(answers)
    made = Container(SPEC, type("Handle", (), {"id": "0" * 64}), AttachChannel(stream, "0" * 12))
    made._features = Feature.KEPT_FILES if keeps else Feature(0)
    return made, stream


async def run(made: Container, work: Job, ids: tuple[int, ...]) -> None:
    await made.execute(work, lambda _run: None, ids)


async def test_a_program_is_sent_once():
    made, stream = container(result_and_done(), result_and_done())
    for _ in range(2):
        await run(made, job(PROGRAM, SMALL), (7, 0))
    assert [placed(data) for data in stream.written] == [[Request.KEEP, Request.FILE], [Request.KEPT, Request.FILE]]
    assert made.holds((7, 0))


async def test_a_runner_that_cannot_keep_is_sent_everything():
    made, stream = container(result_and_done(), keeps=False)
    await run(made, job(PROGRAM), (7,))
    assert [placed(data) for data in stream.written] == [[Request.FILE]]
    assert not made.holds((7,))


async def test_what_the_runner_does_not_have_is_sent():
    made, stream = container(result_and_done(), needed(7), result_and_done())
    for _ in range(2):
        await run(made, job(PROGRAM), (7,))
    assert [placed(data) for data in stream.written] == [[Request.KEEP], [Request.KEPT], [Request.KEEP]]


async def test_a_runner_that_asks_for_what_was_not_named_is_broken():
    made, _ = container(needed(8))
    with pytest.raises(SandboxFaultError, match="asks for file 8"):
        await run(made, job(PROGRAM), (7,))


def test_the_pool_prefers_who_holds_it():
    shelf = Shelf("x")
    containers = [container()[0] for _ in range(3)]
    for number, one in enumerate(containers):
        one._held.add(number + 1, 1)
        shelf.idle.append(Idle(one, 0.0))
    assert [shelf.pop((1,)), shelf.pop((1,)), shelf.pop()] == [containers[0], containers[2], containers[1]]
