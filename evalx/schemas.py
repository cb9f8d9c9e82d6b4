"""JSON Schemas (2020-12) of the messages, made from the types that decode them.

The files in `schemas/` are what other services read; `check` says which of them no longer say what the types say.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from evalx.messages import Result, Submission

_DIALECT = "https://json-schema.org/draft/2020-12/schema"

# Defaults that stand for "depends on another value" inside evalx; outside there is no such value.
_DEPENDENT = {"Submission": ("version",), "TestCase": ("id",), "Limits": ("wall_time_ms",)}


def generate() -> dict[str, dict[str, Any]]:
    """The schemas by file name."""
    return {
        "submission.schema.json": _schema(Submission, "evalx submission"),
        "result.schema.json": _schema(Result, "evalx result"),
    }


def write(directory: Path) -> list[Path]:
    """Writes the files and returns their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, schema in generate().items():
        path = directory / name
        path.write_text(_text(schema), encoding="utf-8")
        paths.append(path)
    return paths


def check(directory: Path) -> list[str]:
    """The names of files that are missing or differ from what `write` would write."""
    return [name for name, schema in generate().items() if _read(directory / name) != _text(schema)]


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


def _text(schema: dict[str, Any]) -> str:
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _schema(message_type: type, title: str) -> dict[str, Any]:
    (root,), definitions = msgspec.json.schema_components([message_type], ref_template="#/$defs/{name}")
    name = root["$ref"].rpartition("/")[2]
    for owner, fields in _DEPENDENT.items():
        for field in fields:
            definitions.get(owner, {}).get("properties", {}).get(field, {}).pop("default", None)
    body = definitions.pop(name)
    return {"$schema": _DIALECT, **body, "title": title, "$defs": dict(sorted(definitions.items()))}
