"""How many sandbox containers each worker may have, so that all together stay within one bound.

Theory of operation
===================
One hash in Redis has a field for each worker: how many containers it holds, how many it wants, and until when that
counts. Who asks for more gets what is left of the bound, unless somebody else is short: who wants containers and has
less than a fair share, the bound divided by the workers. Then nobody gets more than that share, and who has more is
told to give some back. What a worker has is counted until it says otherwise, so the sum is never over the bound.

A field dies with its owner, but not before the owner's containers: a worker that is killed takes them along at once,
one that is stopped leaves them until their runners give it up (``DEAD_MAN_S``). ``QUOTA_S`` is that time, an interval
between renewals, and some seconds for dockerd to remove them.

While Redis is away, and for ``YOUNG_S`` after it has lost everything, a worker may have the share that it last knew of;
one that never heard of others assumes that there are as many as partitions. Those that come and go while Redis is away
are the only ones that can make the sum too large, by a share each.
"""

from __future__ import annotations

import structlog

from evalx.cache.keys import VERSION
from evalx.cache.link import Link

log = structlog.get_logger(__name__)

#: Seconds that containers count after the last word of their owner: 30 until their runners give it up, 5 that the word
#: may be older than the stop, 5 for their removal.
QUOTA_S = 40.0
#: Seconds for which a hash that was lost is not trusted: each worker has told what it holds at least once by then.
YOUNG_S = 10.0

#: Tell what is held, ask for what is wanted. KEYS: hash. ARGV: owner, held, want, bound, ttl ms, young ms, fallback.
#: A field is "held:want:until", in milliseconds of Redis's own clock. Answers: {granted, workers, 1 = young}.
_CLAIM = """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local owner, held, want, bound = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local born = tonumber(redis.call('HGET', KEYS[1], '#born') or now)
redis.call('HSETNX', KEYS[1], '#born', born)
local fields, others, workers = redis.call('HGETALL', KEYS[1]), 0, 1
local wants = {}
for i = 1, #fields, 2 do
  local has, wanted, ends = string.match(fields[i + 1], '^(%d+):(%d+):(%d+)$')
  if has and fields[i] ~= owner then
    if tonumber(ends) <= now then
      redis.call('HDEL', KEYS[1], fields[i])
    else
      others, workers = others + tonumber(has), workers + 1
      wants[#wants + 1] = {tonumber(has), tonumber(wanted)}
    end
  end
end
local share = math.max(1, math.floor(bound / workers))
local granted, young = math.min(want, math.max(0, bound - others)), now - born < tonumber(ARGV[6])
for _, other in ipairs(wants) do
  if other[1] < math.min(other[2], share) then granted = math.min(granted, share) end
end
if young then granted = math.min(granted, tonumber(ARGV[7])) end
redis.call('HSET', KEYS[1], owner, math.max(held, granted) .. ':' .. want .. ':' .. math.floor(now + ARGV[5]))
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return {granted, workers, young and 1 or 0}
"""


class RedisQuota:
    """The quota of one worker process; ``owner`` must name the process and nobody else, ever.

    Args:
        link: to Redis.
        prefix: names the installation: workers of another one have a bound of their own.
        owner: names this process.
        bound: containers of all workers together.
        most_workers: how many there can be, as far as is known without asking.
    """

    def __init__(self, link: Link, *, prefix: str, owner: str, bound: int, most_workers: int) -> None:
        self._link = link
        self._key = f"evalx:{VERSION}:containers:{prefix}"
        self._owner = owner
        self._bound = bound
        self._share = max(1, bound // most_workers)
        self._away = False
        self._short = False

    async def claim(self, held: int, want: int) -> int:
        """How many of the ``want`` containers may exist here; the ``held`` that exist count anyway. Never raises."""
        reply = await self._link.run(
            _CLAIM,
            [self._key],
            [self._owner, held, want, self._bound, round(QUOTA_S * 1000), round(YOUNG_S * 1000), self._share],
        )
        self._say(reply is None)
        if reply is None:
            return min(want, self._share)
        granted, workers, young = map(int, reply)
        if not young:
            self._share = max(1, self._bound // workers)
        if granted < want and not self._short:
            log.warning("containers_refused", held=held, want=want, granted=granted, workers=workers)
        self._short = granted < want
        return granted

    async def release(self) -> None:
        """Nothing is held here any more. Never raises."""
        if self._link.client is not None:
            await self._link.ask(self._link.client.hdel(self._key, self._owner))

    def _say(self, away: bool) -> None:
        if away and not self._away:
            log.warning("containers_not_shared", share=self._share, bound=self._bound)
        self._away = away
