"""Makes a result fit the topic's limit without dropping it.

What can give way are the outputs. Each one's size in the encoded message is measured (a control character takes six
bytes there), then a common level is found, like water in a vessel: outputs below it stay whole, those above are cut to
it. So the largest pay first, and equally. Only if a result with empty outputs is still too large does the compiler's
output give way too, and if even that is not enough the result becomes a `judge_error` that says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from evalx.errors import JudgeFaultError
from evalx.messages.result import Encoding, Result, TestResult, encode_result, judge_error_result

_encode = msgspec.json.Encoder().encode
_CUT_NOTE = "\n[cut]"


def encode_fitting(result: Result, max_bytes: int) -> bytes:
    """The result as JSON; with its outputs cut when that would have more than `max_bytes` bytes."""
    encoded = encode_result(result)
    return encoded if len(encoded) <= max_bytes else encode_result(_cut_result(result, len(encoded), max_bytes))


def fit_result(result: Result, max_bytes: int) -> Result:
    """The result itself if its encoding has at most `max_bytes` bytes, else one with its outputs cut so that it has."""
    encoded = len(encode_result(result))
    return result if encoded <= max_bytes else _cut_result(result, encoded, max_bytes)


def _cut_result(result: Result, encoded: int, max_bytes: int) -> Result:
    sizes = [_size(text) for test in result.tests for text in (test.stdout, test.stderr)]
    room = max_bytes - (encoded - sum(sizes))
    if room < 0:
        return _without_outputs(result, max_bytes)
    level = _level(sizes, room)
    return replace(result, tests=tuple(_cut_test(test, level) for test in result.tests))


def _size(text: str) -> int:
    """Bytes of the text in the encoded message, without its quotation marks."""
    return len(_encode(text)) - 2


def _level(sizes: Sequence[int], room: int) -> int:
    """The largest level such that the sizes, each cut to it, add up to no more than `room`."""
    rest = sorted(sizes)
    for position, size in enumerate(rest):
        share = room // (len(rest) - position)
        if size > share:
            return share
        room -= size
    return rest[-1] if rest else 0


def _cut_test(test: TestResult, level: int) -> TestResult:
    changes: dict[str, Any] = {}
    for name in ("stdout", "stderr"):
        text: str = getattr(test, name)
        if _size(text) > level:
            changes[name] = _cut(text, level, test.encoding)
            changes[f"{name}_truncated"] = True
    return replace(test, **changes) if changes else test


def _cut(text: str, level: int, encoding: Encoding) -> str:
    # Base64 has four characters for three bytes, none of them escaped; a broken group would not decode.
    return text[: level // 4 * 4] if encoding == "base64" else longest_prefix(text, level)


def longest_prefix(text: str, level: int) -> str:
    """The longest beginning of the text that takes at most `level` bytes when encoded.

    Halves the unknown part each time and measures only that: linear in the text, whatever its escapes.
    """
    taken, end = 0, min(len(text), level)
    while taken < end:
        middle = (taken + end + 1) // 2
        size = _size(text[taken:middle])
        if size <= level:
            level -= size
            taken = middle
        else:
            end = middle - 1
    return text[:taken]


def _without_outputs(result: Result, max_bytes: int) -> Result:
    bare = replace(result, tests=tuple(_cut_test(test, 0) for test in result.tests))
    room = max_bytes - len(encode_result(bare))
    if room >= 0:
        return bare
    if bare.compile is not None and _size(bare.compile.output) + room >= _size(_CUT_NOTE):
        keep = _size(bare.compile.output) + room - _size(_CUT_NOTE)
        output = longest_prefix(bare.compile.output, keep) + _CUT_NOTE
        return replace(bare, compile=replace(bare.compile, output=output))
    return _too_large(result, max_bytes)


def _too_large(result: Result, max_bytes: int) -> Result:
    fault = JudgeFaultError("result_too_large", f"the result does not fit into {max_bytes} bytes even without outputs")
    return judge_error_result(
        result.id,
        fault,
        language=result.language,
        version=result.version,
        lane=result.lane,
        worker=result.worker,
        attempt=result.attempt,
        toolchain=result.toolchain,
        queued_ms=result.queued_ms,
        judged_ms=result.judged_ms,
        metadata=result.metadata,
    )
