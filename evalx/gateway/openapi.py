"""The OpenAPI 3.1 document of the gateway, made from the types that decode requests and encode answers.

`schemas/openapi.json` is the same document; the check of the schemas fails when it is not.
"""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Sequence
from typing import Any

import msgspec

import evalx
from evalx import schemas
from evalx.cache.progress import TestProgress
from evalx.gateway import shapes
from evalx.gateway.desk import Queue
from evalx.settings import Settings

FILE = "openapi.json"

_REF = "#/components/schemas/"
_Document = dict[str, Any]

_WAIT = ("wait", "Seconds to wait for the result before answering.", {"type": "number", "minimum": 0})
_PRIORITY = (
    "priority",
    "The lane: `high`, `normal` or `low`, unless the operator has named others.",
    {"type": "string"},
)
_LAST_WORDS = {
    "400": "What is wrong with the request, with the field or index.",
    "401": "A bearer token is needed (when the gateway has tokens).",
    "404": "Unknown, expired, or somebody else's.",
    "409": "The id was used before with other content.",
    "413": "Larger than a body, or the source text in it, may be.",
    "415": "Not `application/json`.",
    "429": "Too many submissions wait, or too many of this caller; `retry-after` says when to try again.",
    "503": "Kafka, or Redis for what only it knows, is away; `retry-after` says when to try again.",
}
_SUBMITTING = ("400", "401", "413", "415", "429", "503")


def generate() -> _Document:
    """The document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "evalx gateway",
            "version": evalx.__version__,
            "summary": "Judges code submissions: compile once, run every test in a pooled sandbox, lose nothing.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": [{}, {"bearer": []}],
        "paths": _paths(),
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


@functools.cache
def encoded() -> bytes:
    """As the gateway serves it."""
    return json.dumps(generate(), ensure_ascii=False).encode()


def _paths() -> _Document:
    batch = _post("batch", "A batch: one program, many inputs.", _array("BatchItem"), {"200": _one("Answer")})
    parallel = _post("parallel", "Unrelated programs; waits for all.", _array("ExecuteRequest"), _ROWS)
    waiting = {"200": _one("Result"), "202": _one("Accepted")}
    by_id = [_path("id")]
    health = _object({"status": _TEXT, "waiting": _COUNT})
    return {
        "/v1/submissions": {
            "post": _post("submit", "Submit a program and its tests.", _one("NewSubmission"), waiting, ("409",)),
        },
        "/v1/submissions/{id}": {"get": _get("result", "A submission's result.", waiting, [*by_id, _query(_WAIT)])},
        "/v1/submissions/{id}/events": {"get": _get("events", _EVENTS, {"200": _text("text/event-stream")}, by_id)},
        "/execute": {
            "post": _post("execute", "One run of a program.", _one("ExecuteRequest"), {"200": _one("Answer")}),
        },
        "/execute-batch": {"post": batch},
        "/execute/batch": {"post": batch | {"operationId": "batch_alias"}},
        "/execute-parallel": {"post": parallel},
        "/submissions/{token}": {
            "get": _get("answer", "What became of it.", {"200": _one("Answer")}, [_path("token")]),
        },
        "/v1/languages": {
            "get": _open("languages", "The languages that are installed.", _list("InstalledLanguage"), ()),
        },
        "/v1/queue": {"get": _get("queue", "How much waits.", {"200": _one("Queue")}, [], ("401",))},
        "/health": {"get": _open("health", "Whether submissions are taken.", health)},
        "/metrics": {"get": _open("metrics", "Prometheus text.", _text("text/plain"))},
    }


_EVENTS = (
    "Server-sent events: `status` (an Accepted), one `test` per test as it ends (a TestProgress), `result` (a Result); "
    "then the stream ends."
)
_TEXT = {"type": "string"}
_COUNT = {"type": "integer", "minimum": 0}


def _post(
    name: str, summary: str, body: _Document, answers: dict[str, _Document], more: tuple[str, ...] = ()
) -> _Document:
    return {
        "operationId": name,
        "summary": summary,
        "parameters": [_query(_WAIT), _query(_PRIORITY)],
        "requestBody": {"required": True, "content": body},
        "responses": _responses(answers, sorted(_SUBMITTING + more)),
    }


def _get(
    name: str,
    summary: str,
    answers: dict[str, _Document],
    parameters: list[_Document],
    failures: Sequence[str] = ("400", "401", "404", "503"),
) -> _Document:
    operation = {"operationId": name, "summary": summary, "parameters": parameters}
    return operation | {"responses": _responses(answers, failures)}


def _open(name: str, summary: str, answer: _Document, failures: Sequence[str] = ("503",)) -> _Document:
    return {
        "operationId": name,
        "summary": summary,
        "security": [{}],
        "responses": _responses({"200": answer}, failures),
    }


def _responses(answers: dict[str, _Document], failures: Sequence[str]) -> _Document:
    good = {status: {"description": _GOOD[status], "content": content} for status, content in answers.items()}
    bad = {status: {"description": _LAST_WORDS[status], "content": _one("ErrorAnswer")} for status in failures}
    return good | bad


_GOOD = {"200": "The answer.", "202": "Accepted; there is no result yet."}


def _query(parameter: tuple[str, str, _Document]) -> _Document:
    name, description, schema = parameter
    return {"name": name, "in": "query", "required": False, "description": description, "schema": schema}


def _path(name: str) -> _Document:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _json(schema: _Document) -> _Document:
    return {"application/json": {"schema": schema}}


def _one(name: str) -> _Document:
    return _json({"$ref": _REF + name})


def _array(name: str) -> _Document:
    most = Settings.model_fields["max_tests"].default
    return _json({"type": "array", "items": {"$ref": _REF + name}, "minItems": 1, "maxItems": most})


def _list(name: str) -> _Document:
    return _json({"type": "array", "items": {"$ref": _REF + name}})


def _text(kind: str) -> _Document:
    return {kind: {"schema": _TEXT}}


def _object(properties: _Document) -> _Document:
    return _json({"type": "object", "properties": properties, "required": list(properties)})


_ROWS = {"200": _array("ParallelRow")}


def _schemas() -> _Document:
    own = (
        shapes.ExecuteRequest, shapes.BatchItem, shapes.Answer, shapes.ParallelRow, shapes.Accepted,
        shapes.ErrorAnswer, shapes.InstalledLanguage, Queue, TestProgress,
    )  # fmt: skip
    _, parts = msgspec.json.schema_components(own, ref_template=_REF + "{name}")
    for file in ("submission.schema.json", "result.schema.json"):
        parts |= _parts_of(schemas.generate()[file])
    parts["NewSubmission"] = _new_submission(parts["Submission"])
    return dict(sorted(parts.items()))


def _parts_of(schema: _Document) -> _Document:
    """A JSON Schema's parts and itself, as components."""
    text = json.dumps(schema).replace("#/$defs/", _REF)
    moved: _Document = json.loads(text)
    parts: _Document = moved.pop("$defs")
    moved.pop("$schema")
    name = {"evalx submission": "Submission", "evalx result": "Result"}[moved["title"]]
    return parts | {name: moved}


def _new_submission(submission: _Document) -> _Document:
    """A submission whose id the gateway makes if it has none, and that may have a webhook."""
    new = copy.deepcopy(submission)
    new["title"] = "NewSubmission"
    new["required"].remove("id")
    new["properties"]["callback_url"] = {
        "type": "string",
        "format": "uri",
        "description": "Is sent the Result by PUT, signed; see docs/http.md.",
    }
    return new
