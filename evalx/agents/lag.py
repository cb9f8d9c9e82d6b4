"""What waits at the broker: how far the workers' group has committed, and how old the first record behind that is.

Everything is the broker's word, asked for by a client of its own that belongs to no group: neither a worker's idea of
its progress nor the question itself changes the answer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Self

import msgspec
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    NotCoordinatorForGroupError,
)

from evalx import broker
from evalx.agents.reader import ANSWER_TIMEOUT_S, TopicReader
from evalx.errors import ServiceUnavailableError
from evalx.settings import Settings

#: Seconds before a broker is asked again that does not keep the group yet, or no longer.
COORDINATOR_PAUSE_S = 0.2
#: What Faust's client id begins with in a worker; the rest is the worker's name.
CLIENT_PREFIX = "evalx-worker:"

_COORDINATOR_MOVES = (GroupCoordinatorNotAvailableError, GroupLoadInProgressError, NotCoordinatorForGroupError)


class PartitionLag(msgspec.Struct, frozen=True):
    """One partition of the submissions.

    ``committed`` is the first offset that the group has not finished, None while it has committed none. ``oldest_s``
    is the age of the record there by its producer's clock, None when nothing waits. ``worker`` holds the partition.
    """

    partition: int
    lane: str
    committed: int | None
    end: int
    waiting: int
    oldest_s: float | None = None
    worker: str | None = None


class LaneLag(msgspec.Struct, frozen=True):
    """All partitions of a lane together."""

    lane: str
    waiting: int
    oldest_s: float | None
    partitions: tuple[PartitionLag, ...]


class LagReader:
    """Reads the lag as often as it is asked; ``async with`` connects. Raises as ``TopicReader`` does."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._reader = TopicReader(settings, settings.topic_submissions)
        self._admin = AIOKafkaAdminClient(
            **broker.connection(settings), request_timeout_ms=int(ANSWER_TIMEOUT_S * 1000)
        )

    async def __aenter__(self) -> Self:
        await self._reader.__aenter__()
        try:
            await self._reader.ask(self._admin.start())
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._admin.close()
        await self._reader.close()

    async def read(self) -> list[PartitionLag]:
        """Committed offsets and ends of all partitions; ages and workers are not looked for."""
        # In this order: what finishes in between makes the lag look smaller, never larger than it ever was.
        bounds = await self._reader.bounds()
        committed = await self.committed()
        found = []
        for number, (first, end) in bounds.items():
            offset = committed.get(number)
            # What the broker has dropped by its age waits no longer.
            waiting = max(0, end - max(first, first if offset is None else offset))
            found.append(PartitionLag(number, self._lane(number), offset, end, waiting))
        return found

    async def read_all(self) -> list[PartitionLag]:
        """The same with ages and workers."""
        found = await self.read()
        stamps = await self.oldest(found)
        workers = await self.workers()
        now_ms = time.time() * 1000
        return [
            msgspec.structs.replace(
                one,
                # Nothing is there to read: what lies between is a transaction's marker, not a record.
                waiting=one.waiting if one.partition in stamps else 0,
                oldest_s=_age_s(now_ms, stamps.get(one.partition)),
                worker=workers.get(one.partition),
            )
            for one in found
        ]

    async def committed(self) -> dict[int, int]:
        """The group's committed offset of each partition that has one."""
        offsets = await self._of_coordinator(lambda group: self._admin.list_consumer_group_offsets(group))
        topic = self._settings.topic_submissions
        return {
            place.partition: one.offset for place, one in offsets.items() if place.topic == topic and one.offset >= 0
        }

    async def oldest(self, lags: list[PartitionLag]) -> dict[int, int]:
        """The time (ms since the epoch) of the first record that waits, of each partition in which one does."""
        bounds = await self._reader.bounds()
        starts = {
            one.partition: max(one.committed or 0, bounds[one.partition][0])
            for one in lags
            if one.waiting and one.partition in bounds
        }
        return {number: int(record.timestamp) async for number, record in self._reader.heads(starts)}

    async def workers(self) -> dict[int, str]:
        """Which worker holds each partition; empty while they are being dealt."""
        shares: dict[int, str] = {}
        for client, assignment in await self._members():
            if not assignment:
                continue
            for topic, numbers in ConsumerProtocolMemberAssignment.decode(assignment).assignment:
                if topic == self._settings.topic_submissions:
                    shares |= dict.fromkeys(numbers, client.removeprefix(CLIENT_PREFIX))
        return shares

    async def members(self) -> set[str]:
        """The client ids of the group's members."""
        return {client for client, _ in await self._members()}

    async def _members(self) -> list[tuple[str, bytes]]:
        answer = await self._of_coordinator(lambda group: self._admin.describe_consumer_groups([group]))
        described = [group for response in answer for group in response.groups]
        # Of a version 1 answer: error, group, state, protocol type, protocol, members.
        return [(member[1], member[4]) for group in described for member in group[5]]

    async def _of_coordinator(self, question: Callable[[str], Awaitable[Any]]) -> Any:
        """A broker that has never kept a group begins to when it is first asked, and needs a moment for it."""
        deadline = time.monotonic() + ANSWER_TIMEOUT_S
        while True:
            try:
                return await self._reader.ask(question(self._settings.consumer_group))
            except ServiceUnavailableError as error:
                passing = isinstance(error.__cause__, _COORDINATOR_MOVES)
                if not passing or time.monotonic() > deadline:
                    raise
            await asyncio.sleep(COORDINATOR_PAUSE_S)

    def _lane(self, partition: int) -> str:
        """As workers take a partition that has no lane: the lowest one judges it."""
        return self._settings.lane_of.get(partition, self._settings.lanes[-1].name)


def by_lane(settings: Settings, partitions: list[PartitionLag]) -> list[LaneLag]:
    """The lanes, highest first."""
    lanes = []
    for lane in settings.lanes:
        own = tuple(one for one in partitions if one.lane == lane.name)
        ages = [one.oldest_s for one in own if one.oldest_s is not None]
        lanes.append(LaneLag(lane.name, sum(one.waiting for one in own), max(ages, default=None), own))
    return lanes


def _age_s(now_ms: float, stamp_ms: int | None) -> float | None:
    """Clocks that disagree do not make it negative."""
    return None if stamp_ms is None else round(max(0.0, now_ms - stamp_ms) / 1000, 3)
