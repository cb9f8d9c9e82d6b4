"""Defects that the suite must notice, each a small change of a running worker; and what starts such a worker.

``python mutants.py --short-sessions --mutant NAME`` is `evalx worker` with a change. The product knows nothing of it.

``--short-sessions`` is no defect: Kafka sessions of 5 instead of 15 s, and leases to match, so that the short size of
the suite need not wait 15 s for every dead worker.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import time
from collections.abc import Callable
from typing import Any


def plain_concurrency() -> None:
    """Acknowledges each record when it ends, as Faust does with ``concurrency=4``, and leaves the order to Faust."""
    from evalx.agents.sequencer import Sequencer, Ticket

    take, items = Sequencer.take, {}

    def remember(self: Any, partition: Any, offset: int, item: Any) -> Ticket | None:
        if (ticket := take(self, partition, offset, item)) is not None:
            items[ticket] = item
        return ticket

    def finish(self: Any, ticket: Ticket) -> list[Any]:
        item = items.pop(ticket)
        return [item] if self.is_current(ticket) else []

    Sequencer.take, Sequencer.finish = remember, finish  # type: ignore[method-assign]


def ack_before_publish() -> None:
    """Acknowledges when the verdicts are known, before the result is on its topic."""
    from evalx.agents.pipeline import Pipeline

    publish = Pipeline._publish

    async def acknowledge_first(self: Any, record: Any, answer: Any) -> bool:
        self._acknowledge(record)
        return await publish(self, record, answer)

    Pipeline._publish = acknowledge_first  # type: ignore[method-assign]


def claim_is_done() -> None:
    """Takes an id that was claimed before for one that was answered before (`SET NX`)."""
    from evalx.agents.pipeline import Answer, Pipeline

    answer = Pipeline._answer

    async def skip_claimed(self: Any, record: Any, submission: Any, claim: Any) -> Any:
        if claim.attempt > 1:
            return Answer(None)
        return await answer(self, record, submission, claim)

    Pipeline._answer = skip_claimed  # type: ignore[method-assign]


def swallowed_dead_letter() -> None:
    """Sends a dead letter once, and goes on as if it had been taken."""
    from aiokafka.errors import KafkaError

    from evalx.agents.publisher import Publisher

    send = Publisher._send

    async def once(self: Any, outlet: Any, wanted: Any, **message: Any) -> bool:
        if outlet is not self._dead_letters:
            return await send(self, outlet, wanted, **message)
        with contextlib.suppress(KafkaError):
            await outlet.send(**message)
        return True

    Publisher._send = once  # type: ignore[method-assign]


def no_lease_renewal() -> None:
    """Takes leases and never renews them."""
    from evalx.cache.holding import Keeper

    async def nothing(_self: Any) -> None:
        return None

    Keeper.renew = nothing  # type: ignore[method-assign]


def no_continuity() -> None:
    """Believes that the consumer hands on every record that it has fetched."""
    from evalx.agents.continuity import Continuity

    def take(self: Any, _partition: Any, _offset: int, record: Any) -> None:
        self._hand_on(record)

    Continuity.take = take  # type: ignore[method-assign]
    Continuity.look = lambda _self: None  # type: ignore[method-assign]


def pause_partitions() -> None:
    """Holds Kafka back in the way that looks right, and believes that nothing gets lost by it.

    With ``continuity`` what was dropped is read again, and no guarantee is broken.
    """
    from faust.types import TP

    from evalx.agents.app import ConsumerFlow

    def hold(self: Any, partition: Any) -> None:
        if partition in self.assigned:
            self._app.consumer.pause_partitions({TP(*partition)})

    def release(self: Any, partition: Any) -> None:
        if partition in self.assigned:
            self._app.consumer.resume_partitions({TP(*partition)})

    ConsumerFlow.hold = hold  # type: ignore[method-assign]
    ConsumerFlow.release = release  # type: ignore[method-assign]
    no_continuity()


MUTANTS: dict[str, Callable[[], None]] = {
    "plain-concurrency": plain_concurrency,
    "ack-before-publish": ack_before_publish,
    "claim-is-done": claim_is_done,
    "swallowed-dead-letter": swallowed_dead_letter,
    "no-lease-renewal": no_lease_renewal,
    "pause-partitions": pause_partitions,
    "no-continuity": no_continuity,
}

#: Seconds between two looks at the loop, and of CPU time between them that is worth a line: many times what is usual.
WATCH_S, BUSY_S = 0.01, 0.02
#: Seconds, see above. Leases are shorter than sessions, as in the product.
SHORT_SESSION_S, SHORT_HEARTBEAT_S, SHORT_LEASE_S = 5.0, 1.0, 4.0


def shorten_sessions() -> None:
    """Before anything is imported that copies one of these."""
    from evalx.agents import app

    app.SESSION_TIMEOUT_S, app.HEARTBEAT_INTERVAL_S = SHORT_SESSION_S, SHORT_HEARTBEAT_S
    from evalx.cache import holding

    holding.LEASE_S, holding.RENEW_INTERVAL_S, holding.MARGIN_S = SHORT_LEASE_S, SHORT_LEASE_S / 3, 1.0


def provoke_bug() -> None:
    """A defect in decoding that a certain record meets: no mutant, the poison that a defect of ours makes of it."""
    from evalx.agents import intake

    decode = intake.decode_submission

    def fail_on_cue(value: Any, rules: Any) -> Any:
        if value is not None and b"provoke-a-defect" in value:
            raise RuntimeError("a defect, on purpose")
        return decode(value, rules)

    intake.decode_submission = fail_on_cue


def watch_loops() -> None:
    """Log for how much CPU time in one go a loop, the worker's or the consumer's, did not come round.

    Not how long: what others do to the machine is not in it.
    """
    import structlog
    from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread

    from evalx.agents.pulse import Pulse

    async def watch() -> None:
        before = time.thread_time()
        while True:
            await asyncio.sleep(WATCH_S)
            now = time.thread_time()
            if now - before > BUSY_S:
                structlog.get_logger().warning("loop_was_busy", cpu_s=round(now - before, 3))
            before = now

    def watched(start: Any) -> Any:
        async def start_and_watch(self: Any) -> None:
            await start(self)
            self.watch = asyncio.create_task(watch())

        return start_and_watch

    Pulse.start = watched(Pulse.start)  # type: ignore[method-assign]
    AIOKafkaConsumerThread.on_start = watched(AIOKafkaConsumerThread.on_start)  # type: ignore[method-assign]


def drop_records(share: float = 0.1) -> None:
    """A consumer that drops some of what it has fetched: no mutant, what close rebalances make of Faust."""
    import random

    from evalx.agents.continuity import Continuity

    take = Continuity.take

    def sometimes(self: Any, partition: Any, offset: int, record: Any) -> None:
        if random.random() >= share:
            take(self, partition, offset, record)

    Continuity.take = sometimes  # type: ignore[method-assign]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--short-sessions", action="store_true")
    parser.add_argument("--provoke-bug", action="store_true")
    parser.add_argument("--watch-loops", action="store_true")
    parser.add_argument("--drop-records", action="store_true")
    parser.add_argument("--mutant", choices=sorted(MUTANTS))
    chosen = parser.parse_args()
    if chosen.short_sessions:
        shorten_sessions()
    if chosen.provoke_bug:
        provoke_bug()
    if chosen.watch_loops:
        watch_loops()
    if chosen.mutant is not None:
        MUTANTS[chosen.mutant]()
        print(f"this worker is the mutant {chosen.mutant}", file=sys.stderr)
    if chosen.drop_records:
        drop_records()
    from evalx.cli import main as evalx

    sys.argv = ["evalx", "worker"]
    evalx()


if __name__ == "__main__":
    main()
