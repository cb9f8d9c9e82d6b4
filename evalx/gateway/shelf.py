"""What gateways share in Redis: entries, who waits, limits, and who is alive. Redis away is never an error here.

Keys, below ``evalx:v1:PREFIX:gateway``:

============== ============================================================================================
``entry:ID``    an entry, from acceptance on, for ``EVALX_GATEWAY_TTL_S``
``waiting``     ids without a result, by the time of their acceptance; its length is the queue
``open:NAME``   those of them that the gateway NAME waits for
``payer:WHO``   those of them that count for one token or address
``rate:WHO``    when the next submission of one token or address is due (GCRA), in milliseconds
``alive:NAME``  there while the gateway NAME beats
``instances``   the gateways that have beaten
``hooks``       ids whose webhook is to be called, by the time of the next try; ``tries`` counts them
============== ============================================================================================
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec

from evalx.cache.link import Link
from evalx.gateway.entries import Entry, Ticket, decode_entry, encode_entry
from evalx.settings import Settings

#: Seconds that a gateway counts as alive after a beat; it beats three times as often. One that was only slow loses
#: nothing when another one waits for its results too.
ALIVE_S = 10.0
#: Seconds that a claimed webhook is left alone by others: one call takes at most 10 s.
HOOK_LEASE_S = 60.0
#: Milliseconds that a gateway gives Redis at least: what is on the shelf is nowhere else, unlike what is in a cache,
#: and on a busy machine Redis has been seen to need over 50.
LEAST_TIMEOUT_MS = 200
#: Submissions of one payer that may come at once when only the rate is limited, in seconds of that rate.
BURST_S = 1.0

# Twice the same is once: a repeat of the call, after its answer was lost, finds the entry that it made.
_ADMIT = """
local known = redis.call('GET', KEYS[1])
if known then return {'known', known} end
if redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[5]) then return {'waiting', ''} end
local most = tonumber(ARGV[6])
if most > 0 and redis.call('ZCARD', KEYS[3]) >= most then return {'concurrency', ''} end
local interval = tonumber(ARGV[7])
if interval > 0 then
  local clock = redis.call('TIME')
  local now = clock[1] * 1000 + clock[2] / 1000
  local due = math.max(tonumber(redis.call('GET', KEYS[4]) or '0'), now)
  local excess = due + interval - now - tonumber(ARGV[8])
  if excess > 0 then return {'rate', string.format('%.0f', excess)} end
  redis.call('SET', KEYS[4], string.format('%.3f', due + interval), 'PX', string.format('%.0f', due - now + 60000))
end
redis.call('SET', KEYS[1], ARGV[3], 'EX', ARGV[4])
for place = 2, 5 do
  if place ~= 4 then
    redis.call('ZADD', KEYS[place], ARGV[2], ARGV[1])
    redis.call('EXPIRE', KEYS[place], ARGV[4])
  end
end
return {'ok', ''}
"""

# Due webhooks, each for one gateway at a time.
_CLAIM_HOOKS = """
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[3])
for _, id in ipairs(due) do redis.call('ZADD', KEYS[1], ARGV[2], id) end
return due
"""

Refusal: TypeAlias = Literal["waiting", "concurrency", "rate"]


class Admission(NamedTuple):
    """What became of a ticket: ``known`` is the entry that was there before, ``refusal`` why it was not taken.

    ``away`` says that Redis did not answer, so that nothing was checked or kept.
    """

    refusal: Refusal | None = None
    known: Entry | None = None
    retry_after_ms: int = 0
    away: bool = False


class Found(NamedTuple):
    """What Redis knows of an id; ``away`` when it did not answer."""

    entry: Entry | None
    away: bool


class Shelf:
    """The gateways' part of Redis; ``name`` is this gateway."""

    def __init__(self, settings: Settings, name: str, link: Link | None = None) -> None:
        self._settings = settings
        self._name = name
        self.link = link or Link(settings.redis_location, timeout_ms=max(settings.redis_timeout_ms, LEAST_TIMEOUT_MS))
        self._root = f"evalx:v1:{settings.topic_prefix}:gateway"
        self._limits = _limits(settings)

    async def admit(self, ticket: Ticket) -> Admission:
        """Keep a ticket if the queue and its payer's limits allow it."""
        entry = encode_entry(Entry(ticket))
        keys = [self._entry(ticket.id), self._key("waiting"), self._payer(ticket), self._key("rate", ticket.payer)]
        keys.append(self._open(ticket.instance))
        arguments: list[str | bytes | int] = [ticket.id, ticket.submitted_ms, entry]
        return _admission(await self.link.run(_ADMIT, keys, [*arguments, *self._limits]), entry)

    async def find(self, submission_id: str) -> Found:
        """The entry of an id."""
        # A list of one: None means that Redis is away, and not that there is no entry.
        reply: Any = await self.link.ask(self.link.client.mget([self._entry(submission_id)]))
        return Found(None, away=True) if reply is None else Found(decode_entry(reply[0]), away=False)

    async def find_all(self, ids: Sequence[str]) -> list[Entry]:
        """The entries of these ids that are there."""
        if not ids:
            return []
        reply: Any = await self.link.ask(self.link.client.mget([self._entry(one) for one in ids]))
        return [entry for entry in map(decode_entry, reply or ()) if entry is not None]

    async def withdraw(self, ticket: Ticket) -> None:
        """Forget a submission that was not produced."""
        pipe = self._leave(ticket)
        pipe.delete(self._entry(ticket.id))
        await self.link.ask(pipe.execute())

    async def finish(self, entry: Entry, channel: str, message: bytes) -> bool:
        """Keep a result, tell those who listen, and note its webhook. False when Redis is away."""
        pipe = self._leave(entry.ticket)
        pipe.set(self._entry(entry.ticket.id), encode_entry(entry), ex=self._settings.gateway_ttl_s)
        if entry.ticket.callback_url is not None:
            pipe.zadd(self._key("hooks"), {entry.ticket.id: time.time()}, nx=True)
        pipe.publish(channel, message)
        return await self.link.ask(pipe.execute()) is not None

    async def waiting(self) -> int | None:
        """How many submissions wait in all; None when Redis is away."""
        return await self.link.ask(self.link.client.zcard(self._key("waiting")))

    async def beat(self) -> None:
        """This gateway is alive."""
        pipe = self.link.client.pipeline(transaction=True)
        pipe.set(self._key("alive", self._name), b"1", px=int(ALIVE_S * 1000))
        pipe.sadd(self._key("instances"), self._name)
        # What waits longer than its entry is kept will not be asked for again.
        pipe.zremrangebyscore(self._key("waiting"), "-inf", (time.time() - self._settings.gateway_ttl_s) * 1000)
        await self.link.ask(pipe.execute())

    async def leave(self) -> None:
        """This gateway ends: what it waits for is for others to wait for."""
        await self.link.ask(self.link.client.delete(self._key("alive", self._name)))

    async def gone(self) -> list[str]:
        """Gateways that have beaten and do so no more."""
        members: Any = await self.link.ask(self.link.client.smembers(self._key("instances")))
        names = sorted(one.decode() for one in members or () if one.decode() != self._name)
        if not names:
            return []
        alive: Any = await self.link.ask(self.link.client.mget([self._key("alive", name) for name in names]))
        return [name for name, there in zip(names, alive or (), strict=False) if there is None]

    async def opened_by(self, name: str) -> list[str]:
        """The ids that a gateway waits for, oldest first."""
        ids: Any = await self.link.ask(self.link.client.zrange(self._open(name), 0, -1))
        return [one.decode() for one in ids or ()]

    async def take_over(self, name: str, tickets: Iterable[Ticket]) -> None:
        """Note that this gateway waits for what another one waited for."""
        pipe = self.link.client.pipeline(transaction=True)
        for ticket in tickets:
            pipe.zadd(self._open(self._name), {ticket.id: ticket.submitted_ms})
        pipe.delete(self._open(name))
        pipe.srem(self._key("instances"), name)
        await self.link.ask(pipe.execute())

    async def claim_hooks(self, most: int) -> list[str]:
        """Ids whose webhook is due, for this gateway alone for a while."""
        now = time.time()
        ids: Any = await self.link.run(_CLAIM_HOOKS, [self._key("hooks")], [str(now), str(now + HOOK_LEASE_S), most])
        return [one.decode() for one in ids or ()]

    async def hook_failed(self, submission_id: str) -> int:
        """Count a failed try; returns how many there have been, 0 when Redis is away."""
        return await self.link.ask(self.link.client.hincrby(self._key("tries"), submission_id, 1)) or 0

    async def hook_again(self, submission_id: str, pause_s: float) -> None:
        """Try it again after a pause, in seconds."""
        await self.link.ask(self.link.client.zadd(self._key("hooks"), {submission_id: time.time() + pause_s}))

    async def hook_done(self, submission_id: str) -> None:
        """Call it no more."""
        pipe = self.link.client.pipeline(transaction=True)
        pipe.zrem(self._key("hooks"), submission_id)
        pipe.hdel(self._key("tries"), submission_id)
        await self.link.ask(pipe.execute())

    async def close(self) -> None:
        """Close the connections."""
        await self.link.close()

    def _leave(self, ticket: Ticket) -> Any:
        """A pipeline that takes a ticket out of all that wait."""
        pipe = self.link.client.pipeline(transaction=True)
        for key in (self._key("waiting"), self._payer(ticket), self._open(ticket.instance), self._open(self._name)):
            pipe.zrem(key, ticket.id)
        return pipe

    def _key(self, *parts: str) -> str:
        return ":".join((self._root, *parts))

    def _entry(self, submission_id: str) -> str:
        return self._key("entry", submission_id)

    def _payer(self, ticket: Ticket) -> str:
        return self._key("payer", ticket.payer)

    def _open(self, name: str) -> str:
        return self._key("open", name)


def _limits(settings: Settings) -> list[str | bytes | int]:
    """The arguments of ``_ADMIT`` that are always the same; times in milliseconds."""
    rate = settings.gateway_rate_per_s
    interval = 1000 / rate if rate else 0.0
    counts: list[str | bytes | int] = [settings.gateway_ttl_s, settings.max_waiting, settings.gateway_concurrency]
    return [*counts, f"{interval:.6f}", f"{max(1000 * BURST_S, interval):.6f}"]


def _admission(reply: Any, entry: bytes) -> Admission:
    if reply is None:
        return Admission(away=True)
    word, detail = reply
    if word == b"known" and detail != entry:
        return Admission(known=decode_entry(detail))
    if word in (b"ok", b"known"):
        return Admission()
    refusal: Refusal = msgspec.convert(word.decode(), Refusal)
    return Admission(refusal=refusal, retry_after_ms=int(detail or 0))
