"""The Faust app: one agent that hands records on to intake, and what must happen when partitions come and go.

Why it is set up as it is
=========================
- ``noack()``: Faust would acknowledge a record when the next one is taken. Here only the sequencer acknowledges.
- ``concurrency=1``: order within a partition is what the sequencer needs; parallel work happens in the pipeline's
  places.
- ``stream_wait_empty=False``: on a rebalance Faust waits without bound for every record in flight, those that are
  merely queued included. Instead queued records of revoked partitions are dropped at once, and those being judged get
  a moment.
- A rebalance stops everything in the group, so the moment must stay far below ``broker_rebalance_timeout``.

Worst case of a rebalance: ``REVOKE_WAIT_S`` + one commit (a few ms) < ``REBALANCE_TIMEOUT_S``. A record that takes
longer is judged again by the partition's next owner, and its late result here is a repeat with the same verdicts.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import faust
import structlog
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from evalx import broker
from evalx.agents.assignor import assignor_of
from evalx.agents.continuity import Continuity
from evalx.agents.lag import CLIENT_PREFIX
from evalx.agents.lanes import Lanes
from evalx.agents.records import Record
from evalx.agents.sequencer import Sequencer
from evalx.agents.source import ConsumerSource
from evalx.settings import Settings

log = structlog.get_logger(__name__)

#: Seconds without a heartbeat after which the broker gives a worker's partitions to others. Three missed heartbeats and
#: the usual pauses of a loaded machine must fit.
SESSION_TIMEOUT_S = 15.0
HEARTBEAT_INTERVAL_S = 3.0
#: Seconds that the members of the group have to give up their partitions in a rebalance.
REBALANCE_TIMEOUT_S = 30.0
#: Seconds that records being judged get when their partition is revoked. Most batches end within one, but what has
#: finished behind an unfinished head is repeated too, so a long wait saves many repeats. Nothing waits longer than its
#: longest batch, all others go on publishing meanwhile, and a third of the members' time is left for a busy machine.
REVOKE_WAIT_S = 10.0
#: Seconds between commits. Each commit is one small request; what is not committed is repeated after a crash.
COMMIT_INTERVAL_S = 0.25
#: Seconds for one request to a broker; must be longer than the session timeout.
REQUEST_TIMEOUT_S = 40.0
#: Milliseconds for which the broker may keep a fetch open that finds nothing. A broker is asked one fetch at a time.
#: One for all partitions is answered as soon as there is anything, so it may wait: an idle worker asks twice a second.
#: One that was sent while fetched records of a partition were still to be handed on leaves that partition out, which
#: waits for it to end. Faust's 1,500 ms for both made that 320 cached batches a second.
FETCH_WAIT_MS = 500
FETCH_WAIT_PARTIAL_MS = 20
#: Bytes fetched at most from one partition at a time; a larger record still arrives, alone. The 12 partitions of a lone
#: worker bring 6 MiB in one fetch, a hundred ordinary batches each. So many may still come to a lane that is full; with
#: 4 MiB it was 10,000 batches.
MAX_FETCH_BYTES = 512 << 10
#: Records that Faust buffers before it holds a partition back by itself; intake empties the buffer at once.
STREAM_BUFFER = 4096


class ConsumerFlow:
    """Back pressure on the consumer, as ``lanes`` explains it. Only partitions that are assigned may be released.

    A message names its partition with aiokafka's type, which is equal to Faust's own; but Faust's fetcher dies when it
    finds one of that type among its active partitions. Hence the conversion.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        self.assigned: set[TP] = set()

    def hold(self, partition: Any) -> None:
        """Fetch no more of the partition; what is fetched already still arrives."""
        if partition in self.assigned:
            self._app.consumer.on_buffer_full(TP(*partition))

    def release(self, partition: Any) -> None:
        """Fetch it again."""
        if partition in self.assigned:
            self._app.consumer.on_buffer_drop(TP(*partition))


class _ConsumerThread(driver.AIOKafkaConsumerThread):
    async def on_start(self) -> None:
        """Faust has no setting for how long a fetch may wait, and aiokafka one for all of them."""
        await super().on_start()
        _wait_by_what_is_asked_for(cast("Any", self._consumer)._fetcher)

    def look_again(self) -> None:
        """A poll that waits for records looks once more which partitions it may hand on, and what is there of them."""
        fetcher = getattr(self._consumer, "_fetcher", None)
        if fetcher is not None:
            # While the worker stops, the thread's loop may be closed already; then nobody polls any more.
            with contextlib.suppress(RuntimeError):
                self.thread_loop.call_soon_threadsafe(_wake, fetcher)


def _wait_by_what_is_asked_for(fetcher: Any) -> None:
    """Let each fetch of an aiokafka fetcher wait as ``FETCH_WAIT_MS`` and ``FETCH_WAIT_PARTIAL_MS`` have it."""
    plan = fetcher._get_actions_per_node

    def plan_with_wait(assignment: Any) -> Any:
        fetcher._fetch_max_wait_ms = FETCH_WAIT_PARTIAL_MS if fetcher._records else FETCH_WAIT_MS
        return plan(assignment)

    fetcher._get_actions_per_node = plan_with_wait


def _wake(fetcher: Any) -> None:
    for waiter in list(fetcher._fetch_waiters):
        fetcher._notify(waiter)


class _Consumer(driver.Consumer):
    """Notices at once that a partition is released, and not only after its poll or its pause of a second."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._released = asyncio.Event()

    def on_buffer_drop(self, tp: TP) -> None:
        """Fetch a partition again."""
        was_held = tp in self._buffered_partitions
        super().on_buffer_drop(tp)
        if was_held:
            self._released.set()
            cast("_ConsumerThread", self._thread).look_again()

    async def _wait_next_records(self, timeout: float) -> Any:
        self._released.clear()
        if self.flow_active and not self._get_active_partitions():
            await self.wait(self._released.wait(), timeout=timeout)
            return {}, self._get_active_partitions()
        return await super()._wait_next_records(timeout)

    def _new_consumer_thread(self) -> Any:
        return _ConsumerThread(self, loop=self.loop, beacon=self.beacon)


class _Transport(driver.Transport):
    Consumer = _Consumer


def create_app(settings: Settings, name: str, folder: Path) -> Any:
    """The Faust app of the worker of this name, without agents; ``folder`` is one that Faust may have.

    Everything that Faust would create or serve by itself is switched off.
    """
    brokers = ";".join(f"kafka://{address.strip()}" for address in settings.kafka_bootstrap.split(","))
    app = faust.App(
        settings.consumer_group,
        broker=brokers,
        broker_credentials=_credentials(settings),
        # By it the group's members can be told apart from outside, as `evalx lag` and the health watch do.
        broker_client_id=CLIENT_PREFIX + name,
        datadir=str(folder),
        store="memory://",
        PartitionAssignor=assignor_of(settings.lanes),
        key_serializer="raw",
        value_serializer="raw",
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=MAX_FETCH_BYTES,
        stream_buffer_maxsize=STREAM_BUFFER,
        stream_wait_empty=False,
        broker_commit_interval=COMMIT_INTERVAL_S,
        broker_session_timeout=SESSION_TIMEOUT_S,
        broker_heartbeat_interval=HEARTBEAT_INTERVAL_S,
        broker_rebalance_timeout=REBALANCE_TIMEOUT_S,
        broker_request_timeout=REQUEST_TIMEOUT_S,
        producer_request_timeout=REQUEST_TIMEOUT_S,
    )
    app.transport = _Transport(app.conf.broker_consumer, app)
    return app


def _credentials(settings: Settings) -> Any:
    """What ``broker.connection`` gives to other clients, in Faust's words; None for none."""
    arguments = broker.connection(settings)
    context = arguments.get("ssl_context")
    if settings.kafka_uses_sasl:
        return faust.SASLCredentials(
            username=arguments["sasl_plain_username"],
            password=arguments["sasl_plain_password"],
            mechanism=arguments["sasl_mechanism"],
            ssl_context=context,
        )
    return None if context is None else faust.SSLCredentials(context)


class Partitions:
    """What this worker holds, and what must happen when that changes."""

    def __init__(
        self,
        app: Any,
        flow: ConsumerFlow,
        source: ConsumerSource,
        continuity: Continuity,
        lanes: Lanes[Record],
        sequencer: Sequencer[Record],
        wait_idle: Any,
    ) -> None:
        self._app = app
        self._flow = flow
        self._source = source
        self._continuity = continuity
        self._lanes = lanes
        self._sequencer = sequencer
        self._wait_idle = wait_idle

    async def on_revoked(self, _app: Any, revoked: Iterable[TP], **_kwargs: Any) -> None:
        """Drop what is queued, give what is being judged a moment, commit what has finished, forget the rest."""
        partitions = set(revoked)
        self._flow.assigned -= partitions
        self._continuity.end(partitions)
        self._sequencer.close(partitions)
        dropped = self._lanes.drop(partitions)
        finished = await self._wait_idle(REVOKE_WAIT_S)
        await self.commit(partitions)
        self._sequencer.revoke(partitions)
        log.info("partitions_revoked", count=len(partitions), queued_dropped=len(dropped), in_flight_finished=finished)

    async def on_assigned(self, _app: Any, assigned: Iterable[TP], **_kwargs: Any) -> None:
        """Start afresh: the consumer reads again from what is committed, with nothing held back."""
        self._flow.assigned = set(assigned)
        self._continuity.prepare(self._flow.assigned)
        self._lanes.drop(self._flow.assigned)
        self._sequencer.revoke(self._flow.assigned)
        for partition in self._flow.assigned:
            self._flow.release(partition)
        self._continuity.begin(await self._source.starts(self._flow.assigned))
        log.info("partitions_assigned", partitions=sorted(tp.partition for tp in self._flow.assigned))

    async def commit(self, partitions: Iterable[TP]) -> None:
        """Commit directly: Faust has already forgotten what was acknowledged in partitions that it is about to lose."""
        offsets = self._sequencer.committable(partitions)
        if offsets:
            await self._app.consumer._commit(offsets)


def subscribe(app: Any, settings: Settings, continuity: Continuity, partitions: Partitions) -> None:
    """Add the one agent, and listen for partitions that come and go."""
    topic = app.topic(settings.topic_submissions, key_type=bytes, value_type=bytes, internal=False)

    async def take_submissions(stream: Any) -> None:
        async for event in stream.noack().events():
            continuity.take(event.message.tp, event.message.offset, event)

    app.agent(topic, name="evalx.intake", concurrency=1)(take_submissions)
    # Signals keep only weak references unless told otherwise.
    app.on_partitions_revoked.connect(partitions.on_revoked, weak=False)
    app.on_partitions_assigned.connect(partitions.on_assigned, weak=False)
