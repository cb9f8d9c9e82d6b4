"""What cannot be judged: one dead letter with the original bytes each, while its neighbours are judged."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from typing import Any, NamedTuple

import pytest
from integration_stack import Topics, program, submission

KIB = 1 << 10
MIB = 1 << 20
#: Partitions that all malformed records share with valid ones: two of a lane, one of another.
PARTITIONS = (4, 5, 0)
HEADERS = {
    "kafka_dlt-original-topic",
    "kafka_dlt-original-partition",
    "kafka_dlt-original-offset",
    "kafka_dlt-exception-message",
    "evalx-error-code",
}


class Case(NamedTuple):
    """A malformed value, its key, and what is said about it. ``field`` only where a result says it."""

    value: bytes | None
    code: str
    field: str | None = None
    answered: bool = True
    key: bytes | None = b"the key"


def of(code: str, field: str | None, /, **changes: Any) -> Case:
    """A submission with some fields changed, or removed when the change is ``...``; its id is put in later."""
    document = {"id": "ID", **submission(), **changes}
    return Case(json.dumps({k: v for k, v in document.items() if v is not ...}).encode(), code, field)


def unreadable(value: bytes | None, code: str, field: str | None = None, key: bytes | None = b"the key") -> Case:
    """A record of which no id can be read."""
    return Case(value, code, field, answered=False, key=key)


def limit(name: str, value: Any, code: str = "limit_exceeded") -> Case:
    return of(code, f"limits.{name}", limits={name: value})


def spliced(text: str, code: str, field: str | None, *, answered: bool = True) -> Case:
    """A submission that ends in JSON which no encoder would write."""
    value = of("", None).value
    assert value is not None
    return Case(value[:-1] + b", " + text.encode() + b"}", code, field, answered)


GOOD = of("", None).value or b""

CASES: dict[str, Case] = {
    # not a document
    "tombstone": unreadable(None, "empty_message"),
    "empty value": unreadable(b"", "empty_message"),
    "no key and no value": unreadable(None, "empty_message", key=None),
    "not JSON": unreadable(b"hello", "not_json"),
    "not JSON, no key": unreadable(b"hello", "not_json", key=None),
    "empty key": unreadable(b"hello", "not_json", key=b""),
    "a key that is no text": unreadable(b"{", "not_json", key=b"\xff\x00\xfe"),
    "not UTF-8": unreadable(b'{"id": "\xff\xfe"}', "not_utf8"),
    "not UTF-8 in the code": Case(GOOD.replace(b"main", b"\xff\xfe"), "not_utf8"),
    "UTF-16": unreadable(GOOD.decode().encode("utf-16"), "not_utf8"),
    "cut off": unreadable(GOOD[:-5], "not_json"),
    "two documents": unreadable(GOOD + GOOD, "not_json"),
    "byte order mark": unreadable(b"\xef\xbb\xbf" + GOOD, "not_json"),
    "NaN": spliced('"metadata": NaN', "not_json", None, answered=False),
    "Infinity": spliced('"limits": {"cpu_time_ms": Infinity}', "not_json", None, answered=False),
    "a bomb of brackets": unreadable(b"[" * 1_000_000, "not_json"),
    "an array": unreadable(b"[]", "wrong_type"),
    "null": unreadable(b"null", "wrong_type"),
    "a number": unreadable(b"17", "wrong_type"),
    # fields
    "no field": unreadable(b"{}", "missing_field", "id"),
    "no id": of("missing_field", "id", id=...)._replace(answered=False),
    "no language": of("missing_field", "language", language=...),
    "no code": of("missing_field", "code", code=...),
    "no tests": of("missing_field", "tests", tests=...),
    "unknown field": of("unknown_field", "langauge", langauge="c"),
    "unknown field of a test": of("unknown_field", "tests[0].input", tests=[{"input": "1"}]),
    "unknown limit": of("unknown_field", "limits.cpu_ms", limits={"cpu_ms": 1}),
    "code null": of("wrong_type", "code", code=None),
    "language a number": of("wrong_type", "language", language=7),
    "version a number": of("wrong_type", "version", version=17),
    "tests an object": of("wrong_type", "tests", tests={"1": {}}),
    "stdin a number": of("wrong_type", "tests[0].stdin", tests=[{"stdin": 1}]),
    "a limit with a fraction": of("wrong_type", "limits.cpu_time_ms", limits={"cpu_time_ms": 1.5}),
    "stop_on_failure a text": of("wrong_type", "stop_on_failure", stop_on_failure="yes"),
    "metadata of numbers": of("wrong_type", "metadata.n", metadata={"n": 1}),
    # values
    "unknown language": of("unknown_language", "language", language="cobol"),
    "unknown version": of("unknown_version", "version", version="98"),
    "a space in the id": of("invalid_value", "id", id="a b")._replace(answered=False),
    "an id too long": of("invalid_value", "id", id="x" * 129)._replace(answered=False),
    "an empty id": of("invalid_value", "id", id="")._replace(answered=False),
    "no test": of("invalid_value", "tests", tests=[]),
    "1001 tests": of("too_many_tests", "tests", tests=[{}] * 1001),
    "a test's id twice": of("duplicate_test_id", "tests[1].id", tests=[{"id": "a"}, {"id": "a"}]),
    "a test's id that is another's position": of("duplicate_test_id", "tests[1].id", tests=[{"id": "2"}, {}]),
    "too much code": of("code_too_large", "code", code="é" * (128 * KIB) + "x"),
    "too much metadata": of("metadata_too_large", "metadata", metadata={"k": "x" * (4 * KIB)}),
    "unknown checker": of("invalid_value", "checker.kind", checker={"kind": "magic"}),
    "a negative tolerance": of("invalid_value", "checker.abs_tol", checker={"kind": "floats", "abs_tol": -1}),
    "unknown return_output": of("invalid_value", "return_output", return_output="sometimes"),
    "unknown cache mode": of("invalid_value", "cache", cache="refesh"),
    "too much CPU time": limit("cpu_time_ms", 30_001),
    "too much wall time": limit("wall_time_ms", 120_001),
    "too much memory": limit("memory_bytes", 1024 * MIB + 1),
    "too much output": limit("output_bytes", 8 * MIB + 1),
    "too many processes": limit("processes", 65),
    "no CPU time": limit("cpu_time_ms", 0, "invalid_value"),
    "negative processes": limit("processes", -1, "invalid_value"),
    "a number of 5000 digits": spliced(
        '"limits": {"processes": ' + "9" * 5000 + "}", "invalid_value", "limits.processes"
    ),
    "a name with half a surrogate pair": spliced(
        '"\\ud800": {"n": ' + "9" * 900 + "}", "not_json", None, answered=False
    ),
    "metadata nested deeply": spliced('"metadata": ' + "[" * 100_000, "not_json", None, answered=False),
}


class Sent(NamedTuple):
    """A malformed record and the valid ones before and behind it, in one partition."""

    case: Case
    id: str
    partition: int
    offset: int
    neighbours: tuple[str, str]


@pytest.fixture(scope="module")
async def sent(topics: Topics) -> dict[str, Sent]:
    """Every case, in few partitions, each between two valid submissions."""
    records: dict[str, Sent] = {}
    for position, (name, case) in enumerate(CASES.items()):
        partition = PARTITIONS[position % len(PARTITIONS)]
        submission_id = topics.new_id()
        if case.value is not None:
            case = case._replace(value=case.value.replace(b'"ID"', b'"' + submission_id.encode() + b'"'))
        (before,) = await topics.submit(submission(), partition=partition)
        if case.key is None and case.value is None:
            offset = await _send_nothing(topics, partition)
        else:
            offset = await topics.send(case.value, key=case.key, partition=partition)
        (behind,) = await topics.submit(submission(), partition=partition)
        records[name] = Sent(case, submission_id, partition, offset, (before, behind))
    return records


async def _send_nothing(topics: Topics, partition: int) -> int:
    """A record without key and value, which aiokafka does not make."""
    command = ["kcat", "-P", "-b", topics.services.kafka, "-t", topics.submissions, "-p", str(partition), "-Z", "-K:"]
    kcat = await asyncio.create_subprocess_exec(*command, stdin=subprocess.PIPE)
    await kcat.communicate(b":\n")
    assert kcat.returncode == 0
    return await topics.end(partition) - 1


@pytest.mark.parametrize("name", CASES)
async def test_one_dead_letter_with_everything_untouched(topics: Topics, sent: dict[str, Sent], name: str):
    record = sent[name]
    letter = await topics.dead_letter(record.partition, record.offset)
    assert (letter.key, letter.value) == (record.case.key, record.case.value)
    assert set(letter.headers) == HEADERS
    text = {header: value.decode() for header, value in letter.headers.items()}
    assert text.pop("kafka_dlt-exception-message")
    assert text == {
        "kafka_dlt-original-topic": topics.submissions,
        "kafka_dlt-original-partition": str(record.partition),
        "kafka_dlt-original-offset": str(record.offset),
        "evalx-error-code": record.case.code,
    }


@pytest.mark.parametrize("name", CASES)
async def test_the_neighbours_are_judged(topics: Topics, sent: dict[str, Sent], name: str):
    results = await topics.wait_for(sent[name].neighbours)
    assert {result["verdict"] for result in results.values()} == {"AC"}


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.answered])
async def test_a_rejected_result_where_an_id_can_be_read(topics: Topics, sent: dict[str, Sent], name: str):
    record = sent[name]
    published = await topics.published(record.id)
    result = published.document
    assert published.key == record.id.encode()
    assert (result["status"], result["verdict"], result["tests"], result["source"]) == ("rejected", None, [], None)
    assert (result["error"]["code"], result["error"]["field"]) == (record.case.code, record.case.field)
    assert result["error"]["message"]
    assert result["lane"] == ("high" if record.partition == 0 else "normal")


async def test_one_id_with_two_contents(topics: Topics):
    first = submission(id=topics.new_id())
    await topics.submit(first, partition=6)
    assert (await topics.result(first["id"]))["verdict"] == "AC"
    value = json.dumps({**first, "code": program("c", "crash")}).encode()
    offset = await topics.send(value, key=b"k", partition=6)
    letter = await topics.dead_letter(6, offset)
    assert (letter.value, letter.headers["evalx-error-code"]) == (value, b"conflict")
    result = await topics.result(first["id"], count=2)
    assert (result["status"], result["error"]["code"], result["error"]["field"]) == ("rejected", "conflict", "id")
    # What it was before is still what the id stands for.
    await topics.submit(first, partition=6)
    assert (await topics.result(first["id"], count=3))["verdict"] == "AC"


async def test_the_same_content_in_other_words_is_no_conflict(topics: Topics):
    first = submission(id=topics.new_id(), metadata={"a": "1", "b": "2"})
    second = {"cache": "use", "metadata": {"b": "2", "a": "1"}, "limits": {"cpu_time_ms": 2000}, "version": "17"}
    await topics.submit(first)
    await topics.result(first["id"])
    await topics.submit({**second, **first, "metadata": second["metadata"]})
    assert (await topics.result(first["id"], count=2))["verdict"] == "AC"


LARGEST = 16 * MIB - 100


@pytest.mark.parametrize(
    ("value", "compressed"),
    [
        pytest.param(b'"' + b"x" * (LARGEST - 2) + b'"', False, id="text"),
        pytest.param(os.urandom(LARGEST), False, id="noise"),
        pytest.param(b'"' + b"x" * (40 * MIB) + b'"', True, id="larger than the limit until it is compressed"),
    ],
)
async def test_the_largest_record_becomes_a_dead_letter(topics: Topics, value: bytes, compressed: bool):
    """As much as the broker takes: a dead letter has headers on top, and noise cannot be compressed."""
    offset = await topics.send(value, partition=7, compressed=compressed)
    (behind,) = await topics.submit(submission(), partition=7)
    letter = await topics.dead_letter(7, offset)
    assert letter.value == value
    assert (await topics.result(behind))["verdict"] == "AC"


async def test_there_was_exactly_one_of_each(topics: Topics, sent: dict[str, Sent]):
    """Last of all: when these are answered, whatever came before them in their partitions is dealt with."""
    markers = [{**submission(id=topics.new_id()), "language": "cobol"} for _ in range(12)]
    for partition, marker in enumerate(markers):
        await topics.submit(marker, partition=partition)
    await topics.wait_for(marker["id"] for marker in markers)
    for name, record in sent.items():
        assert len(topics.dead_letters_of(record.partition, record.offset)) == 1, name
        assert len(topics.results.get(record.id, [])) == record.case.answered, name
        assert [len(topics.results[one]) for one in record.neighbours] == [1, 1], name
    places = [_place(letter.headers) for letter in topics.dead_letters]
    assert len(places) == len(set(places))


def _place(headers: dict[str, bytes]) -> tuple[bytes, bytes]:
    return headers["kafka_dlt-original-partition"], headers["kafka_dlt-original-offset"]
