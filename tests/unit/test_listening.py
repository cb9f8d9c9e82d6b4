"""Listening to progress without a Redis: silence, and no error."""

from __future__ import annotations

import asyncio

import pytest

from evalx.cache.listening import Listener
from evalx.cache.progress import Progress, encode_progress


def never(_: Progress) -> None:
    raise AssertionError("nothing was told")


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", "unix:///missing/redis.sock", "redis://127.0.0.1:1/x"])
async def test_without_redis_there_is_silence(url: str):
    async with Listener(url, "evalx", "s-1", never) as listener:
        assert not await listener.ready()


async def test_a_redis_that_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("evalx.cache.listening.SUBSCRIBE_S", 0.01)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with Listener(f"redis://127.0.0.1:{port}/0", "evalx", "s-1", never) as listener:
        assert not await listener.ready()
    server.close()


def test_what_is_no_progress_is_passed_over():
    heard: list[Progress] = []
    listener = Listener("redis://127.0.0.1:1/0", "evalx", "s-1", heard.append)
    listener._take(None)
    listener._take({"type": "subscribe", "data": 1})
    listener._take({"type": "message", "data": b"not json"})
    listener._take({"type": "pong", "data": encode_progress(Progress(started=True))})
    listener._take({"type": "message", "data": encode_progress(Progress(started=True))})
    assert heard == [Progress(started=True)]
