"""Large messages: refused without building what they describe.

A decode is one call, in whichever thread, beside which nothing else runs, and what it costs depends on the number of
values more than on that of bytes: 16 MiB of test data are read in 5 ms, but 16 MiB of empty tests are 5.6 million
objects, 0.5 s and 600 MB; and 16 MiB of empty arrays, read again without types for a good explanation, take 1.3 s
(measured). A worker that does this judges nothing meanwhile. So of a large message

1. an *outline* is read first, in which every field is merely skipped, and which ends at the first test too many;
2. the typed decode follows, which has few values to make now;
3. if that fails, its own words are the explanation, with the code that `explain` would find.

What is left is to pass over each byte some three times: 10 to 20 ms for 16 MiB, and some 80 at worst.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import msgspec
from msgspec import Raw

from evalx.errors import RejectedError, RejectionCode
from evalx.messages.submission import KIB, Submission

#: Bytes of a message from which on it is large. Up to here the worst one takes 20 ms.
LARGE_BYTES = 256 * KIB
#: Characters of a field's name that are repeated: enough to know it again.
SHOWN = 40
#: Bytes of JSON that one byte of text may take: `\u0041`.
ESCAPED_BYTES = 6
#: Bytes of metadata's JSON besides its texts: quotes, separators, some indentation.
METADATA_ROOM_BYTES = 64 * KIB


def check_outline(raw: bytes, max_tests: int, max_metadata_bytes: int) -> None:
    """Raises `RejectedError` for more values than the operator allows, and what msgspec raises for other mistakes."""
    try:
        outline = _decoder(max_tests).decode(raw)
    except msgspec.ValidationError as error:
        if not str(error).startswith("Expected `array` of at most"):
            raise
        raise RejectedError("too_many_tests", f"over {max_tests} tests, which is the maximum", "tests") from None
    size = len(memoryview(outline.metadata))
    if size > ESCAPED_BYTES * max_metadata_bytes + METADATA_ROOM_BYTES:
        text = f"{size} bytes of JSON for at most {max_metadata_bytes} of keys and values in UTF-8"
        raise RejectedError("metadata_too_large", text, "metadata")


@lru_cache
def _decoder(max_tests: int) -> msgspec.json.Decoder[Any]:
    # Read like an object whose fields are the tests: only such a one is given up at the first value too many.
    tests = msgspec.defstruct(
        "Tests",
        [(f"t{number}", Raw, Raw()) for number in range(max_tests)],
        array_like=True,
        forbid_unknown_fields=True,
        frozen=True,
    )
    fields = [
        (name, tests, tests()) if name == "tests" else (name, Raw, Raw()) for name in Submission.__struct_fields__
    ]
    return msgspec.json.Decoder(msgspec.defstruct("Outline", fields, forbid_unknown_fields=True))


def check_syntax(raw: bytes) -> None:
    """Raises what msgspec raises for a message that is no JSON; a decoder with types ends at the first misfit."""
    _skipper.decode(raw)


def explain_shortly(error: msgspec.ValidationError) -> RejectedError:
    """What the decoder had to object to."""
    text, _, path = str(error).partition(" - at `$")
    path = path.rstrip("`").lstrip(".")
    for begin, code in _MISFITS.items():
        if text.startswith(begin):
            name = text.removeprefix(begin).rstrip("`")[:SHOWN]
            return RejectedError(code, f"{begin}{name}`", f"{path}.{name}" if path else name)
    return RejectedError("wrong_type" if ", got `" in text else "invalid_value", text, path or None)


_skipper = msgspec.json.Decoder(Raw)

#: How msgspec begins what it says of a field that is not where the path ends.
_MISFITS: dict[str, RejectionCode] = {
    "Object missing required field `": "missing_field",
    "Object contains unknown field `": "unknown_field",
}
