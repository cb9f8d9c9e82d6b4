"""A socket as a channel: what comes, what waits, and how it ends."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from evalx.errors import SandboxFaultError
from evalx.sandbox.channel import UNREAD_BYTES, SocketChannel

#: Seconds; a bound for hangs.
LIMIT_S = 10.0

Pair = tuple[SocketChannel, socket.socket]


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    """A channel, and the runner's end of it."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    channel = await SocketChannel.over(ours, "c0ffee")
    with theirs:
        yield channel, theirs
        await channel.close()


async def receive(theirs: socket.socket, count: int) -> bytes:
    loop = asyncio.get_running_loop()
    data = b""
    async with asyncio.timeout(LIMIT_S):
        while len(data) < count and (more := await loop.sock_recv(theirs, 1 << 20)):
            data += more
    return data


async def test_bytes_both_ways(pair: Pair):
    channel, theirs = pair
    await channel.write(b"job")
    assert await receive(theirs, 3) == b"job"
    reading = asyncio.create_task(channel.read())
    await asyncio.sleep(0)
    theirs.send(b"result")
    assert await asyncio.wait_for(reading, LIMIT_S) == b"result"
    assert channel.is_whole


async def test_what_came_before_the_end_is_read(pair: Pair):
    channel, theirs = pair
    theirs.send(b"last words")
    theirs.close()
    async with asyncio.timeout(LIMIT_S):
        assert await channel.read() == b"last words"
        with pytest.raises(SandboxFaultError, match="c0ffee died"):
            await channel.read()
    assert not channel.is_whole
    with pytest.raises(SandboxFaultError, match="c0ffee broke"):
        await channel.write(b"anybody there?")


async def test_a_reader_that_waits_learns_of_the_end(pair: Pair):
    channel, theirs = pair
    reading = asyncio.create_task(channel.read())
    await asyncio.sleep(0)
    theirs.close()
    with pytest.raises(SandboxFaultError):
        await asyncio.wait_for(reading, LIMIT_S)


async def test_its_own_end_is_that_of_the_runner(pair: Pair):
    channel, theirs = pair
    await channel.close()
    assert not channel.is_whole
    assert await receive(theirs, 1) == b""


async def test_a_writer_waits_for_a_slow_runner(pair: Pair):
    channel, theirs = pair
    large = bytes(16 << 20)
    writing = asyncio.create_task(channel.write(large))
    await asyncio.sleep(0.05)
    assert not writing.done()
    assert len(await receive(theirs, len(large))) == len(large)
    await asyncio.wait_for(writing, LIMIT_S)


async def test_a_writer_does_not_wait_for_one_that_is_gone(pair: Pair):
    channel, theirs = pair
    writing = asyncio.create_task(channel.write(bytes(16 << 20)))
    await asyncio.sleep(0.05)
    theirs.close()
    with pytest.raises(SandboxFaultError):
        await asyncio.wait_for(writing, LIMIT_S)


async def test_a_runner_waits_for_a_slow_reader(pair: Pair):
    channel, theirs = pair
    loop = asyncio.get_running_loop()
    size = 8 * UNREAD_BYTES
    sending = asyncio.create_task(loop.sock_sendall(theirs, bytes(size)))
    await asyncio.sleep(0.3)
    assert not sending.done()
    got = 0
    async with asyncio.timeout(LIMIT_S):
        while got < size:
            got += len(await channel.read())
    await sending
