"""What comes over a container's stream, cut up in any way, is events or a fault of the sandbox, in bounded memory."""

from __future__ import annotations

import struct
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalx.errors import SandboxFaultError
from evalx.sandbox import protocol
from evalx.sandbox.protocol import FrameReader, Reply, RunResult
from evalx.verdicts import Outcome

KINDS = [*Reply, 0x00, 0x01, 0x7F, 0x88, 0xFF]
_U32 = st.integers(0, 2**32 - 1)


@st.composite
def results(draw: st.DrawFn) -> bytes:
    """A RESULT whose fields may hold anything, and whose length of stdout may lie."""
    stdout, stderr = draw(st.binary(max_size=20)), draw(st.binary(max_size=20))
    numbers = draw(st.lists(st.integers(0, 2**64 - 1), min_size=4, max_size=4))
    length = draw(st.one_of(st.just(len(stdout)), _U32))
    return (
        struct.pack("<IB", draw(_U32), draw(st.one_of(st.sampled_from(Outcome), st.integers(0, 255))))
        + struct.pack("<iB", draw(st.integers(-(2**31), 2**31 - 1)), draw(st.integers(0, 255)))
        + struct.pack("<QQQQBI", *numbers, draw(st.integers(0, 255)), length)
        + stdout
        + stderr
    )


@st.composite
def collected(draw: st.DrawFn) -> bytes:
    """A COLLECTED whose name may be no text, and longer than what follows."""
    name = draw(st.binary(max_size=20))
    length = draw(st.one_of(st.just(len(name)), st.integers(0, 2**16 - 1)))
    return struct.pack("<IH", draw(_U32), length) + name + draw(st.binary(max_size=20))


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    """A frame whose length is mostly right."""
    kind = draw(st.sampled_from(KINDS))
    payloads = {Reply.RESULT: results(), Reply.COLLECTED: collected()}
    payload = draw(st.one_of(payloads.get(kind, st.binary(max_size=60)), st.binary(max_size=60)))
    length = draw(st.one_of(*[st.just(len(payload) + 1)] * 9, _U32))
    return struct.pack("<IB", length, kind) + payload


STREAMS = st.one_of(st.lists(frames(), max_size=6).map(b"".join), st.binary(max_size=300))


def pieces(data: bytes, sizes: list[int]) -> list[bytes]:
    """The data cut into these sizes, in turn."""
    found, at = [], 0
    while at < len(data):
        size = sizes[len(found) % len(sizes)]
        found.append(data[at : at + size])
        at += size
    return found


def read(chunks: list[bytes]) -> tuple[list[protocol.Event], str | None]:
    """All events up to the first fault, those in the same piece included, and the fault."""
    reader, events = FrameReader(), []
    for chunk in chunks:
        try:
            for event in reader.feed(chunk):
                events.append(event)  # noqa: PERF402  # an extend would lose them
        except SandboxFaultError as error:
            return events, str(error)
    return events, None


@settings(max_examples=400)
@given(data=STREAMS, sizes=st.lists(st.integers(1, 70), min_size=1, max_size=8))
def test_the_cuts_change_nothing(data: bytes, sizes: list[int]):
    assert read(pieces(data, sizes)) == read([data])


@settings(max_examples=400)
@given(data=STREAMS, sizes=st.lists(st.integers(1, 70), min_size=1, max_size=8))
def test_a_reader_keeps_less_than_what_it_was_given_and_survives_its_own_fault(data: bytes, sizes: list[int]):
    reader, given_bytes = FrameReader(), 0
    for chunk in pieces(data, sizes):
        given_bytes += len(chunk)
        before = len(reader._buffer)
        try:
            events = list(reader.feed(chunk))
        except SandboxFaultError:
            continue
        assert len(reader._buffer) <= before + len(chunk) <= given_bytes
        # What is kept is the beginning of one frame.
        kept = reader._buffer
        assert len(kept) < 5 or int.from_bytes(kept[:4], "little") + 4 > len(kept), events


@given(data=STREAMS)
def test_what_a_result_carries_is_what_was_sent(data: bytes):
    for event in read([data])[0]:
        if isinstance(event, RunResult):
            assert event.stdout + event.stderr in data
            assert (event.exit_code is None) is not (event.signal is None)


@pytest.mark.parametrize("length", [0, protocol.MAX_FRAME_BYTES + 1, 2**32 - 1])
def test_a_lie_about_the_length_is_found_before_the_content_comes(length: int):
    events, fault = read([struct.pack("<IB", length, Reply.PONG)])
    assert events == []
    assert fault is not None
    assert f"{length} bytes" in fault


def test_an_announced_length_takes_no_memory():
    reader = FrameReader()
    tracemalloc.start()
    try:
        assert list(reader.feed(struct.pack("<IB", protocol.MAX_FRAME_BYTES, Reply.RESULT) + b"x" * 100)) == []
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
