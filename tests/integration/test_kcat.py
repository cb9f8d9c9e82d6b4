"""The topics as Debian's kcat sees them: a client in another language, with nothing of ours."""

from __future__ import annotations

import asyncio
import json
import subprocess
from typing import Any

import pytest
from integration_stack import Topics, eventually, submission


async def kcat(topics: Topics, *arguments: str, send: bytes = b"") -> bytes:
    command = ["kcat", "-q", "-b", topics.services.kafka, *arguments]
    process = await asyncio.create_subprocess_exec(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    output, _ = await process.communicate(send)
    assert process.returncode == 0, command
    return output


async def consume(topics: Topics, topic: str, submission_id: str) -> list[Any]:
    """The records of this key, as kcat describes them."""
    lines = (await kcat(topics, "-C", "-t", topic, "-o", "beginning", "-e", "-J")).splitlines()
    # Not all of them are JSON: other tests' dead letters hold bytes that are no text, and kcat prints them as they are.
    records = [json.loads(line) for line in lines if submission_id.encode() in line]
    return [record for record in records if record["key"] == submission_id]


@pytest.mark.parametrize(("partition", "lane"), [(2, "high"), (5, "normal"), (11, "low")])
async def test_produce_and_consume(topics: Topics, partition: int, lane: str):
    document = submission("python", id=topics.new_id())
    line = f"{document['id']}:{json.dumps(document)}\n".encode()
    await kcat(topics, "-P", "-t", topics.submissions, "-p", str(partition), "-K:", send=line)
    results = f"{topics.prefix}.results"
    (record,) = await eventually(lambda: consume(topics, results, document["id"]), "kcat sees the result")
    headers = dict(zip(record["headers"][::2], record["headers"][1::2], strict=True))
    assert headers["content-type"] == "application/json"
    result = json.loads(record["payload"])
    assert (result["id"], result["verdict"], result["lane"]) == (document["id"], "AC", lane)


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_every_compression_of_kafka_is_read(topics: Topics, codec: str):
    """The producer chooses it. Without its codec a worker would end at the record, and the next one too."""
    document = submission("python", id=topics.new_id(), metadata={"filler": "compresses well " * 100})
    line = f"{document['id']}:{json.dumps(document)}\n".encode()
    await kcat(topics, "-P", "-t", topics.submissions, "-p", "5", "-z", codec, "-K:", send=line)
    assert (await topics.result(document["id"]))["verdict"] == "AC"


async def test_what_is_no_submission_comes_back(topics: Topics):
    key = topics.new_id()
    await kcat(topics, "-P", "-t", topics.submissions, "-p", "6", "-K:", send=f"{key}:not a submission\n".encode())
    letters = f"{topics.submissions}.DLT"
    (record,) = await eventually(lambda: consume(topics, letters, key), "kcat sees the dead letter")
    assert record["payload"] == "not a submission"
    headers = dict(zip(record["headers"][::2], record["headers"][1::2], strict=True))
    assert (headers["evalx-error-code"], headers["kafka_dlt-original-partition"]) == ("not_json", "6")
