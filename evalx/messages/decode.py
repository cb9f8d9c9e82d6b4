"""From the bytes of a message to a submission that can be judged, or to a precise reason why not.

Nearly every message is right, so the fast way is one typed decode (some 20 us for a batch of 22 KB) and then only the
rules that depend on the operator. When the typed decode fails, nobody waits for the answer any more, and the message
is read again without types and explained by `explain`. Defaults are filled in last, on values that nobody else holds.
A large message takes a way of its own, see `large`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, NoReturn, TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import force_setattr, replace

from evalx.errors import RejectedError
from evalx.messages.explain import explain, nearest, show_number
from evalx.messages.large import LARGE_BYTES, check_outline, check_syntax, explain_shortly
from evalx.messages.submission import KIB, MIB, Limits, Submission, SubmissionId, TestCase

T = TypeVar("T")

LARGEST_LIMITS = Limits(
    cpu_time_ms=30_000, wall_time_ms=120_000, memory_bytes=1024 * MIB, output_bytes=8 * MIB, processes=64
)


class LanguageRule(Struct, frozen=True):
    """The versions of a language that are installed, and the one that is meant when none is given."""

    default: str
    versions: tuple[str, ...]


class Rules(Struct, frozen=True, kw_only=True):
    """What the operator allows. Limits are inclusive; sizes are bytes of UTF-8."""

    languages: Mapping[str, LanguageRule]
    max_code_bytes: int = 256 * KIB
    max_tests: int = 1000
    max_limits: Limits = LARGEST_LIMITS
    max_metadata_bytes: int = 4 * KIB


class _Peek(Struct, frozen=True):
    id: SubmissionId


_decoder = msgspec.json.Decoder(Submission)
_peek = msgspec.json.Decoder(_Peek)


def decode_submission(raw: bytes | None, rules: Rules) -> Submission:
    """The submission with every default filled in; raises `RejectedError` with a code, a field and what is allowed."""
    if not raw:
        raise RejectedError("empty_message", "the message has no value; a submission in JSON is expected")
    try:
        if len(raw) > LARGE_BYTES:
            check_outline(raw, rules.max_tests, rules.max_metadata_bytes)
        submission = _decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        _reject_undecodable(raw, error, Submission)
    return normalise(submission, rules)


def decode_strictly(raw: bytes, message_type: type[T]) -> T:
    """A document of any message type; raises `RejectedError` as `decode_submission` does."""
    if not raw:
        raise RejectedError("empty_message", "there is nothing; JSON is expected")
    try:
        return msgspec.json.decode(raw, type=message_type)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        _reject_undecodable(raw, error, message_type)


def peek_id(raw: bytes | None) -> str | None:
    """The id of a message that cannot be judged, if it is JSON so far that a valid one can be read."""
    if not raw:
        return None
    try:
        return _peek.decode(raw).id
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def normalise(submission: Submission, rules: Rules) -> Submission:
    """Applies the operator's rules and fills in the defaults.

    The submission is changed in place and returned: it must be fresh, seen by nobody else.
    """
    force_setattr(submission, "version", _version(submission, rules))
    _check_code(submission.code, rules)
    _number_tests(submission.tests, rules)
    force_setattr(submission, "limits", _limits(submission.limits, rules.max_limits))
    _check_metadata(submission.metadata, rules)
    return submission


def _version(submission: Submission, rules: Rules) -> str:
    language = submission.language
    rule = rules.languages.get(language)
    if rule is None:
        known = ", ".join(rules.languages)
        raise RejectedError(
            "unknown_language",
            f"no language {language[:64]!r}{nearest(language, rules.languages)}; known: {known}",
            "language",
        )
    if not submission.version:
        return rule.default
    if submission.version not in rule.versions:
        known = ", ".join(rule.versions)
        raise RejectedError(
            "unknown_version", f"no version {submission.version[:64]!r} of {language}; installed: {known}", "version"
        )
    return submission.version


def _check_code(code: str, rules: Rules) -> None:
    # A character takes four bytes at most: only a text near the limit need be encoded to be measured.
    if len(code) * 4 <= rules.max_code_bytes:
        return
    size = len(code.encode())
    if size > rules.max_code_bytes:
        raise RejectedError(
            "code_too_large", f"{size} bytes in UTF-8, at most {rules.max_code_bytes} are allowed", "code"
        )


def _number_tests(tests: tuple[TestCase, ...], rules: Rules) -> None:
    if len(tests) > rules.max_tests:
        raise RejectedError("too_many_tests", f"{len(tests)} tests, at most {rules.max_tests} are allowed", "tests")
    for position, test in enumerate(tests, 1):
        if not test.id:
            force_setattr(test, "id", str(position))
    if len({test.id for test in tests}) != len(tests):
        _reject_duplicate(tests)


def _reject_duplicate(tests: tuple[TestCase, ...]) -> NoReturn:
    first: dict[str, int] = {}
    for index, test in enumerate(tests):
        if test.id in first:
            raise RejectedError(
                "duplicate_test_id",
                f"{test.id!r} is already the id of tests[{first[test.id]}]"
                " (a test without an id has its 1-based position); ids are unique",
                f"tests[{index}].id",
            )
        first[test.id] = index
    raise AssertionError("no duplicate")


def _limits(limits: Limits, largest: Limits) -> Limits:
    if not limits.wall_time_ms:
        # What nobody asked for is not rejected: a derived default gives way to the operator's maximum.
        wall = min(3 * limits.cpu_time_ms + 1000, largest.wall_time_ms)
        limits = replace(limits, wall_time_ms=wall)
    if (
        limits.cpu_time_ms > largest.cpu_time_ms
        or limits.wall_time_ms > largest.wall_time_ms
        or limits.memory_bytes > largest.memory_bytes
        or limits.output_bytes > largest.output_bytes
        or limits.processes > largest.processes
    ):
        _reject_limit(limits, largest)
    return limits


def _reject_limit(limits: Limits, largest: Limits) -> NoReturn:
    for name in Limits.__struct_fields__:
        asked, allowed, field = getattr(limits, name), getattr(largest, name), f"limits.{name}"
        if asked > allowed:
            raise RejectedError("limit_exceeded", f"{show_number(asked)} is over the maximum of {allowed}", field)
    raise AssertionError("no limit exceeded")


def _check_metadata(metadata: dict[str, str], rules: Rules) -> None:
    if not metadata:
        return
    size = sum(len(key.encode()) + len(value.encode()) for key, value in metadata.items())
    if size > rules.max_metadata_bytes:
        raise RejectedError(
            "metadata_too_large",
            f"{size} bytes of keys and values in UTF-8, at most {rules.max_metadata_bytes} are allowed",
            "metadata",
        )


def _reject_undecodable(raw: bytes, error: Exception, message_type: Any) -> NoReturn:
    if len(raw) > LARGE_BYTES:
        _reject_large(raw, error)
    try:
        document = msgspec.json.decode(raw)
    except RecursionError:
        raise RejectedError("not_json", "nested too deeply") from None
    except UnicodeDecodeError:
        raise _not_utf8(raw) from None
    except msgspec.ValidationError:
        document = _decode_wide(raw)
    except msgspec.DecodeError as malformed:
        raise _not_json(raw, malformed) from None
    explain(document, message_type)
    # The explainer found nothing to object to: say what the decoder said.
    raise RejectedError("invalid_value", *_split_path(error))


def _reject_large(raw: bytes, error: Exception) -> NoReturn:
    try:
        check_syntax(raw)
    except RecursionError:
        raise RejectedError("not_json", "nested too deeply") from None
    except msgspec.DecodeError as malformed:
        raise _not_json(raw, malformed) from None
    if isinstance(error, msgspec.ValidationError):
        raise explain_shortly(error) from None
    raise _not_utf8(raw) from None


def _decode_wide(raw: bytes) -> Any:
    """The document with numbers of any size: one beyond a double becomes infinite, for `explain` to object to."""
    try:
        return json.loads(raw.decode(), parse_int=lambda digits: int(digits) if len(digits) < 400 else math.inf)
    except UnicodeDecodeError:
        raise _not_utf8(raw) from None
    except RecursionError:
        raise RejectedError("not_json", "nested too deeply") from None
    except ValueError as malformed:
        raise RejectedError("not_json", str(malformed)) from None


def _not_utf8(raw: bytes) -> RejectedError:
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        return RejectedError("not_utf8", f"byte {error.start} is not UTF-8: {error.reason}")
    # An escape such as \ud800 alone: the bytes are UTF-8, the text is none.
    return RejectedError("not_json", "a text holds half of a surrogate pair")


def _not_json(raw: bytes, error: Exception) -> RejectedError:
    # A stray byte outside of a text is "malformed" to the decoder; that it is not UTF-8 is the better answer.
    try:
        raw.decode()
    except UnicodeDecodeError:
        return _not_utf8(raw)
    return RejectedError("not_json", str(error))


def _split_path(error: Exception) -> tuple[str, str | None]:
    text, _, path = str(error).partition(" - at `$")
    return text, path.rstrip("`").lstrip(".") or None
