"""The AsyncAPI 3.0 document of the topics, made from the types of the messages and the defaults of the settings.

`schemas/asyncapi.json` is the same document; the check of the schemas fails when it is not. It describes an
installation with default settings: another prefix or other lanes change addresses and partitions, and nothing else.
"""

from __future__ import annotations

import json
from typing import Any, get_args

import evalx
from evalx import schemas
from evalx.cache.progress import PROGRESS_HEADER
from evalx.errors import RejectionCode
from evalx.messages import PLACE_HEADER
from evalx.settings import Lane, Settings

FILE = "asyncapi.json"

_Document = dict[str, Any]
_REF = "#/components/schemas/"
_TEXT = {"type": "string"}
_NUMBER_TEXT = {"type": "string", "pattern": "^[0-9]+$"}
_PLACE_TEXT = {"type": "string", "pattern": "^[0-9]+:[0-9]+$"}
#: What a submission can end as through a fault of ours, besides being rejected; `docs/contract.md` lists them.
_FAULT_CODES = ("sandbox_fault", "docker_unavailable", "pool_exhausted", "internal_error", "poison", "judge_fault")


def generate() -> _Document:
    """The document."""
    settings = _defaults()
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "evalx topics",
            "version": evalx.__version__,
            "description": "Submissions go in, results come out, what was not judged comes back: see docs/contract.md.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": _servers(),
        "channels": _channels(settings),
        "operations": _operations(settings),
        "components": {
            "messages": {
                "submission": _submission(),
                "result": _result(),
                "deadLetter": _dead_letter(),
                "note": _note(),
            },
            "securitySchemes": _SECURITY,
            "schemas": _schemas(),
        },
    }


def _defaults() -> Settings:
    """Whatever the environment says: the document is of the project, not of an installation."""
    fields = Settings.model_fields
    return Settings.model_construct(
        topic_prefix=fields["topic_prefix"].default,
        lanes=fields["lanes"].default,
        max_message_bytes=fields["max_message_bytes"].default,
    )


_SECURITY = {
    "plain": {"type": "plain", "description": "SASL PLAIN, over TLS"},
    "scramSha256": {"type": "scramSha256"},
    "scramSha512": {"type": "scramSha512"},
    "certificate": {"type": "X509", "description": "a certificate of the client's"},
}


def _servers() -> _Document:
    secured = [{"$ref": f"#/components/securitySchemes/{name}"} for name in _SECURITY]
    return {
        "local": {"host": "localhost:9092", "protocol": "kafka", "description": "the composition's broker"},
        "secured": {
            "host": "{broker}",
            "protocol": "kafka-secure",
            "description": "a broker of yours with TLS; passwords without TLS work alike",
            "variables": {"broker": {"description": "HOST:PORT", "examples": ["kafka.example.com:9093"]}},
            "security": secured,
        },
    }


def _channels(settings: Settings) -> _Document:
    lanes = "; ".join(f"{lane.name}: partitions {_span(lane)}" for lane in settings.lanes)
    return {
        "submissions": _channel(
            settings, settings.topic_submissions, ("submission",),
            f"The partition is the priority: {lanes}. A producer picks any partition of the lane.",
        ),
        "results": _channel(
            settings, settings.topic_results, ("result",),
            "One result for each submission, delivered at least once: drop an id that was seen before.",
        ),
        "deadLetters": _channel(
            settings, settings.topic_dead_letters, ("deadLetter", "note"),
            "What could not be judged, byte for byte, on the partition where it came from; the headers say why.",
        ),
    }  # fmt: skip


def _channel(settings: Settings, address: str, messages: tuple[str, ...], description: str) -> _Document:
    limits = {"max.message.bytes": settings.max_message_bytes}
    topic = {"topic": address, "partitions": settings.partition_count, "topicConfiguration": limits}
    return {
        "address": address,
        "description": description,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
        "bindings": {"kafka": topic | {"bindingVersion": "0.5.0"}},
    }


def _span(lane: Lane) -> str:
    first, last = lane.partitions[0], lane.partitions[-1]
    return f"{first}-{last}" if len(lane.partitions) == last - first + 1 else ", ".join(map(str, lane.partitions))


def _operations(settings: Settings) -> _Document:
    """As the judge sees them, as AsyncAPI wants it: it receives what others send."""
    found = {f"judge_{lane.name}": _judge(lane) for lane in settings.lanes}
    found["publishResult"] = _operation("send", "results", "result", "A result, for whoever submitted.")
    found["publishDeadLetter"] = _operation("send", "deadLetters", "deadLetter", "A submission that was not judged.")
    found["noteReplay"] = _operation("send", "deadLetters", "note", "That a dead letter is, or was, replayed.")
    return found


def _judge(lane: Lane) -> _Document:
    told = f"A submission in lane {lane.name}: produced to one of the partitions {_span(lane)}."
    operation = _operation("receive", "submissions", "submission", told)
    reply = {"channel": {"$ref": "#/channels/results"}, "messages": [{"$ref": "#/channels/results/messages/result"}]}
    return operation | {"reply": reply, "x-lane": lane.name, "x-partitions": list(lane.partitions)}


def _operation(action: str, channel: str, message: str, summary: str) -> _Document:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "summary": summary,
        "messages": [{"$ref": f"#/channels/{channel}/messages/{message}"}],
    }


def _submission() -> _Document:
    headers = {
        "content-type": {"const": "application/json"},
        "traceparent": _TEXT | {"description": "W3C Trace Context, version 00; continued on the result"},
        PROGRESS_HEADER: {"const": "1", "description": "have the verdicts of tests told over Redis"},
        "evalx-replayed-from": _PLACE_TEXT | {"description": "the dead letter that this is a replay of"},
    }
    return _message("Submission", headers, (), _SUBMISSION_EXAMPLE, "Submission", "the submission's id")


def _result() -> _Document:
    headers = {
        "content-type": {"const": "application/json"},
        "ce_specversion": {"const": "1.0"},
        "ce_id": _TEXT | {"description": "the submission's id"},
        "ce_type": {"const": "evalx.result.v1"},
        "ce_source": _TEXT | {"description": "the worker"},
        "ce_time": _TEXT | {"format": "date-time"},
        PLACE_HEADER: _PLACE_TEXT | {"description": "PARTITION:OFFSET of the submission that it answers"},
        "traceparent": _TEXT,
    }
    required = tuple(name for name in headers if name != "traceparent")
    message = _message("Result", headers, required, _RESULT_EXAMPLE, "Result", "the submission's id")
    where = {"location": "$message.payload#/id", "description": "the submission's id"}
    return message | {"correlationId": where}


def _dead_letter() -> _Document:
    codes = [*get_args(RejectionCode), *_FAULT_CODES]
    headers = {
        "kafka_dlt-original-topic": _TEXT,
        "kafka_dlt-original-partition": _NUMBER_TEXT,
        "kafka_dlt-original-offset": _NUMBER_TEXT,
        "kafka_dlt-exception-message": _TEXT,
        "evalx-error-code": _TEXT | {"examples": codes},
    }
    example = {
        "kafka_dlt-original-topic": "evalx.submissions",
        "kafka_dlt-original-partition": "5",
        "kafka_dlt-original-offset": "17",
        "kafka_dlt-exception-message": "not JSON",
        "evalx-error-code": "not_json",
    }
    message = _message("Dead letter", headers, tuple(headers), "not a submission", None, "the original key")
    message["contentType"] = "application/octet-stream"
    message["examples"][0]["headers"] = example
    message["description"] = "The submission's own headers follow these, unless they have more than 16 KiB."
    return message


def _note() -> _Document:
    headers = {
        "evalx-replay": {"enum": ["started", "done"]},
        "evalx-replay-offset": _NUMBER_TEXT | {"description": "the dead letter's offset in this partition"},
        "evalx-replay-run": _TEXT,
    }
    example = {"evalx-replay": "done", "evalx-replay-offset": "3", "evalx-replay-run": "8c1f"}
    message = _message("Note of a replay", headers, tuple(headers), None, None, "of this note alone")
    message["examples"][0]["headers"] = example
    message["payload"] = {"type": "null"}
    message["description"] = "A record without a value; readers of dead letters skip it."
    return message


def _message(
    title: str, headers: _Document, required: tuple[str, ...], example: Any, schema: str | None, key: str
) -> _Document:
    return {
        "title": title,
        "contentType": "application/json",
        # In Kafka a header's value is bytes: these are UTF-8.
        "headers": {"type": "object", "properties": headers, "required": list(required)},
        "payload": {"description": "bytes"} if schema is None else {"$ref": _REF + schema},
        "examples": [{"name": "usual", "payload": example}],
        "bindings": {"kafka": {"key": _TEXT | {"description": f"{key}, in UTF-8"}, "bindingVersion": "0.5.0"}},
    }


def _schemas() -> _Document:
    parts: _Document = {}
    for name, file in (("Submission", "submission.schema.json"), ("Result", "result.schema.json")):
        moved: _Document = json.loads(json.dumps(schemas.generate()[file]).replace("#/$defs/", _REF))
        parts |= moved.pop("$defs")
        moved.pop("$schema")
        parts[name] = moved
    return {name: _without_discriminators(part) for name, part in sorted(parts.items())}


def _without_discriminators(part: Any) -> Any:
    """AsyncAPI's is another one than JSON Schema's tools write, and each alternative says what its kind is anyway."""
    if isinstance(part, dict):
        return {name: _without_discriminators(one) for name, one in part.items() if name != "discriminator"}
    return [_without_discriminators(one) for one in part] if isinstance(part, list) else part


_SUBMISSION_EXAMPLE: _Document = {
    "id": "s-1",
    "language": "python",
    "code": "print(sum(map(int, input().split())))",
    "tests": [{"id": "1", "stdin": "1 2\n", "expected_output": "3\n"}],
}
_RESULT_EXAMPLE: _Document = {
    "id": "s-1",
    "status": "judged",
    "verdict": "AC",
    "language": "python",
    "version": "3.13",
    "toolchain": "sha256:5d0c",
    "compile": None,
    "tests": [
        {
            "id": "1",
            "verdict": "AC",
            "exit_code": 0,
            "signal": None,
            "cpu_time_ms": 9.1,
            "wall_time_ms": 10.2,
            "peak_memory_bytes": 9003008,
            "stdout": "3\n",
            "stderr": "",
            "encoding": "utf-8",
            "stdout_truncated": False,
            "stderr_truncated": False,
            "cached": False,
        }
    ],
    "source": "executed",
    "lane": "normal",
    "attempt": 1,
    "worker": "host-1:2313",
    "queued_ms": 3.1,
    "judged_ms": 14.4,
    "error": None,
    "metadata": {},
}
