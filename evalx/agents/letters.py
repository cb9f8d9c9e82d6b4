"""Dead letters as they are on their topic, which of them an operator asks for, and which have been replayed.

A *note* is a record on the same partition as the dead letter that it is about; it has the headers named below and no
value. ``replay`` writes one before it sends a dead letter again and one afterwards. Notes outlive the command that
wrote them and every consumer group, and go when the dead letter goes.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Literal, TypeAlias

import msgspec

from evalx.agents.reader import TopicReader
from evalx.messages import peek_id
from evalx.settings import Settings

HEADER_STATE = "evalx-replay"
HEADER_OFFSET = "evalx-replay-offset"
HEADER_RUN = "evalx-replay-run"
#: On a submission that was replayed: PARTITION:OFFSET of the dead letter.
HEADER_REPLAYED_FROM = "evalx-replayed-from"
#: What evalx adds to a dead letter; the other headers are the submission's own.
OUR_HEADERS = ("kafka_dlt-", "evalx-error-code", HEADER_REPLAYED_FROM)

State: TypeAlias = Literal["started", "done"]
Headers: TypeAlias = tuple[tuple[str, bytes], ...]


class Note(msgspec.Struct, frozen=True):
    """That a dead letter is about to be sent again, or has been; ``at_ms`` is since the epoch."""

    state: State
    offset: int
    run: str
    at_ms: int
    note_offset: int


class Origin(msgspec.Struct, frozen=True):
    """Where a dead letter was a submission."""

    topic: str
    partition: int
    offset: int


class _Peek(msgspec.Struct):
    language: str | None = None


_peek = msgspec.json.Decoder(_Peek)


class DeadLetter:
    """One dead letter: a record that could not be judged, byte for byte, and why."""

    def __init__(self, record: Any, note: Note | None = None) -> None:
        self.partition = int(record.partition)
        self.offset = int(record.offset)
        self.at_ms = int(record.timestamp)
        self.key: bytes | None = record.key
        self.value: bytes | None = record.value
        self.headers: Headers = tuple(record.headers)
        self.note = note

    @property
    def place(self) -> str:
        """PARTITION:OFFSET on the topic of dead letters: what ``show`` takes."""
        return f"{self.partition}:{self.offset}"

    @property
    def code(self) -> str:
        """Why, for programs."""
        return self._text("evalx-error-code") or "unknown"

    @property
    def reason(self) -> str:
        """Why, for people."""
        return self._text("kafka_dlt-exception-message") or ""

    @property
    def origin(self) -> Origin | None:
        """Where it was a submission, if its headers say so."""
        topic, partition, offset = (
            self._text(f"kafka_dlt-original-{name}") or "" for name in ("topic", "partition", "offset")
        )
        return Origin(topic, int(partition), int(offset)) if partition.isdecimal() and offset.isdecimal() else None

    @cached_property
    def submission_id(self) -> str | None:
        """The submission's id, if one can be read."""
        return peek_id(self.value)

    @cached_property
    def language(self) -> str | None:
        """The submission's language, if one can be read."""
        try:
            return _peek.decode(self.value or b"").language
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None

    @property
    def replay_of(self) -> str | None:
        """The dead letter that it already was before it was replayed."""
        return self._text(HEADER_REPLAYED_FROM)

    @property
    def own_headers(self) -> Headers:
        """The submission's own headers."""
        return tuple((name, value) for name, value in self.headers if not name.startswith(OUR_HEADERS))

    @property
    def size(self) -> int:
        """Bytes of the value."""
        return len(self.value or b"")

    def lane(self, settings: Settings) -> str | None:
        """The lane that it came from; None when its headers do not say, or no lane has that partition any more."""
        return settings.lane_of.get(self.origin.partition) if self.origin is not None else None

    def is_called(self, names: frozenset[str]) -> bool:
        """Whether its id or its key is one of these."""
        key = None if self.key is None else self.key.decode("utf-8", "replace")
        return self.submission_id in names or key in names

    def _text(self, name: str) -> str | None:
        # Ours come before the submission's own.
        found = next((value for key, value in self.headers if key == name), None)
        return None if found is None else found.decode("utf-8", "replace")


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """Which dead letters are meant; an empty set, and None, mean all. Times are ms since the epoch, both inclusive."""

    codes: frozenset[str] = frozenset()
    lanes: frozenset[str] = frozenset()
    languages: frozenset[str] = frozenset()
    ids: frozenset[str] = frozenset()
    since_ms: int | None = None
    until_ms: int | None = None

    @property
    def is_everything(self) -> bool:
        """Whether nothing is asked for in particular."""
        return self == Query()

    def matches(self, letter: DeadLetter, settings: Settings) -> bool:
        """Whether this one is meant."""
        return (
            (self.since_ms is None or letter.at_ms >= self.since_ms)
            and (self.until_ms is None or letter.at_ms <= self.until_ms)
            and _among(letter.code, self.codes)
            and _among(letter.lane(settings), self.lanes)
            and _among(letter.language, self.languages)
            and (not self.ids or letter.is_called(self.ids))
        )


def _among(value: str | None, wanted: frozenset[str]) -> bool:
    return not wanted or value in wanted


class Summary(msgspec.Struct, frozen=True):
    """A dead letter without its value, as ``list --json`` prints it; ``at`` in ISO 8601, ``size`` in bytes."""

    place: str
    at: str
    code: str
    reason: str
    lane: str | None
    id: str | None
    language: str | None
    size: int
    original: Origin | None
    replayed: bool
    replay_of: str | None


def summary(letter: DeadLetter, settings: Settings) -> Summary:
    """What can be said of a dead letter in a line."""
    return Summary(
        place=letter.place,
        at=datetime.fromtimestamp(letter.at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        code=letter.code,
        reason=letter.reason,
        lane=letter.lane(settings),
        id=letter.submission_id,
        language=letter.language,
        size=letter.size,
        original=letter.origin,
        replayed=letter.note is not None and letter.note.state == "done",
        replay_of=letter.replay_of,
    )


def document(letter: DeadLetter, settings: Settings) -> Mapping[str, Any]:
    """Everything of a dead letter; bytes that are not UTF-8 are base64, and ``encoding`` says so."""
    key, value = _text_or_base64(letter.key), _text_or_base64(letter.value)
    headers = [{"name": name, **_text_or_base64(value)} for name, value in letter.headers]
    return {**msgspec.to_builtins(summary(letter, settings)), "headers": headers, "key": key, "value": value}


def _text_or_base64(data: bytes | None) -> dict[str, str | None]:
    if data is None:
        return {"encoding": None, "data": None}
    try:
        return {"encoding": "utf-8", "data": data.decode()}
    except UnicodeDecodeError:
        return {"encoding": "base64", "data": base64.b64encode(data).decode()}


def note_of(record: Any) -> Note | None:
    """What a note says; None for a record that is a dead letter."""
    headers = dict(record.headers)
    state, offset = headers.get(HEADER_STATE), headers.get(HEADER_OFFSET, b"")
    if state not in (b"started", b"done") or not offset.isdigit():
        return None
    kind: State = "done" if state == b"done" else "started"
    run = headers.get(HEADER_RUN, b"").decode("utf-8", "replace")
    return Note(kind, int(offset), run, int(record.timestamp), int(record.offset))


async def read_notes(reader: TopicReader, partition: int, start: int, end: int) -> dict[int, Note]:
    """The last word on each dead letter that was replayed, by its offset: that it is done outweighs that it began."""
    notes: dict[int, Note] = {}
    async for record in reader.scan(partition, start, end):
        note = note_of(record)
        if note is not None and (note.offset not in notes or notes[note.offset].state != "done"):
            notes[note.offset] = note
    return notes


class Span(msgspec.Struct, frozen=True):
    """What is looked at in one partition: offsets from ``start`` to before ``end``."""

    partition: int
    start: int
    end: int


async def spans(reader: TopicReader, query: Query) -> list[Span]:
    """Where the dead letters that are asked for can be; what is written from now on is left out."""
    found = []
    for number, (first, end) in (await reader.bounds()).items():
        start: int | None = first
        if query.since_ms is not None and first < end:
            start = await reader.offset_since(number, query.since_ms)
        if start is not None and start < end:
            found.append(Span(number, max(first, start), end))
    return found


async def find(reader: TopicReader, span: Span, query: Query, settings: Settings) -> AsyncIterator[DeadLetter]:
    """The dead letters of one partition that are asked for, one in memory at a time; each carries its note.

    The partition is read twice: notes lie behind what they are about.
    """
    notes = await read_notes(reader, span.partition, span.start, span.end)
    async for record in reader.scan(span.partition, span.start, span.end):
        if note_of(record) is None:
            letter = DeadLetter(record, notes.get(int(record.offset)))
            if query.matches(letter, settings):
                yield letter
