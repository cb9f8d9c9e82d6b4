"""A record from the submissions topic on its way through the worker."""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any

from evalx.agents.sequencer import Ticket
from evalx.errors import RejectedError
from evalx.messages import Submission, content_hash
from evalx.stages import Timeline

if TYPE_CHECKING:
    from evalx.agents.tracing import RecordSpan


class Record:
    """One record, what became of its decoding, and its place in the partition's order."""

    __slots__ = (
        "_content",
        "batch",
        "event",
        "facts",
        "has_followed",
        "key",
        "lane",
        "leads",
        "partition",
        "rejection",
        "span",
        "submission",
        "ticket",
        "timeline",
        "value",
        "verdict",
    )

    def __init__(self, event: Any, lane: str) -> None:
        self.event = event
        self.lane = lane
        self.partition: Hashable = event.message.tp
        self.key: bytes | None = event.message.key
        self.value: bytes | None = event.message.value
        sent_at = event.message.timestamp or 0.0
        self.timeline = Timeline(sent_at if sent_at > 0 else None)
        self.ticket: Ticket | None = None
        self.submission: Submission | None = None
        self.rejection: RejectedError | None = None
        #: What was published, for the list of the slowest, and for the log.
        self.verdict = ""
        self.facts: Mapping[str, Any] = {}
        #: While traces are made, from its result on.
        self.span: RecordSpan | None = None
        #: What its batch is known under, once it was looked up; see ``followers`` for the other two.
        self.batch = ""
        self.leads = self.has_followed = False
        self._content = b""

    @property
    def topic(self) -> str:
        """Where the record was read."""
        return str(self.event.message.topic)

    @property
    def partition_number(self) -> int:
        """The number of the partition within the topic."""
        return int(self.event.message.partition)

    @property
    def offset(self) -> int:
        """The record's place in its partition."""
        return int(self.event.message.offset)

    @property
    def size(self) -> int:
        """Bytes of the value; the decoded submission is about as large again."""
        return len(self.value or b"")

    @property
    def content(self) -> bytes:
        """What the submission is known by, see ``content_hash``."""
        assert self.submission is not None, "only a submission has content"
        if not self._content:
            self._content = content_hash(self.submission)
        return self._content

    @property
    def queued_ms(self) -> float:
        """Milliseconds from the producer's timestamp to now; 0 without one, and when clocks disagree."""
        sent_at = self.event.message.timestamp or 0.0
        return max(0.0, (time.time() - sent_at) * 1000) if sent_at > 0 else 0.0

    def header(self, name: str) -> bytes | None:
        """The last header of this name."""
        headers = self.event.message.headers or ()
        pairs = headers.items() if isinstance(headers, dict) else headers
        found = None
        for key, value in pairs:
            if key == name:
                found = value
        return found
