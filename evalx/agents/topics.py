"""The three topics: created once, and checked by every worker before it subscribes.

Faust ignores a topic that does not exist when it starts, and never looks again; so a worker refuses to run without
them.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from evalx import broker
from evalx.errors import ConfigurationError
from evalx.settings import Settings

#: Milliseconds for one request of the admin client. A healthy broker answers in a few; creating topics takes up to a
#: second.
ADMIN_TIMEOUT_MS = 15_000
#: Copies of each partition, as far as there are brokers: two may fail and nothing that was confirmed is lost.
REPLICATION = 3
#: Bytes by which a dead letter may be larger than its original: five headers, the longest of up to 4 KiB, and what a
#: compression costs that saves nothing.
DEAD_LETTER_ROOM_BYTES = 64 << 10
#: Kafka's number for a setting that was made on the topic itself.
SET_ON_TOPIC = 1
#: Seconds for a broker to tell of topics that it has just created: usually none, a few when the machine is busy. A
#: worker that starts without its topics refuses that much later.
SETTLE_TIMEOUT_S = 10.0
SETTLE_PAUSE_S = 0.1


class TopicState(msgspec.Struct, frozen=True):
    """A topic's name, how many partitions it should have, and how many it has (0 = it does not exist)."""

    name: str
    wanted: int
    found: int


class TopicAdmin:
    """Creates and checks the topics; ``async with`` connects.

    Raises:
        ServiceUnavailableError: no broker answers.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client = AIOKafkaAdminClient(**broker.connection(settings), request_timeout_ms=ADMIN_TIMEOUT_MS)

    async def __aenter__(self) -> TopicAdmin:
        try:
            await self._client.start()
        except (KafkaError, OSError) as error:
            await self._client.close()
            raise await broker.unavailable(self._settings, error) from error
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._client.close()

    @property
    def names(self) -> tuple[str, str, str]:
        """Submissions, results, dead letters."""
        settings = self._settings
        return settings.topic_submissions, settings.topic_results, settings.topic_dead_letters

    async def create(self) -> list[TopicState]:
        """Create what is missing and return the state of all; what exists is left as it is."""
        missing = [state for state in await self.states() if state.found == 0]
        if missing:
            brokers = (await self._client.describe_cluster())["brokers"]
            copies = min(REPLICATION, len(brokers))
            response = await self._client.create_topics([self._new_topic(state, copies) for state in missing])
            for name, code, *rest in response.topic_errors:
                if code and code != TopicAlreadyExistsError.errno:
                    raise ConfigurationError(f"cannot create topic {name}: {for_code(code).__name__} {rest}")
        return await self._settled()

    async def _settled(self) -> list[TopicState]:
        """The state of all when none is missing any more, or when the time for that is over."""
        deadline = time.monotonic() + SETTLE_TIMEOUT_S
        while True:
            states = await self.states()
            if all(state.found for state in states) or time.monotonic() > deadline:
                return states
            await asyncio.sleep(SETTLE_PAUSE_S)

    async def states(self) -> list[TopicState]:
        """How many partitions each topic has."""
        found: dict[str, int] = {}
        described: list[dict[str, Any]] = await self._client.describe_topics(list(self.names))
        for topic in described:
            found[topic["topic"]] = 0 if topic["error_code"] else len(topic["partitions"])
        wanted = self._settings.partition_count
        return [TopicState(name, wanted, found.get(name, 0)) for name in self.names]

    async def check(self) -> None:
        """Make sure that the topics fit the lanes; those that were made a moment ago may still have to show.

        Raises:
            ConfigurationError: naming each difference.
        """
        wrong = [state for state in await self._settled() if state.found != state.wanted]
        if wrong:
            differences = "; ".join(f"{s.name} has {s.found} partitions, the lanes need {s.wanted}" for s in wrong)
            raise ConfigurationError(
                f"{differences}. Create missing topics with `evalx topics create`, "
                "or make EVALX_LANES name every partition that there is."
            )

    async def make_room_for_dead_letters(self) -> None:
        """Let the dead letter topic take a record as large as any other topic's, and its headers.

        Only for a broker that has refused one: it is a record at the very limit whose bytes do not compress.
        """
        resource = ConfigResource(ConfigResourceType.TOPIC, self._settings.topic_dead_letters)
        (answer,) = await self._client.describe_configs([resource])
        # Altering replaces everything that was set on the topic, so what an operator has set is set again.
        resource.configs = {name: value for name, value, *rest in answer.resources[0][4] if rest[1] == SET_ON_TOPIC}
        limit = self._settings.max_message_bytes + DEAD_LETTER_ROOM_BYTES
        resource.configs["max.message.bytes"] = str(max(limit, int(resource.configs.get("max.message.bytes", 0))))
        await self._client.alter_configs([resource])

    def _new_topic(self, state: TopicState, copies: int) -> NewTopic:
        limit = str(self._settings.max_message_bytes)
        return NewTopic(state.name, state.wanted, copies, topic_configs={"max.message.bytes": limit})
