"""The topics as a client, or a gateway, needs them."""

from __future__ import annotations

from aiokafka import AIOKafkaProducer, TopicPartition

from evalx.errors import ConfigurationError, TopicMissingError
from evalx.settings import Settings


async def check_topics(settings: Settings, producer: AIOKafkaProducer) -> list[TopicPartition]:
    """Make sure that every lane's partitions exist, and return the partitions of the results.

    Raises:
        TopicMissingError: there is no such topic.
        ConfigurationError: naming the partition that is not there.
    """
    cluster = await producer.client.fetch_all_metadata()
    found = {
        topic: cluster.partitions_for_topic(topic) or set()
        for topic in (settings.topic_submissions, settings.topic_results)
    }
    for topic, partitions in found.items():
        if not partitions:
            raise TopicMissingError(topic)
    if missing := settings.lane_of.keys() - found[settings.topic_submissions]:
        raise ConfigurationError(
            f"{settings.topic_submissions} has no partition {min(missing)}, which EVALX_LANES names"
        )
    return [TopicPartition(settings.topic_results, number) for number in sorted(found[settings.topic_results])]


async def dead_letter_places(settings: Settings, producer: AIOKafkaProducer) -> list[TopicPartition]:
    """The partitions of the dead letters; none when this client may not see them."""
    cluster = await producer.client.fetch_all_metadata()
    numbers = cluster.partitions_for_topic(settings.topic_dead_letters) or set()
    return [TopicPartition(settings.topic_dead_letters, number) for number in sorted(numbers)]
