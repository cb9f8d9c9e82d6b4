"""One id, one content, one worker at a time, one answer.

An id is *claimed* before it is judged and the claim is ended afterwards. Redis keeps for every id the content that it
came with first, a lease (see ``holding``), the answer that was published, and how often a worker died while it held the
claim. Only an answer makes an id count as done, and even then its record is answered again, with the same verdicts: a
claim is never the reason that a record goes without a result.

Poison
======
A submission can be the death of its worker: then it is given to the next one, and the next. Who claims an id whose last
claim was neither ended nor renewed, and whose worker process has ended, counts one death. Many submissions are in
progress when a worker dies, and machines fail for reasons of their own, so a death alone says little:

- A *lone* death is one with nothing else in progress in that worker.
- An *unexplained* death is one of the last hour, with several submissions in progress, of a worker that did not have
  this one. If there are such deaths, something else kills workers.
- With two deaths, and no more unexplained ones than that, a submission is *suspect* and is judged alone in its worker.
- With two lone deaths, and fewer unexplained ones than lone ones, it is *poison* and is judged no more.

So on a quiet system a poison kills two workers; among others it kills two while others are in progress and two alone.
An innocent submission is called poison only if its worker is killed from outside four times in a row with no other
kill in between, two of the four while it is judged alone; or twice when it is the only one on the system.
Without Redis nothing of this is known, and a poison goes on from worker to worker. So does a record that kills its
worker before it is claimed, while it is being decoded.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import msgspec
import structlog

from evalx.cache import keys, scripts
from evalx.cache.holding import LEASE_S, LOOK_S, Keeper, Lease, clock, when_free
from evalx.cache.keys import Keys, Namespace
from evalx.cache.link import Words
from evalx.cache.store import MemoryStore
from evalx.cache.values import pack, unpack
from evalx.metrics import CACHE_MEMORY_BYTES, LEASES

log = structlog.get_logger(__name__)

#: Seconds that a published answer is kept for repeats of its id. Kafka repeats within minutes, senders within hours;
#: after that a repeat is answered from the cache of results or judged again.
DONE_TTL_S = 24 * 3600
#: Milliseconds for which the death of a worker speaks for something else that kills workers.
DEATHS_COUNT_MS = 3600 * 1000
#: Deaths after which a submission is judged alone, and lone deaths after which it is not judged.
SUSPECT_DEATHS = 2
POISON_LONE_DEATHS = 2
#: Ids, and bytes of answers, that this process remembers for the case that Redis is away: three times what a worker has
#: unfinished with all lanes full, which are those that Kafka may repeat to it.
MEMORY_CLAIMS = 8000
#: Bytes that an id takes with what it came with (measured), so 2.4 MB for all of them.
CLAIM_BYTES = 300
MEMORY_DONE_BYTES = 16 << 20


class Claim(msgspec.Struct, kw_only=True):
    """What is known of an id now that it was taken. ``attempt`` counts from 1, this time included.

    ``conflict``: it was used with other content before. ``answer``: what was published for it.
    """

    id: str
    content: bytes
    attempt: int
    conflict: bool = False
    answer: bytes | None = None
    lease: Lease | None = None
    deaths: int = 0
    lone: int = 0
    unexplained: int = 0
    ended: bool = False

    @property
    def suspect(self) -> bool:
        """Whether it should be judged alone."""
        return self.deaths >= SUSPECT_DEATHS and self.unexplained <= self.deaths

    @property
    def poison(self) -> bool:
        """Whether it should not be judged."""
        return self.lone >= POISON_LONE_DEATHS and self.unexplained < self.lone


class Asked(NamedTuple):
    """An id, what it came with, and the key of its batch."""

    id: str
    content: bytes
    result: str


class Known(NamedTuple):
    """The answer to an id: what was published for it (``own``), or for an identical batch.

    From Redis it is ``packed``; while that is away, this process's memory gives the ``value``.
    """

    attempt: int
    packed: bytes
    own: bool
    value: bytes | None = None


class Claims:
    """The claims of one worker."""

    def __init__(self, keeper: Keeper, *, prefix: str, ttl_s: int, hashes: Keys | None = None) -> None:
        self._keeper = keeper
        self._hashes = hashes or Keys()
        self._link = keeper.link
        self._names = Namespace(prefix)
        self._ttl_s = ttl_s
        self._known: OrderedDict[str, tuple[bytes, int]] = OrderedDict()
        self._done = MemoryStore(MEMORY_DONE_BYTES)
        CACHE_MEMORY_BYTES.labels("done").set_function(partial(getattr, self._done, "bytes"))
        CACHE_MEMORY_BYTES.labels("claims").set_function(lambda: len(self._known) * CLAIM_BYTES)
        self._in_progress: dict[str, asyncio.Event] = {}

    @contextlib.asynccontextmanager
    async def hold(
        self, submission_id: str, content: bytes, wanted: Callable[[], bool] = lambda: True
    ) -> AsyncIterator[Claim | None]:
        """Claim an id; waits while it is being judged anywhere. A claim that was not ended is given back.

        None when it is not ``wanted`` any more before it is free; noticed within ``LOOK_S``.
        """
        # Redis is not told of what is not secret to who has the submission.
        content = self._hashes.digest(content)
        while (running := self._in_progress.get(submission_id)) is not None and wanted():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await running.wait()
        if running is not None:
            yield None
            return
        ended = self._in_progress[submission_id] = asyncio.Event()
        try:
            claim = await self._take(submission_id, content, wanted)
            try:
                yield claim
            finally:
                if claim is not None and claim.lease is not None and not claim.ended:
                    # Also when we are being cancelled: others would have to wait for the lease to expire.
                    await asyncio.shield(self._end(claim, b"", answered=False))
        finally:
            del self._in_progress[submission_id]
            ended.set()

    async def answer_known(
        self, asked: Sequence[Asked], at_hand: Callable[[str], bytes | None] = lambda key: None
    ) -> list[Known | None]:
        """The answers to ids of which the answer is known; None for those that must be claimed, also when in doubt.

        One call for all of them, and no claim: with the answer in Redis as the id's own, whoever reads the id again
        publishes the same. What is damaged is to be forgotten, see ``forget``. While Redis is away, ``at_hand`` knows
        the answers to batches.
        """
        free = [n for n, one in enumerate(asked) if one.id not in self._in_progress]
        contents = {n: self._hashes.digest(asked[n].content) for n in free}
        names = self._names
        named = [
            name
            for n, content in contents.items()
            for name in (names.claim(asked[n].id), names.done(asked[n].id, content), asked[n].result)
        ]
        words: Words = [self._ttl_s, DONE_TTL_S, *contents.values()]
        answers: list[Known | None] = [None] * len(asked)
        replies = await self._link.run_once(scripts.ANSWER_KNOWN, named, words) if free else []
        if replies is None:
            for n, content in contents.items():
                answers[n] = self._known_here(asked[n], content, at_hand)
        elif isinstance(replies, list) and len(replies) == len(free):
            for n, reply in zip(free, replies, strict=True):
                answers[n] = self._known_now(asked[n].id, contents[n], reply)
        return answers

    def _known_here(self, asked: Asked, content: bytes, at_hand: Callable[[str], bytes | None]) -> Known | None:
        """What this process alone knows. Nothing of it is certain, but no other one can be asked."""
        known, attempt = self._known.get(asked.id, (content, 0))
        if known != content or asked.id in self._in_progress:
            return None
        done = self._names.done(asked.id, content)
        own = self._done.get(done)
        value = own if own is not None else at_hand(asked.result)
        if value is None:
            return None
        self._done.put(done, value)
        self._remember(asked.id, content, attempt + 1)
        return Known(attempt + 1, b"", own is not None, value)

    def _known_now(self, submission_id: str, content: bytes, reply: Any) -> Known | None:
        if not isinstance(reply, list) or len(reply) != 3 or not isinstance(reply[0], int):
            return None
        _, attempt = self._known.pop(submission_id, (content, 0))
        attempt = max(reply[0], attempt + 1)
        self._remember(submission_id, content, attempt)
        return Known(attempt, reply[1], reply[2] == b"1")

    async def forget(self, asked: Asked) -> None:
        """What was kept as the answer to an id is of no use."""
        if self._link.client is not None:
            name = self._names.done(asked.id, self._hashes.digest(asked.content))
            await self._link.ask(self._link.client.delete(name))

    async def holds(self, claim: Claim) -> bool:
        """Whether nobody else has claimed the id since, as far as can be known."""
        return await self._keeper.holds(claim.lease)

    def settle(self, claim: Claim) -> None:
        """It has been judged; see ``Keeper.settle``."""
        self._keeper.settle(claim.lease)

    async def end(self, claim: Claim, answer: bytes | None) -> bool:
        """The id is answered: keep what its repeats are to be answered with, None when they should be judged.

        False when somebody else has claimed it since; then theirs is kept.
        """
        if answer is not None:
            self._done.put(self._done_key(claim), answer)
        return await self._end(claim, pack(answer) if answer is not None else b"", answered=True)

    async def pass_on(self, claim: Claim, answer: bytes) -> bool:
        """The id was judged for a record that now belongs to another worker, which is to publish this."""
        self._done.put(self._done_key(claim), answer)
        return await self._end(claim, pack(answer), answered=False)

    async def _take(self, submission_id: str, content: bytes, wanted: Callable[[], bool]) -> Claim | None:
        here = self._count(submission_id, content)
        token = self._keeper.new_token()
        names = self._names
        named = [
            names.claim(submission_id),
            names.done(submission_id, content),
            names.flight(self._keeper.incarnation),
            names.deaths,
        ]
        words: list[str | bytes | int] = [
            content,
            token,
            round(LEASE_S * 1000),
            self._ttl_s,
            here.attempt - 1,
            submission_id,
        ]
        words += [keys.life_key(""), names.flight(""), DEATHS_COUNT_MS]
        asked_at = 0.0

        async def ask(_waited: bool) -> Any:
            nonlocal asked_at
            asked_at = clock()
            return await self._link.run(scripts.TAKE_CLAIM, named, words)

        try:
            reply = await when_free(self._link, named[0], ask, wanted)
            if reply is not None and reply[0] == b"busy":
                return None
            return here if reply is None else self._understand(here, token, asked_at, reply)
        except Exception:
            # A defect, or what is in Redis is not ours. It must not keep the record: as if Redis were away.
            log.exception("claim_failed", submission=submission_id)
            return here

    def _understand(self, here: Claim, token: str, asked_at: float, reply: list[Any]) -> Claim:
        if reply[0] == b"conflict":
            # What came here first is not what came first.
            self._known.pop(here.id, None)
            return msgspec.structs.replace(here, conflict=True)
        attempt = max(int(reply[1]), here.attempt)
        self._remember(here.id, here.content, attempt)
        if reply[0] == b"done":
            # Damaged is as good as none, but then nobody holds it; it is judged without a lease.
            return msgspec.structs.replace(here, attempt=attempt, conflict=False, answer=unpack(reply[2]))
        key = self._names.claim(here.id)
        lease = self._keeper.keep(Lease(key, token, int(reply[1]), asked_at, self._ttl_s))
        deaths, lone, unexplained = map(int, reply[2:])
        if deaths:
            LEASES.labels("taken_over").inc()
        return Claim(
            id=here.id,
            content=here.content,
            attempt=attempt,
            # Redis may have forgotten what this process still knows.
            answer=here.answer,
            lease=lease,
            deaths=deaths,
            lone=lone,
            unexplained=unexplained,
        )

    def _count(self, submission_id: str, content: bytes) -> Claim:
        """What this process alone knows of the id."""
        known, attempt = self._known.pop(submission_id, (content, 0))
        conflict = known != content
        self._remember(submission_id, known, attempt + (not conflict))
        claim = Claim(id=submission_id, content=content, attempt=attempt + 1, conflict=conflict)
        return msgspec.structs.replace(claim, answer=self._done.get(self._done_key(claim)))

    def _remember(self, submission_id: str, content: bytes, attempt: int) -> None:
        self._known[submission_id] = (content, attempt)
        if len(self._known) > MEMORY_CLAIMS:
            self._known.popitem(last=False)

    async def _end(self, claim: Claim, packed: bytes, *, answered: bool) -> bool:
        lease = claim.lease
        if claim.ended or lease is None:
            return True
        claim.ended = True
        self._keeper.drop(lease)
        names = self._names
        named = [names.claim(claim.id), self._done_key(claim), names.flight(self._keeper.incarnation)]
        words: Words = [lease.token, lease.epoch, claim.id, packed, DONE_TTL_S, int(answered)]
        return bool(await self._link.run(scripts.END_CLAIM, named, words) != 0)

    def _done_key(self, claim: Claim) -> str:
        return self._names.done(claim.id, claim.content)
