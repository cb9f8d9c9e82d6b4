"""What ``continuity`` needs to know of Kafka: where the consumer is, and what the topic really holds."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any

from aiokafka import TopicPartition
from faust.types import TP

from evalx.agents.reader import TopicReader
from evalx.settings import Settings

#: Offsets learnt in one look: one fetch of small records.
OFFSETS_A_LOOK = 500


class ConsumerSource:
    """The app's own consumer, and a reader beside it that is connected only while it is needed."""

    def __init__(self, app: Any, settings: Settings) -> None:
        self._app = app
        self._settings = settings

    async def starts(self, partitions: Iterable[TP]) -> dict[TP, int]:
        """Where each partition is to be read from: what is committed, or its first record."""
        thread = self._app.consumer._thread
        consumer = thread._ensure_consumer()

        async def ask() -> dict[TP, int]:
            places = {TP(*partition): TopicPartition(*partition) for partition in partitions}
            committed = await consumer._coordinator.fetch_committed_offsets(places.values()) if places else {}
            known = {place: committed[place].offset for place in places.values() if place in committed}
            known = {place: offset for place, offset in known.items() if offset >= 0}
            fresh = [place for place in places.values() if place not in known]
            first = await consumer.beginning_offsets(fresh) if fresh else {}
            return {partition: (known | first)[place] for partition, place in places.items()}

        starts: dict[TP, int] = await thread.call_thread(ask)
        return starts

    def position(self, partition: Hashable) -> int | None:
        """The offset after the last one that was fetched; None while that is being found out.

        Read across threads without asking: it is one number, and whoever looks compares two looks.
        """
        subscription = self._app.consumer._thread._ensure_consumer()._subscription.subscription
        if subscription is None or subscription.assignment is None:
            return None
        state = subscription.assignment._tp_state.get(partition)
        return int(state.position) if state is not None and state.has_valid_position else None

    async def seek(self, partition: Any, offset: int) -> None:
        """Fetch again from this offset on."""
        await self._app.consumer.seek_wait({TopicPartition(*partition): offset})

    async def offsets_from(self, partition: Any, offset: int) -> list[int]:
        """The offsets of the first few records from this one on, as the broker has them; empty at the end.

        Raises:
            ServiceUnavailableError: no broker answers.
        """
        async with TopicReader(self._settings, partition.topic) as reader:
            first, end = (await reader.bounds())[partition.partition]
            found: list[int] = []
            records = reader.scan(partition.partition, max(first, offset), end)
            async for record in records:
                found.append(record.offset)
                if len(found) == OFFSETS_A_LOOK:
                    break
            await records.aclose()
            return found
