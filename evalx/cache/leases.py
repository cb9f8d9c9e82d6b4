"""Worker leases: a key in Redis per worker, renewed while it lives, gone soon after it has died.

With the lease goes the worker's entry in the roster, by which it is found (see ``roster``).
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid

import redis.asyncio
import structlog

from evalx.cache.keys import VERSION
from evalx.cache.roster import Place, Roster, place_of

log = structlog.get_logger(__name__)

#: Seconds that a lease lives without renewal, and between renewals: two renewals may fail before others think us dead.
LEASE_S = 15
RENEW_INTERVAL_S = 5.0
#: Seconds for one call; there is no hurry, but a hanging Redis must not hang the loop that renews.
CALL_TIMEOUT_S = 2.0

_SCOPE_KEY = f"evalx:{VERSION}:scope"


class WorkerLease:
    """This worker's lease, and a look at the others'.

    ``scope`` names the Redis that the leases are in: workers of another installation on the same Docker daemon have
    another scope, and nothing can be known of their life from here. It is empty while Redis has not answered yet.
    ``name`` is of this process: one that comes after it under the same owner's name has another lease.
    ``prefix`` names the installation in whose roster the worker is.
    """

    def __init__(self, url: str, owner: str, prefix: str) -> None:
        self.name = f"{owner}#{uuid.uuid4().hex[:12]}"
        self.scope = ""
        self._redis = redis.asyncio.Redis.from_url(
            url, decode_responses=True, socket_timeout=CALL_TIMEOUT_S, socket_connect_timeout=CALL_TIMEOUT_S
        )
        self._task: asyncio.Task[None] | None = None
        self._url = url
        self._roster = Roster(self._redis, prefix)
        self._listens = ("", 0)
        self._place: Place | None = None

    async def start(self, listens: tuple[str, int]) -> None:
        """Take the lease, if Redis answers, and keep it renewed. ``listens``: host and port of the health port."""
        self._listens = listens
        await self._renew()
        self._task = asyncio.create_task(self._keep())

    @property
    def task(self) -> asyncio.Task[None] | None:
        """What renews the lease; it ends only when it is stopped."""
        return self._task

    async def stop(self) -> None:
        """Give the lease up."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        with contextlib.suppress(redis.RedisError, OSError):
            await self._redis.delete(_key(self.name))
            if self._place is not None:
                await self._roster.leave(self._place)
        await self._redis.aclose()

    async def dead(self, leases: set[str]) -> set[str]:
        """Those of the leases that nobody holds; none when Redis cannot be asked."""
        names = sorted(leases - {self.name})
        if not names:
            return set()
        try:
            values = await self._redis.mget([_key(name) for name in names])
        except (redis.RedisError, OSError):
            return set()
        return {name for name, value in zip(names, values, strict=True) if value is None}

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(RENEW_INTERVAL_S)
            await self._renew()

    async def _renew(self) -> None:
        try:
            await self._redis.set(_key(self.name), "1", ex=LEASE_S)
            if not self.scope:
                await self._redis.set(_SCOPE_KEY, uuid.uuid4().hex, nx=True)
                self.scope = str(await self._redis.get(_SCOPE_KEY) or "")
            # Only now: the way to Redis is known.
            self._place = self._place or await place_of(*self._listens, self._url)
            await self._roster.enter(self._place, LEASE_S)
        except (redis.RedisError, OSError) as error:
            log.warning("lease_not_renewed", error=repr(error))


def _key(name: str) -> str:
    return f"evalx:{VERSION}:worker:{name}"
