"""A submission and its parts, as they travel on the submissions topic.

The types are the contract: `decode` reads them strictly, `evalx.schemas` makes the JSON Schema from them. A default
that depends on another value (`version`, `wall_time_ms`, a test's `id`) is stored as an empty text or zero, which no
sender can give because the bounds forbid it; `decode_submission` fills them in, and nothing behind it ever sees one.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

import msgspec
from msgspec import Meta, Struct

KIB = 1024
MIB = 1024 * KIB

# \Z and not $, which in Python would also accept an id followed by a line feed.
_ID_PATTERN = r"^[A-Za-z0-9._:-]{1,128}\Z"

SubmissionId: TypeAlias = Annotated[
    str,
    Meta(
        pattern=_ID_PATTERN,
        description="The idempotency key: one id, one content.",
    ),
]


def _positive(text: str) -> Meta:
    return Meta(ge=1, description=text)


class Limits(Struct, frozen=True, forbid_unknown_fields=True, gc=False, kw_only=True):
    """What one test may use. Each is capped by the operator's maximum; over it the submission is rejected."""

    cpu_time_ms: Annotated[int, _positive("User + system time of the process tree, milliseconds.")] = 2000
    wall_time_ms: Annotated[int, _positive("Elapsed time, milliseconds; default 3 x cpu_time_ms + 1000.")] = 0
    memory_bytes: Annotated[int, _positive("Memory of the process tree, bytes.")] = 256 * MIB
    output_bytes: Annotated[int, _positive("Each of stdout and stderr, bytes.")] = 64 * KIB
    processes: Annotated[int, _positive("Processes and threads at one time.")] = 16


class TestCase(Struct, frozen=True, forbid_unknown_fields=True, gc=False, kw_only=True):
    """One run of the program."""

    __test__: ClassVar[bool] = False  # not one of pytest's, in spite of its name

    id: Annotated[
        str,
        Meta(min_length=1, max_length=128, description="Unique; default the test's 1-based position as text."),
    ] = ""
    stdin: Annotated[str, Meta(description="What the program reads.")] = ""
    expected_output: Annotated[str | None, Meta(description="Null: only run it, compare nothing.")] = None


class _Checker(Struct, frozen=True, forbid_unknown_fields=True, gc=False, kw_only=True, tag_field="kind"):
    kind: ClassVar[str]


class ExactChecker(_Checker, frozen=True, tag="exact"):
    """Equal byte for byte."""

    kind = "exact"


class LinesChecker(_Checker, frozen=True, tag="lines"):
    """Equal but for trailing white space of lines and trailing empty lines."""

    kind = "lines"


_IgnoreCase: TypeAlias = Annotated[bool, Meta(description="ASCII letters are equal in either case.")]


# What is as it is by default is not sent: workers from before `ignore_case` would reject it.
class TokensChecker(_Checker, frozen=True, tag="tokens", omit_defaults=True):
    """Equal as white-space-separated tokens."""

    kind = "tokens"

    ignore_case: _IgnoreCase = False


_Tolerance: TypeAlias = Annotated[float, Meta(ge=0)]


class FloatsChecker(_Checker, frozen=True, tag="floats", omit_defaults=True):
    """As tokens, but numbers may differ by `abs_tol`, or by `rel_tol` of the expected one."""

    kind = "floats"

    abs_tol: Annotated[_Tolerance, Meta(description="Absolute difference that is still right.")] = 1e-6
    rel_tol: Annotated[_Tolerance, Meta(description="Difference relative to the expected number.")] = 1e-6
    ignore_case: _IgnoreCase = False


Checker: TypeAlias = ExactChecker | LinesChecker | TokensChecker | FloatsChecker

CheckerKind: TypeAlias = Literal["exact", "lines", "tokens", "floats"]
ReturnOutput: TypeAlias = Literal["always", "on_failure", "never"]
CacheMode: TypeAlias = Literal["use", "refresh", "bypass"]


def make_checker(kind: str, abs_tol: float | None = None, rel_tol: float | None = None) -> Checker:
    """A checker from its parts, as a command line gives them; raises `msgspec.ValidationError` for a wrong one."""
    given: dict[str, Any] = {"kind": kind, "abs_tol": abs_tol, "rel_tol": rel_tol}
    made: Checker = msgspec.convert({k: v for k, v in given.items() if v is not None}, Checker)
    return made


class Submission(Struct, frozen=True, forbid_unknown_fields=True, gc=False, kw_only=True):
    """A program and the tests to judge it by."""

    id: SubmissionId
    language: Annotated[str, Meta(min_length=1, description="A registered name.", examples=["cpp", "python"])]
    version: Annotated[
        str, Meta(min_length=1, description="One that is installed for the language; default the language's own.")
    ] = ""
    code: Annotated[str, Meta(description="The source text; at most 256 KiB in UTF-8 by default.")]
    tests: Annotated[tuple[TestCase, ...], Meta(min_length=1, extra_json_schema={"maxItems": 1000})]
    limits: Limits = Limits()
    checker: Checker = LinesChecker()
    stop_on_failure: Annotated[bool, Meta(description="The tests after the first failing one are skipped.")] = False
    return_output: Annotated[ReturnOutput, Meta(description="When stdout and stderr are in the result.")] = "always"
    cache: Annotated[CacheMode, Meta(description="`refresh` runs, then stores; `bypass` neither reads nor stores.")] = (
        "use"
    )
    metadata: Annotated[
        dict[str, str], Meta(description="Echoed in the result; keys and values together at most 4 KiB in UTF-8.")
    ] = {}


# Sorted: the order in which a sender wrote its metadata is no part of the content.
_canonical = msgspec.json.Encoder(order="deterministic")


def encode_submission(submission: Submission) -> bytes:
    """The submission as JSON, every default spelt out when it came from `decode_submission`."""
    return _canonical.encode(submission)


def content_hash(submission: Submission) -> bytes:
    """32 bytes that are equal for equal normalised submissions: the same id with another hash is a conflict."""
    return hashlib.sha256(_canonical.encode(submission)).digest()
