"""Why a document does not fit a message type: the first thing wrong, where it is, and what is allowed.

Walks the untyped document beside msgspec's own description of the type, so that it can never know other rules than the
decoder does. Slow, and only called for a message that the decoder has refused.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable
from typing import Any, NoReturn

from msgspec import inspect

from evalx.errors import RejectedError, RejectionCode

_SHOWN = 40  # characters of an offending value that a message repeats: enough to know it again


def explain(document: Any, message_type: Any) -> None:
    """Raises `RejectedError` for the first thing that does not fit; returns if everything does."""
    _walk(document, inspect.type_info(message_type), "")


def nearest(word: str, known: Iterable[str]) -> str:
    """` (did you mean ...?)`, or nothing when no known word is close."""
    close = difflib.get_close_matches(word[:64], list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def show_number(value: float) -> str:
    """A number for a message; one with hundreds of digits cannot even be formatted as a double."""
    return f"{value:.12g}" if abs(value) < 1e18 else "a number that large" if value > 0 else "a number that small"


def _walk(value: Any, kind: inspect.Type, path: str) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        _reject("invalid_value", "a number out of range", path)
    match kind:
        case inspect.Metadata():
            _walk(value, kind.type, path)
        case inspect.StructType():
            _struct(value, kind, path)
        case inspect.UnionType():
            _union(value, kind, path)
        case inspect.VarTupleType() | inspect.ListType():
            _array(value, kind, path)
        case inspect.DictType():
            _mapping(value, kind, path)
        case inspect.LiteralType():
            _literal(value, kind.values, path)
        case _:
            _scalar(value, kind, path)


def _struct(value: Any, kind: inspect.StructType, path: str) -> None:
    if not isinstance(value, dict):
        _wrong_type(value, "an object", path)
    fields = {field.encode_name: field for field in kind.fields}
    known = [*([kind.tag_field] if kind.tag_field else []), *fields]
    for name in value:
        if name not in known and kind.forbid_unknown_fields:
            text = f"no field of this name{nearest(name, known)}; known: {', '.join(known)}"
            _reject("unknown_field", text, _join(path, name[:_SHOWN]))
    for name, field in fields.items():
        if name in value:
            _walk(value[name], field.type, _join(path, name))
        elif field.required:
            _reject("missing_field", "this field is required", _join(path, name))


def _union(value: Any, kind: inspect.UnionType, path: str) -> None:
    if value is None and kind.includes_none:
        return
    members = [member for member in kind.types if not isinstance(member, inspect.NoneType)]
    structs = {member.tag: member for member in members if isinstance(member, inspect.StructType)}
    if structs:
        _tagged(value, structs, path)
    else:
        _walk(value, members[0], path)


def _tagged(value: Any, structs: dict[Any, inspect.StructType], path: str) -> None:
    if not isinstance(value, dict):
        _wrong_type(value, "an object", path)
    tag_field = next(iter(structs.values())).tag_field or "type"
    if tag_field not in value:
        _reject("missing_field", f"this field is required; {_one_of(structs)}", _join(path, tag_field))
    tag = value[tag_field]
    _literal(tag, list(structs), _join(path, tag_field))
    _struct(value, structs[tag], path)


def _array(value: Any, kind: inspect.VarTupleType | inspect.ListType, path: str) -> None:
    if not isinstance(value, list):
        _wrong_type(value, "an array", path)
    if len(value) < (kind.min_length or 0):
        _reject("invalid_value", f"{len(value)} elements, at least {kind.min_length} are required", path)
    for index, item in enumerate(value):
        _walk(item, kind.item_type, f"{path}[{index}]")


def _mapping(value: Any, kind: inspect.DictType, path: str) -> None:
    if not isinstance(value, dict):
        _wrong_type(value, "an object", path)
    for key, item in value.items():
        _walk(item, kind.value_type, _join(path, key[:_SHOWN]))


def _literal(value: Any, allowed: Iterable[Any], path: str) -> None:
    if not isinstance(value, str):
        _wrong_type(value, _one_of(allowed), path)
    if value not in allowed:
        _reject("invalid_value", f"{_show(value)} is not {_one_of(allowed)}{nearest(value, allowed)}", path)


def _scalar(value: Any, kind: inspect.Type, path: str) -> None:
    match kind:
        case inspect.StrType():
            if not isinstance(value, str):
                _wrong_type(value, "a text", path)
            _text(value, kind, path)
        case inspect.BoolType():
            if not isinstance(value, bool):
                _wrong_type(value, "true or false", path)
        case inspect.IntType():
            if isinstance(value, bool) or not isinstance(value, int):
                _wrong_type(value, "a whole number without a fraction or exponent", path)
            _number(value, kind, path)
        case inspect.FloatType():
            if isinstance(value, bool) or not isinstance(value, int | float):
                _wrong_type(value, "a number", path)
            _number(value, kind, path)


def _text(value: str, kind: inspect.StrType, path: str) -> None:
    if kind.min_length is not None and len(value) < kind.min_length:
        _reject("invalid_value", f"{len(value)} characters, at least {kind.min_length} are required", path)
    if kind.max_length is not None and len(value) > kind.max_length:
        _reject("invalid_value", f"{len(value)} characters, at most {kind.max_length} are allowed", path)
    if kind.pattern is not None and not re.search(kind.pattern, value):
        _reject("invalid_value", f"{_show(value)} is not 1 to 128 of A-Z a-z 0-9 . _ : -", path)


def _number(value: float, kind: inspect.IntType | inspect.FloatType, path: str) -> None:
    if kind.ge is not None and value < kind.ge:
        _reject("invalid_value", f"{show_number(value)} is too small, at least {kind.ge:g} is required", path)


def _wrong_type(value: Any, expected: str, path: str) -> NoReturn:
    _reject("wrong_type", f"expected {expected}, got {_type_name(value)}", path)


def _type_name(value: Any) -> str:
    names = {bool: "a truth value", int: "a number", float: "a number with a fraction or exponent", str: "a text"}
    return {list: "an array", dict: "an object", type(None): "null", **names}[type(value)]


def _one_of(allowed: Iterable[Any]) -> str:
    return f"one of {', '.join(map(repr, allowed))}"


def _show(value: str) -> str:
    return repr(value if len(value) <= _SHOWN else value[:_SHOWN] + "...")


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _reject(code: RejectionCode, message: str, path: str) -> NoReturn:
    raise RejectedError(code, message, path or None)
