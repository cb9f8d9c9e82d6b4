"""The AsyncAPI document: whole in itself, and in step with the types, the settings and what a worker publishes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest
from messages_examples import RULES, raw

from evalx import asyncapi
from evalx.agents.letters import HEADER_OFFSET, HEADER_REPLAYED_FROM, HEADER_RUN, HEADER_STATE
from evalx.agents.publisher import Publisher, _dead_letter_headers
from evalx.agents.records import Record
from evalx.errors import RejectedError
from evalx.messages import decode_submission, rejected_result
from evalx.settings import Settings

DOCUMENT = asyncapi.generate()
MESSAGES = DOCUMENT["components"]["messages"]


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for one in part.values():
            yield from references(one)
    elif isinstance(part, list):
        for one in part:
            yield from references(one)


def resolve(reference: str) -> Any:
    assert reference.startswith("#/"), reference
    found: Any = DOCUMENT
    for name in reference[2:].split("/"):
        found = found[name]
    return found


def validator(schema: Any) -> jsonschema.Draft202012Validator:
    """Of a schema in the document, which may refer to others in it."""
    return jsonschema.Draft202012Validator({**schema, "components": DOCUMENT["components"]})


def test_each_reference_is_resolved():
    found = set(references(DOCUMENT))
    assert len(found) > 20
    for one in found:
        resolve(one)


def test_it_is_an_asyncapi_document():
    """The shape that AsyncAPI 3.0 asks of its objects: what they must have, and the names they may have."""
    assert DOCUMENT["asyncapi"] == "3.0.0"
    assert {"title", "version"} <= DOCUMENT["info"].keys()
    assert all({"host", "protocol"} <= server.keys() for server in DOCUMENT["servers"].values())
    for channel in DOCUMENT["channels"].values():
        assert channel.keys() == {"address", "description", "messages", "bindings"}
        assert channel["bindings"]["kafka"].keys() == {"topic", "partitions", "topicConfiguration", "bindingVersion"}
    for operation in DOCUMENT["operations"].values():
        assert operation["action"] in {"send", "receive"}
        channel = operation["channel"]["$ref"]
        assert all(one["$ref"].startswith(f"{channel}/messages/") for one in operation["messages"])
    known = {"title", "description", "contentType", "headers", "payload", "examples", "bindings", "correlationId"}
    for message in MESSAGES.values():
        assert message.keys() <= known
        assert message["headers"]["type"] == "object"


def test_its_topics_and_lanes_are_the_defaults():
    settings = Settings()
    channels = DOCUMENT["channels"]
    assert {one["address"] for one in channels.values()} == {
        settings.topic_submissions,
        settings.topic_results,
        settings.topic_dead_letters,
    }
    assert {one["bindings"]["kafka"]["partitions"] for one in channels.values()} == {settings.partition_count}
    lanes = {one["x-lane"]: one["x-partitions"] for one in DOCUMENT["operations"].values() if "x-lane" in one}
    assert lanes == {lane.name: list(lane.partitions) for lane in settings.lanes}


def test_the_environment_does_not_change_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("EVALX_TOPIC_PREFIX", "other")
    monkeypatch.setenv("EVALX_LANES", "only=0")
    assert asyncapi.generate() == DOCUMENT


@pytest.mark.parametrize("name", sorted(MESSAGES))
def test_the_examples_are_valid(name: str):
    message = MESSAGES[name]
    for example in message["examples"]:
        validator(message["payload"]).validate(example["payload"])
        if "headers" in example:
            validator(message["headers"]).validate(example["headers"])


def test_the_example_is_a_submission_and_a_wrong_one_is_not():
    example = MESSAGES["submission"]["examples"][0]["payload"]
    assert decode_submission(raw(example), RULES).id == "s-1"
    assert not validator(MESSAGES["submission"]["payload"]).is_valid({**example, "lang": "c"})
    result = MESSAGES["result"]["examples"][0]["payload"]
    assert not validator(MESSAGES["result"]["payload"]).is_valid({**result, "verdict": "PERHAPS"})


FIELDS: dict[str, Any] = {
    "topic": "evalx.submissions",
    "partition": 5,
    "offset": 17,
    "key": b"s-1",
    "value": b"{}",
    "headers": (("traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),),
}


@pytest.fixture
def record() -> Record:
    place = (FIELDS["topic"], FIELDS["partition"])
    return Record(SimpleNamespace(message=SimpleNamespace(**FIELDS, tp=place, timestamp=0)), "normal")


def texts(headers: Any) -> dict[str, str]:
    return {name: value.decode() for name, value in headers}


async def test_what_a_worker_publishes_has_the_headers_that_are_told(record: Record):
    result = rejected_result("s-1", RejectedError("not_json", "m"), lane="low", worker="w")
    publisher = Publisher(Settings(), "w")
    published = texts(publisher.encode(record, result).headers)
    await publisher.stop()
    told = MESSAGES["result"]["headers"]
    validator(told).validate(published)
    assert published.keys() == told["properties"].keys()
    letter = texts(_dead_letter_headers(record, RejectedError("not_json", "m")))
    told = MESSAGES["deadLetter"]["headers"]
    validator(told).validate(letter)
    assert letter.keys() - {"traceparent"} == told["properties"].keys()


def test_the_headers_of_replays():
    assert MESSAGES["note"]["headers"]["properties"].keys() == {HEADER_STATE, HEADER_OFFSET, HEADER_RUN}
    assert HEADER_REPLAYED_FROM in MESSAGES["submission"]["headers"]["properties"]


def test_checkers_are_told_apart_without_a_discriminator():
    """AsyncAPI's is the name of a property, and not the object that OpenAPI has."""
    assert "discriminator" not in json.dumps(DOCUMENT)
    example = MESSAGES["submission"]["examples"][0]["payload"]
    assert validator(MESSAGES["submission"]["payload"]).is_valid({**example, "checker": {"kind": "floats"}})
    assert not validator(MESSAGES["submission"]["payload"]).is_valid({**example, "checker": {"kind": "none"}})


def test_it_is_json():
    assert json.loads(json.dumps(DOCUMENT)) == DOCUMENT
