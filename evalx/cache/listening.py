"""A submitter's end of progress: hears what is told of one submission while it is judged (see `progress`).

Best effort from beginning to end: without Redis, or when it goes away, there is silence, and no error. Who needs the
result waits for the result.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Self

import redis.asyncio

from evalx.cache.progress import Progress, channel_root, decode_progress

#: Seconds to connect and to subscribe: a Redis that is there needs a few milliseconds, and somebody is waiting.
SUBSCRIBE_S = 1.0
#: Seconds for each look for a message; it says nothing about Redis when none comes.
LOOK_S = 10.0


class Listener:
    """Calls ``on_progress`` with each message about a submission, inside of ``async with``."""

    def __init__(self, url: str, prefix: str, submission_id: str, on_progress: Callable[[Progress], None]) -> None:
        self._url = url
        self._channel = channel_root(prefix) + submission_id
        self._on_progress = on_progress
        self._subscribed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._listen())
        return self

    async def __aexit__(self, *_exc: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait({self._task})

    async def ready(self) -> bool:
        """Whether messages are heard from now on; False after ``SUBSCRIBE_S``, or at once when Redis is not there."""
        assert self._task is not None, "async with comes first"
        subscribed = asyncio.create_task(self._subscribed.wait())
        try:
            await asyncio.wait({self._task, subscribed}, timeout=SUBSCRIBE_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            subscribed.cancel()
        return self._subscribed.is_set() and not self._task.done()

    async def _listen(self) -> None:
        # A wrong address is no more of an error than one where nobody answers.
        with contextlib.suppress(redis.RedisError, OSError, TimeoutError, ValueError):
            client: Any = redis.asyncio.Redis.from_url(self._url)
            try:
                async with client.pubsub() as subscription:
                    await subscription.subscribe(self._channel)
                    while True:
                        self._take(await subscription.get_message(timeout=LOOK_S))
            finally:
                await client.aclose()

    def _take(self, message: Any) -> None:
        if message is None:
            return
        if message["type"] == "subscribe":
            self._subscribed.set()
        elif message["type"] == "message" and (progress := decode_progress(message["data"])) is not None:
            self._on_progress(progress)
