"""What is read off a dead letter, and which ones a query means. No broker."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from types import SimpleNamespace
from typing import Any

import pytest

from evalx.agents.lag import PartitionLag, by_lane
from evalx.agents.letters import DeadLetter, Note, Query, document, note_of, read_notes, summary
from evalx.cli.letters import parse_place, parse_time
from evalx.errors import UsageError
from evalx.settings import Settings

SETTINGS = Settings()


def record(value: bytes | None = b'{"id": "s-1", "language": "c"}', **fields: Any) -> Any:
    headers = [
        ("kafka_dlt-original-topic", b"evalx.submissions"),
        ("kafka_dlt-original-partition", b"5"),
        ("kafka_dlt-original-offset", b"12"),
        ("kafka_dlt-exception-message", b"why"),
        ("evalx-error-code", b"sandbox_fault"),
        ("mine", b"\xff"),
    ]
    given = {"partition": 5, "offset": 3, "timestamp": 1000, "key": b"k", "headers": headers, **fields}
    return SimpleNamespace(value=value, **given)


def note(state: bytes, offset: bytes = b"3", at: int = 9) -> Any:
    headers = [("evalx-replay", state), ("evalx-replay-offset", offset), ("evalx-replay-run", b"r")]
    return record(None, offset=at, headers=headers)


def test_what_is_read_off():
    said = summary(DeadLetter(record()), SETTINGS)
    assert (said.place, said.code, said.reason, said.lane) == ("5:3", "sandbox_fault", "why", "normal")
    assert (said.id, said.language, said.size, said.replayed, said.replay_of) == ("s-1", "c", 30, False, None)
    assert said.at == "1970-01-01T00:00:01.000Z"
    assert DeadLetter(record()).own_headers == (("mine", b"\xff"),)


@pytest.mark.parametrize("value", [None, b"", b"\xff", b"[" * 100_000, b'{"id": 5, "language": []}', b'"text"'])
def test_what_cannot_be_read_is_not_known(value: bytes | None):
    said = summary(DeadLetter(record(value, headers=[])), SETTINGS)
    assert (said.id, said.language, said.lane, said.code, said.original) == (None, None, None, "unknown", None)


def test_a_senders_header_does_not_stand_for_ours():
    forged = [*record().headers, ("evalx-error-code", b"conflict"), ("kafka_dlt-original-partition", b"0")]
    letter = DeadLetter(record(headers=forged))
    assert (letter.code, letter.lane(SETTINGS)) == ("sandbox_fault", "normal")
    assert letter.own_headers == (("mine", b"\xff"),)


@pytest.mark.parametrize("partition", [b"", b"-1", b"x", b"\xd9\xa3\xd9", "\u00b2".encode()])
def test_a_partition_that_is_no_number_is_not_known(partition: bytes):
    headers = [("kafka_dlt-original-partition", partition), ("kafka_dlt-original-offset", b"1")]
    assert DeadLetter(record(headers=headers)).origin is None


@pytest.mark.parametrize(
    ("query", "matches"),
    [
        (Query(), True),
        (Query(codes=frozenset({"conflict", "sandbox_fault"})), True),
        (Query(codes=frozenset({"conflict"})), False),
        (Query(lanes=frozenset({"normal"})), True),
        (Query(lanes=frozenset({"high"})), False),
        (Query(languages=frozenset({"c"})), True),
        (Query(languages=frozenset({"cpp"})), False),
        (Query(ids=frozenset({"s-1"})), True),
        (Query(ids=frozenset({"k"})), True),
        (Query(ids=frozenset({"s-2"})), False),
        (Query(since_ms=1000, until_ms=1000), True),
        (Query(since_ms=1001), False),
        (Query(until_ms=999), False),
        (Query(codes=frozenset({"sandbox_fault"}), lanes=frozenset({"low"})), False),
    ],
)
def test_queries(query: Query, matches: bool):
    assert query.matches(DeadLetter(record()), SETTINGS) is matches
    assert query.is_everything is (query == Query())


def test_a_document_keeps_every_byte():
    shown = document(DeadLetter(record(b"\xff")), SETTINGS)
    assert shown["value"] == {"encoding": "base64", "data": "/w=="}
    assert shown["headers"][-1] == {"name": "mine", "encoding": "base64", "data": "/w=="}
    assert document(DeadLetter(record(None)), SETTINGS)["value"] == {"encoding": None, "data": None}


class Records:
    """Stands in for a partition."""

    def __init__(self, records: Iterable[Any]) -> None:
        self._records = list(records)

    async def scan(self, partition: int, start: int, end: int) -> AsyncIterator[Any]:
        for one in self._records:
            yield one


def test_a_note_is_no_dead_letter():
    assert note_of(record()) is None
    assert note_of(note(b"done")) == Note("done", 3, "r", 1000, 9)
    assert note_of(note(b"other")) is None
    assert note_of(note(b"done", b"x")) is None


async def test_that_it_is_done_outweighs_that_it_began():
    stream = [record(), note(b"started", at=4), note(b"done", at=5), note(b"started", at=6), note(b"started", b"7", 8)]
    notes = await read_notes(Records(stream), 5, 0, 10)  # type: ignore[arg-type]
    assert {offset: one.state for offset, one in notes.items()} == {3: "done", 7: "started"}


def test_times_and_places():
    assert parse_time("2h", 10_000) == 2_800_000
    assert parse_time("1970-01-01T00:01:00+00:00", 0) == 60_000
    assert parse_time("9999d", 0) == 0
    assert parse_place("4:17") == (4, 17)
    for text in ("2 h", "h", "-1h", "", "12:61"):
        with pytest.raises(UsageError):
            parse_time(text, 0)
    for text in ("4", "4:", ":4", "4:17:1", "-4:17", "\u0664:1"):
        with pytest.raises(UsageError):
            parse_place(text)


def test_lanes_add_up_their_partitions():
    partitions = [PartitionLag(0, "high", 1, 5, 4, 2.0), PartitionLag(1, "high", 0, 1, 1, 7.5)]
    high, normal, low = by_lane(SETTINGS, partitions)
    assert (high.waiting, high.oldest_s, len(high.partitions)) == (5, 7.5, 2)
    assert (normal.waiting, normal.oldest_s, low.partitions) == (0, None, ())
