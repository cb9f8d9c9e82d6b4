"""Single flight over all workers: of identical batches one is judged, and the others wait for what comes of it."""

from __future__ import annotations

from typing import Any

from evalx.cache import keys, scripts
from evalx.cache.holding import LEASE_S, Keeper, Lease, clock, when_free
from evalx.cache.link import Words
from evalx.cache.store import REDIS_VALUE_BYTES, Store
from evalx.cache.values import pack, unpack

#: Seconds for which an ended lead keeps its epoch. A leader that was stopped for longer does not overwrite anything
#: either: it stores only what is not there.
FENCE_TTL_S = 3600
#: Milliseconds in which those who wait fetch an outcome that is not kept: they are told at once.
HANDOVER_MS = 30_000


class Lead:
    """The right to judge a batch on behalf of all who sent the same. ``end`` it, whatever comes of it."""

    def __init__(self, flights: Flights, result: str, lease: Lease) -> None:
        self._flights = flights
        self._result = result
        self._lease = lease

    def settle(self) -> None:
        """It has been judged; see ``Keeper.settle``."""
        self._flights.keeper.settle(self._lease)

    async def end(self, outcome: bytes | None, *, keep: bool = False) -> None:
        """Hand the outcome to those who wait, and keep it in the cache if it may be; None when there is none."""
        await self._flights.end(self._result, self._lease, outcome, keep=keep)


class Flights:
    """The leads of one worker; without Redis there are none, and each worker judges for itself."""

    def __init__(self, store: Store, keeper: Keeper) -> None:
        self._store = store
        self.keeper = keeper

    async def join(self, result: str) -> Lead | bytes | None:
        """Lead the judging of the batch with this result key, or wait for its outcome. None when Redis is away."""
        token = self.keeper.new_token()
        named = [result, keys.lease_key(result), keys.handover_key(result)]
        asked_at = 0.0

        async def ask(waited: bool) -> Any:
            nonlocal asked_at
            asked_at = clock()
            words: Words = [token, round(LEASE_S * 1000), FENCE_TTL_S, int(waited)]
            return await self._store.link.run(scripts.TAKE_LEAD, named, words)

        reply = await when_free(self._store.link, named[1], ask)
        if reply is None:
            return None
        if reply[0] == b"known":
            return unpack(reply[1], result)
        return Lead(self, result, self.keeper.keep(Lease(named[1], token, int(reply[1]), asked_at, FENCE_TTL_S)))

    async def end(self, result: str, lease: Lease, outcome: bytes | None, *, keep: bool) -> None:
        """See ``Lead.end``."""
        self.keeper.drop(lease)
        packed = pack(outcome, result) if outcome is not None else b""
        keep = keep and len(packed) <= REDIS_VALUE_BYTES["result"]
        named = [result, lease.key, keys.handover_key(result)]
        words: Words = [lease.token, packed, self._store.ttl_s if keep else 0, HANDOVER_MS, lease.epoch]
        ended = await self._store.link.run(scripts.END_LEAD, named, words)
        if keep and outcome is not None and ended != 0:
            self._store.memory.put(result, outcome)
