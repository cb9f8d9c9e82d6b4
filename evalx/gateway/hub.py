"""Who listens to what: progress from the workers and results from all gateways, handed to streams and waiting requests.

Messages come over one subscription to Redis for all listeners of this gateway, results of its own submissions also
directly, so that they are heard while Redis is away. What was heard of submissions in progress is remembered for a
while: a stream is usually opened only after its submission, whose first tests may have ended by then.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator
from typing import Any, NamedTuple

import redis
import structlog

from evalx.cache.link import Link
from evalx.cache.progress import Progress, TestProgress, channel_root, decode_progress, encode_progress
from evalx.gateway.metrics import STREAMS

log = structlog.get_logger(__name__)

#: Messages that wait for a slow listener. Those of one submission that do not fit are dropped: its result says all of
#: it again. A listener to everything that is this slow is cut off.
QUEUE_SIZE = 2000
#: Submissions whose progress is remembered: those that have begun and are not finished, on all workers.
REMEMBERED = 5000
#: Seconds before Redis is asked again for a subscription that was lost.
RESUBSCRIBE_S = 1.0
#: Seconds until a subscription counts as broken in which nothing, not even the answer to a ping, was heard.
SILENCE_S = 10.0

_FINISHED = encode_progress(Progress(finished=True))


class Heard(NamedTuple):
    """One message, and the submission that it is about."""

    id: str
    progress: Progress


class Feed:
    """A listener's queue; ``ended`` when there is nothing to come any more, or the listener was too slow."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Heard | None] = asyncio.Queue(QUEUE_SIZE)
        self.ended = False
        self.overrun = False

    def put(self, heard: Heard) -> None:
        """Hand over a message, or drop it."""
        try:
            self._queue.put_nowait(heard)
        except asyncio.QueueFull:
            self.overrun = True

    def end(self) -> None:
        """The gateway ends."""
        self.ended = True
        with contextlib.suppress(asyncio.QueueFull):
            self._queue.put_nowait(None)

    async def next(self, timeout_s: float) -> Heard | None:
        """The next message; None after this many seconds without one, and at the end."""
        if self.ended:
            return None
        try:
            async with asyncio.timeout(timeout_s):
                return await self._queue.get()
        except TimeoutError:
            return None


class Hub:
    """Hands over what is heard; ``start`` subscribes."""

    def __init__(self, link: Link, prefix: str) -> None:
        self._link = link
        self._root = channel_root(prefix)
        self._by_id: dict[str, set[Feed]] = {}
        self._all: set[Feed] = set()
        self._seen: OrderedDict[str, list[TestProgress]] = OrderedDict()
        self._ended = False
        self._task: asyncio.Task[None] | None = None
        self.subscribed = asyncio.Event()

    def start(self) -> None:
        """Subscribe, now and whenever the subscription is lost; without Redis there is nothing to subscribe to."""
        if self._link.client is None:
            return
        self._task = asyncio.create_task(self._keep_subscribed())

    async def stop(self) -> None:
        """End all feeds and the subscription."""
        self.end()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def end(self) -> None:
        """Let everybody who listens know that there is nothing to come any more."""
        self._ended = True
        for feed in [*self._all, *(feed for feeds in self._by_id.values() for feed in feeds)]:
            feed.end()

    def channel(self, submission_id: str) -> tuple[str, bytes]:
        """Where, and what, is published when a result can be fetched."""
        return self._root + submission_id, _FINISHED

    def has_started(self, submission_id: str) -> bool:
        """Whether a worker is known to judge it."""
        return submission_id in self._seen

    def seen(self, submission_id: str) -> list[TestProgress]:
        """The tests that are known to have ended, while it is being judged."""
        return list(self._seen.get(submission_id, ()))

    @contextlib.contextmanager
    def listen(self, submission_id: str | None) -> Iterator[Feed]:
        """A feed of one submission, or of all."""
        feed = Feed()
        feeds = self._all if submission_id is None else self._by_id.setdefault(submission_id, set())
        feeds.add(feed)
        if self._ended:
            feed.end()
        try:
            yield feed
        finally:
            feeds.discard(feed)
            if submission_id is not None and not feeds:
                self._by_id.pop(submission_id, None)

    def finished(self, submission_id: str) -> None:
        """A result of this gateway can be fetched."""
        self.hear(submission_id, Progress(finished=True))

    def hear(self, submission_id: str, progress: Progress) -> None:
        """Hand a message to who listens."""
        if progress.finished:
            self._seen.pop(submission_id, None)
        else:
            self._remember(submission_id, progress.tests)
        heard = Heard(submission_id, progress)
        for feed in (*self._by_id.get(submission_id, ()), *self._all):
            feed.put(heard)

    def _remember(self, submission_id: str, tests: tuple[TestProgress, ...]) -> None:
        self._seen.setdefault(submission_id, []).extend(tests)
        self._seen.move_to_end(submission_id)
        while len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)

    async def _keep_subscribed(self) -> None:
        while True:
            try:
                async with self._subscription() as subscription:
                    await self._read(subscription)
            except (redis.RedisError, OSError, TimeoutError) as error:
                log.warning("progress_not_heard", error=repr(error))
            self.subscribed.clear()
            await asyncio.sleep(RESUBSCRIBE_S)

    @contextlib.asynccontextmanager
    async def _subscription(self) -> AsyncIterator[Any]:
        subscription = self._link.listener.pubsub(ignore_subscribe_messages=True)
        try:
            await subscription.psubscribe(_escaped(self._root) + "*")
            self.subscribed.set()
            yield subscription
        finally:
            await subscription.aclose()

    async def _read(self, subscription: Any) -> None:
        while True:
            message = await subscription.get_message(timeout=SILENCE_S)
            if message is None:
                async with asyncio.timeout(SILENCE_S):
                    await subscription.ping()
                continue
            progress = decode_progress(message["data"]) if message["type"] == "pmessage" else None
            if progress is not None:
                self.hear(message["channel"].decode().removeprefix(self._root), progress)


@contextlib.contextmanager
def counted() -> Iterator[None]:
    """Count an open stream."""
    STREAMS.inc()
    try:
        yield
    finally:
        STREAMS.dec()


def _escaped(text: str) -> str:
    """A topic prefix has none of the characters of a pattern; should it ever, they mean themselves."""
    return "".join(f"\\{character}" if character in "*?[]^\\" else character for character in text)
