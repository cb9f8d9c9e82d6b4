"""JSON Schemas (2020-12) of the messages, made from the types that decode them.

The files in `schemas/` are what other services read; `check` says which of them no longer say what the types say.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from evalx.messages import Result, Submission

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def generate() -> dict[str, dict[str, Any]]:
    """The schemas by file name."""
    return {
        "submission.schema.json": _submission(),
        "result.schema.json": _result(),
    }


def write(directory: Path, documents: Mapping[str, dict[str, Any]] | None = None) -> list[Path]:
    """Writes the files, those of the messages by default, and returns their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, schema in (documents or generate()).items():
        path = directory / name
        path.write_text(_text(schema), encoding="utf-8")
        paths.append(path)
    return paths


def check(directory: Path, documents: Mapping[str, dict[str, Any]] | None = None) -> list[str]:
    """The names of files that are missing or differ from what `write` would write."""
    return [name for name, schema in (documents or generate()).items() if _read(directory / name) != _text(schema)]


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


def _text(schema: dict[str, Any]) -> str:
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _components(message_type: type) -> tuple[dict[str, Any], dict[str, Any]]:
    """The schema of the message itself, and those of its parts by name."""
    (root,), parts = msgspec.json.schema_components([message_type], ref_template="#/$defs/{name}")
    return parts.pop(root["$ref"].rpartition("/")[2]), dict(sorted(parts.items()))


def _submission() -> dict[str, Any]:
    body, parts = _components(Submission)
    fields = body["properties"]
    # JSON Schema's dialect of patterns knows no \Z, and its $ means the true end.
    fields["id"]["pattern"] = fields["id"]["pattern"].replace(r"\Z", "$")
    # Inside evalx these defaults stand for "depends on another value"; outside there is no such value.
    for owner, name in ((fields, "version"), (parts["TestCase"]["properties"], "id"), (_limits(parts), "wall_time_ms")):
        del owner[name]["default"]
    fields["limits"]["default"] = {}
    return _schema("evalx submission", body, parts)


def _limits(parts: dict[str, Any]) -> dict[str, Any]:
    properties: dict[str, Any] = parts["Limits"]["properties"]
    return properties


def _result() -> dict[str, Any]:
    body, parts = _components(Result)
    # A result is written in full: a reader may count on every field.
    for part in (body, *parts.values()):
        if "properties" in part:
            part["required"] = list(part["properties"])
            for field in part["properties"].values():
                field.pop("default", None)
    return _schema("evalx result", body, parts)


def _schema(title: str, body: dict[str, Any], parts: dict[str, Any]) -> dict[str, Any]:
    return {"$schema": _DIALECT, **body, "title": title, "$defs": parts}
