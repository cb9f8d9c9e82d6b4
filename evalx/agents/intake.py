"""Step 1: a record becomes a submission or a rejection, and goes into its lane.

Nothing may escape from here: Faust acknowledges a record whose handler raised, and that record would be lost without a
dead letter. A record that cannot be judged therefore takes the same way as every other, with its rejection attached;
the dead letter is written, confirmed and acknowledged in order by ``pipeline``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import structlog

from evalx.agents.records import Record
from evalx.agents.sequencer import Sequencer
from evalx.errors import RejectedError
from evalx.messages import Rules, decode_submission

log = structlog.get_logger(__name__)


class Queue(Protocol):
    """Where records go from here."""

    def put(self, record: Record, /) -> None:
        """Take a record; never blocks."""


class Intake:
    """Takes records in partition order. One actor, since order is what the sequencer needs."""

    def __init__(
        self,
        rules: Rules,
        queue: Queue,
        sequencer: Sequencer[Record],
        lane_of: Callable[[Any], str],
    ) -> None:
        self._rules = rules
        self._sequencer = sequencer
        self._lane_of = lane_of
        self._queue = queue

    def take(self, event: Any) -> None:
        """Decode one Faust event and queue it; never raises for what the record contains."""
        record = Record(event, self._lane_of(event.message.tp))
        record.ticket = self._sequencer.take(record.partition, record.offset, record)
        if record.ticket is None:
            log.info("record_seen_twice", partition=record.partition_number, offset=record.offset)
            return
        try:
            record.submission = decode_submission(record.value, self._rules)
        except RejectedError as rejection:
            record.rejection = rejection
        except Exception as error:
            # A defect of ours; the sender is told, and the bytes are kept as a dead letter.
            log.exception("decoding_failed", partition=record.partition_number, offset=record.offset)
            record.rejection = RejectedError("invalid_value", f"the submission could not be read: {error!r}")
        self._queue.put(record)
