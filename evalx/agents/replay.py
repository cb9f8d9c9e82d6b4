"""Sends dead letters to the submissions again, each at most once unless it is asked for twice.

Theory of operation
===================
Kafka cannot mark a record that is there. So *notes* (see ``letters``) are written onto the dead letter's own
partition::

    1. note "started"   confirmed by the broker, with the token of this run
    2. look             did another run write such a note before ours? Then it is that run's to send
    3. send             to the original partition, with the original key, bytes and headers, and
                        ``evalx-replayed-from``; confirmed by the broker
    4. note "done"

A dead letter with a note "done" is not sent again. One with "started" alone was left by a run that died between 1 and
4 or is between them now: while the note is young, it is left to that run; later the original partition is searched,
from the note's time on, for a submission that says it was replayed from here. So it is known, not guessed, whether 3
happened.

Dead letters go in groups, so that step 2 is one short read for all of them. From the first note to the last message of
a group it takes at most ``CONFIRM_TIMEOUT_S`` + ``SILENCE_S`` + ``GROUP_S`` + ``CONFIRM_TIMEOUT_S`` = 65 s, well below
``YOUNG_S``.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable
from typing import Self

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from evalx import broker
from evalx.agents.letters import (
    HEADER_OFFSET,
    HEADER_REPLAYED_FROM,
    HEADER_RUN,
    HEADER_STATE,
    DeadLetter,
    Query,
    Span,
    State,
    find,
    note_of,
    spans,
)
from evalx.agents.outlet import Outlet
from evalx.agents.reader import TopicReader
from evalx.errors import ServiceUnavailableError
from evalx.settings import Settings

#: Dead letters in a group, and bytes of their values, after which it is sent whatever the rate.
GROUP_COUNT = 100
GROUP_BYTES = 16 << 20
#: Seconds that the sending of one group may take by the rate alone.
GROUP_S = 20.0
#: Seconds until a message that the broker does not confirm is given up, and with it the run.
CONFIRM_TIMEOUT_S = 15.0
#: Seconds for which a note "started" is taken for a run that is still at it; see the sum above.
YOUNG_S = 120.0
#: Seconds by which the clocks of two operators' machines may differ when a started replay is searched for.
CLOCK_TOLERANCE_S = 300.0
#: Bytes of a message before compression: what was compressed by its producer can be far larger than the topic's limit.
MAX_REQUEST_BYTES = 1 << 30


class Failed(msgspec.Struct, frozen=True):
    """A dead letter that could not be sent, and why."""

    place: str
    reason: str


class Report(msgspec.Struct):
    """What became of the dead letters that were asked for. ``already`` were replayed before."""

    matched: int = 0
    replayed: int = 0
    already: int = 0
    left_to_another: int = 0
    failed: list[Failed] = msgspec.field(default_factory=list)


class Replayer:
    """One run; ``async with`` connects. Raises as ``TopicReader`` does.

    Args:
        rate: dead letters a second, at most.
        again: send also what was replayed before.
        on_sent: called for each that was sent.
    """

    def __init__(
        self, settings: Settings, *, rate: float, again: bool = False, on_sent: Callable[[], None] = lambda: None
    ) -> None:
        self._settings = settings
        self._rate = rate
        self._again = again
        self._on_sent = on_sent
        self._run = secrets.token_hex(8)
        self._next_at = 0.0
        self._letters = TopicReader(settings, settings.topic_dead_letters)
        # A reader reads one span at a time, and the letters are in the middle of theirs.
        self._notes = TopicReader(settings, settings.topic_dead_letters)
        self._submissions = TopicReader(settings, settings.topic_submissions)
        self._outlet = Outlet(self._make_producer)
        #: Where the first note of another run is, by the dead letter's offset, as far as this span has been looked at.
        self._foreign: dict[int, int] = {}
        self._looked_to = 0
        self.report = Report()

    async def __aenter__(self) -> Self:
        try:
            for reader in (self._letters, self._notes, self._submissions):
                await reader.__aenter__()
            await self._letters.ask(self._outlet.start())
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_exc: object) -> None:
        parts = (self._outlet.stop(), self._letters.close(), self._notes.close(), self._submissions.close())
        await asyncio.gather(*parts, return_exceptions=True)

    async def replay(self, query: Query, limit: int | None = None) -> Report:
        """Replay what is asked for, at most ``limit`` of it; ``report`` is up to date also when this is cancelled."""
        for span in await spans(self._letters, query):
            self._foreign, self._looked_to = {}, span.end
            async for group in self._groups(span, query, limit):
                await self._replay_group(group)
            if limit is not None and self.report.matched >= limit:
                break
        return self.report

    async def _groups(self, span: Span, query: Query, limit: int | None) -> AsyncIterator[list[DeadLetter]]:
        most = max(1, min(GROUP_COUNT, int(self._rate * GROUP_S)))
        group: list[DeadLetter] = []
        async for letter in find(self._letters, span, query, self._settings):
            if limit is not None and self.report.matched >= limit:
                break
            self.report.matched += 1
            group.append(letter)
            if len(group) == most or sum(one.size for one in group) >= GROUP_BYTES:
                yield group
                group = []
        if group:
            yield group

    async def _replay_group(self, group: list[DeadLetter]) -> None:
        """Steps 1 to 4 for those that are to be sent."""
        ours = [letter for letter in group if await self._is_to_be_sent(letter)]
        if not ours:
            return
        offsets = await asyncio.gather(*(self._note(letter, "started") for letter in ours))
        noted = {letter.offset: offset for letter, offset in zip(ours, offsets, strict=True)}
        taken = await self._taken_by_others(ours[0].partition, noted)
        self.report.left_to_another += len(taken)
        for letter in ours:
            if letter.offset not in taken:
                await self._send_at_rate(letter)

    async def _is_to_be_sent(self, letter: DeadLetter) -> bool:
        if (reason := self._obstacle(letter)) is not None:
            self.report.failed.append(Failed(letter.place, reason))
            return False
        if letter.note is None:
            return True
        if letter.note.state == "started":
            if time.time() - letter.note.at_ms / 1000 < YOUNG_S:
                self.report.left_to_another += 1
                return False
            if not await self._was_sent(letter, letter.note.at_ms):
                return True
            await self._note(letter, "done")
        if not self._again:
            self.report.already += 1
        return self._again

    def _obstacle(self, letter: DeadLetter) -> str | None:
        origin = letter.origin
        if origin is None:
            return "its headers do not say which partition it came from"
        if letter.lane(self._settings) is None or origin.partition not in self._submissions.partitions:
            return f"it came from partition {origin.partition}, which is in no lane any more"
        return None

    async def _was_sent(self, letter: DeadLetter, at_ms: int) -> bool:
        """Whether a run that began to replay it got as far as sending it."""
        assert letter.origin is not None
        partition = letter.origin.partition
        start = await self._submissions.offset_since(partition, at_ms - int(CLOCK_TOLERANCE_S * 1000))
        if start is None:
            return False
        _, end = (await self._submissions.bounds())[partition]
        wanted = (HEADER_REPLAYED_FROM, letter.place.encode())
        async for record in self._submissions.scan(partition, start, end):
            if wanted in record.headers:
                return True
        return False

    async def _taken_by_others(self, partition: int, noted: dict[int, int]) -> set[int]:
        """Those of our dead letters for which another run wrote a note before ours."""
        end = max(noted.values())
        async for record in self._notes.scan(partition, self._looked_to, end):
            note = note_of(record)
            if note is not None and note.run != self._run:
                self._foreign.setdefault(note.offset, note.note_offset)
        self._looked_to = max(self._looked_to, end)
        return {offset for offset, ours in noted.items() if self._foreign.get(offset, ours) < ours}

    async def _send_at_rate(self, letter: DeadLetter) -> None:
        await asyncio.sleep(self._next_at - time.monotonic())
        self._next_at = max(self._next_at, time.monotonic()) + 1 / self._rate
        try:
            # Once begun, the two belong together: a replay that is not noted would have to be searched for.
            await asyncio.shield(self._send(letter))
        except MessageSizeTooLargeError:
            reason = f"{letter.size} bytes are more than {self._settings.topic_submissions} takes in one message"
            self.report.failed.append(Failed(letter.place, reason))

    async def _send(self, letter: DeadLetter) -> None:
        assert letter.origin is not None
        headers = [*letter.own_headers, (HEADER_REPLAYED_FROM, letter.place.encode())]
        await self._produce(
            self._settings.topic_submissions, letter.origin.partition, letter.key, letter.value, headers
        )
        self.report.replayed += 1
        self._on_sent()
        await self._note(letter, "done")

    async def _note(self, letter: DeadLetter, state: State) -> int:
        headers = [
            (HEADER_STATE, state.encode()),
            (HEADER_OFFSET, str(letter.offset).encode()),
            (HEADER_RUN, self._run.encode()),
        ]
        # A key of its own: on a topic that is compacted, the dead letter's would stand for the dead letter.
        key = f"evalx-replay:{letter.place}:{state}".encode()
        return await self._produce(self._settings.topic_dead_letters, letter.partition, key, None, headers)

    async def _produce(
        self, topic: str, partition: int, key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]]
    ) -> int:
        try:
            sent = await self._outlet.send(topic=topic, partition=partition, key=key, value=value, headers=headers)
        except MessageSizeTooLargeError:
            raise
        except (KafkaError, OSError) as error:
            raise ServiceUnavailableError("Kafka", self._settings.kafka_bootstrap, repr(error)) from error
        return int(sent.offset)

    def _make_producer(self) -> AIOKafkaProducer:
        return AIOKafkaProducer(
            **broker.connection(self._settings),
            acks="all",
            # A message that is sent again because its confirmation was lost would be a second replay.
            enable_idempotence=True,
            request_timeout_ms=int(CONFIRM_TIMEOUT_S * 1000),
            compression_type="gzip",
            max_request_size=MAX_REQUEST_BYTES,
        )
