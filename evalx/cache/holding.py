"""Leases that this worker holds in Redis, kept alive while it works, and awaited when others hold them.

Theory of operation
===================
What is being judged is leased, so that nobody else judges it too. A lease has an owner, an epoch and an expiry:

- It is renewed at a third of its expiry, all leases of a worker in one call, so two renewals may fail.
- When its worker dies it expires, and whoever waits takes it over with a higher epoch. The time until then must not
  exceed Kafka's session timeout: until that is over the dead worker's partitions belong to nobody anyway.
- A *zombie* is a worker that was stopped for longer than its leases last, and goes on as if nothing had happened.
  Before it publishes it looks at the clock: what was renewed less than an expiry ago cannot have been taken over. Of
  what was not it asks Redis, which knows by holder and epoch. The clock is one that goes on while a process is stopped
  and while the machine is suspended.
- When Redis cannot be asked, leases count as held: then only Kafka says whose a submission is, and it may be judged
  twice. Nothing is lost by that.

Who waits for a lease is told of its end by pub/sub, and otherwise looks again when it would expire.

Worst case for a submission that waits for one whose worker has died: ``LEASE_S`` + one call. For one whose worker
lives but cannot publish: ``PUBLISH_PATIENCE_S`` + ``LEASE_S`` + one call.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import redis.asyncio
import structlog

from evalx.cache import keys, scripts
from evalx.cache.link import Link, cancellations, heed_cancellation
from evalx.metrics import LEASES

log = structlog.get_logger(__name__)

#: Seconds that a lease lives without renewal: less than Kafka's session timeout (15 s), so that a dead worker's leases
#: have ended when its partitions are dealt again; more than a busy machine, or a Redis that fails over, takes.
LEASE_S = 12.0
#: Seconds between renewals: a third, two of them may fail.
RENEW_INTERVAL_S = LEASE_S / 3
#: Seconds before the end from which a lease is no longer trusted without asking: one call and the machine's hiccups.
MARGIN_S = 2.0
#: Seconds for which a lease is still renewed when its submission has been judged: a broker that fails over needs less
#: than 30. A worker that cannot reach Kafka at all must not keep those waiting who can.
PUBLISH_PATIENCE_S = 60.0
#: Seconds before a lease is asked for again when its end cannot be listened for.
DEAF_PAUSE_S = 1.0
#: Seconds between looks at whether who waits still has a reason to; nothing is asked of Redis for that.
LOOK_S = 1.0
#: Leases renewed in one call: a few milliseconds of Redis's time at most.
RENEW_BATCH = 500


def clock() -> float:
    """Seconds of a clock that also runs while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Lease:
    """One lease that was taken. ``lost`` is set when somebody is known to have overtaken it."""

    __slots__ = ("epoch", "key", "lost", "renew_until", "seen_at", "token", "ttl_s")

    def __init__(self, key: str, token: str, epoch: int, seen_at: float, ttl_s: int) -> None:
        self.key = key
        self.token = token
        self.epoch = epoch
        self.seen_at = seen_at
        self.ttl_s = ttl_s
        self.lost = False
        self.renew_until = float("inf")

    @property
    def is_fresh(self) -> bool:
        """Whether nobody can have overtaken it yet."""
        return not self.lost and clock() - self.seen_at < LEASE_S - MARGIN_S


class Keeper:
    """The leases of one worker process. ``start`` keeps them renewed; until then they simply expire."""

    def __init__(self, link: Link) -> None:
        self.link = link
        #: Names this process, not its host or its name: who comes after it under the same name is somebody else.
        self.incarnation = uuid.uuid4().hex
        self._numbers = itertools.count(1)
        self._leases: set[Lease] = set()
        self._task: asyncio.Task[None] | None = None
        self._stopping = False

    async def start(self) -> None:
        """Tell that this process lives, and go on telling."""
        await self.renew()
        self._task = asyncio.create_task(self._keep())

    @property
    def task(self) -> asyncio.Task[None] | None:
        """What renews what is held; it ends only when it is stopped."""
        return self._task

    async def stop(self) -> None:
        """Renew no more, and tell that this process has ended."""
        self._stopping = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self.link.client is not None:
            await self.link.ask(self.link.client.delete(keys.life_key(self.incarnation)))

    def new_token(self) -> str:
        """A holder that there never was."""
        return f"{self.incarnation}#{next(self._numbers)}"

    def keep(self, lease: Lease) -> Lease:
        """Renew it from now on."""
        self._leases.add(lease)
        return lease

    def settle(self, lease: Lease | None) -> None:
        """What the lease is for has been done, up to telling others; do not keep them waiting for ever."""
        if lease is not None:
            lease.renew_until = clock() + PUBLISH_PATIENCE_S

    def drop(self, lease: Lease) -> None:
        """Renew it no more."""
        self._leases.discard(lease)

    async def holds(self, lease: Lease | None) -> bool:
        """Whether nobody has overtaken it, as far as can be known; renews it when that is not certain."""
        if lease is None or lease.is_fresh:
            return True
        if not lease.lost:
            await self._renew([lease])
        return not lease.lost

    async def renew(self) -> None:
        """Renew all that are still worth it."""
        now = clock()
        due = [lease for lease in self._leases if not lease.lost and now < lease.renew_until]
        await self._renew(due[:RENEW_BATCH])
        for start in range(RENEW_BATCH, len(due), RENEW_BATCH):
            await self._renew(due[start : start + RENEW_BATCH])

    async def _keep(self) -> None:
        while not self._stopping:
            await asyncio.sleep(RENEW_INTERVAL_S)
            try:
                await self.renew()
            except Exception:
                # Whatever it is, the next renewal may come through, and without any the leases would be lost.
                log.exception("leases_not_renewed")

    async def _renew(self, leases: list[Lease]) -> None:
        asked_at = clock()
        named = [keys.life_key(self.incarnation), *(lease.key for lease in leases)]
        words = [word for lease in leases for word in (lease.token, lease.epoch, lease.ttl_s)]
        kept = await self.link.run(scripts.RENEW, named, [round(LEASE_S * 1000), *words])
        for lease, is_kept in zip(leases, kept or (), strict=False):
            if is_kept:
                lease.seen_at = asked_at
            elif lease in self._leases:
                # One that was ended meanwhile is not lost.
                lease.lost = True
                LEASES.labels("lost").inc()
                log.warning("lease_lost", key=lease.key, epoch=lease.epoch)


async def when_free(
    link: Link, channel: str, ask: Callable[[bool], Awaitable[Any]], wanted: Callable[[], bool] = lambda: True
) -> Any:
    """Ask until the answer is not ``busy``, or not wanted any more; between two questions wait for the lease's end.

    ``ask`` is given whether somebody else was waited for.
    """
    reply = await ask(False)
    if reply is None or reply[0] != b"busy":
        return reply
    LEASES.labels("awaited").inc()
    async with _listening(link, channel, wanted) as wait:
        # Asked again first: it may have ended before we listened.
        while (reply := await ask(True)) is not None and reply[0] == b"busy" and wanted():
            await wait(int(reply[1]) / 1000)
    return reply


@contextlib.asynccontextmanager
async def _listening(
    link: Link, channel: str, wanted: Callable[[], bool]
) -> AsyncIterator[Callable[[float], Awaitable[None]]]:
    """A function that waits for a message, at most so many seconds. A connection for each who waits: they are few."""
    pubsub = link.listener.pubsub()

    async def wait(seconds: float) -> None:
        deadline = time.monotonic() + seconds
        asked_before = cancellations()
        try:
            while (left := deadline - time.monotonic()) > 0 and wanted():
                if await pubsub.get_message(ignore_subscribe_messages=True, timeout=min(left, LOOK_S)) is not None:
                    return
        except (redis.RedisError, OSError, RuntimeError):
            # RuntimeError: there never was a connection.
            heed_cancellation(asked_before)
            await asyncio.sleep(min(seconds, DEAF_PAUSE_S))

    try:
        await link.ask(pubsub.subscribe(channel))
        yield wait
    finally:
        with contextlib.suppress(redis.RedisError, OSError):
            await pubsub.aclose()
