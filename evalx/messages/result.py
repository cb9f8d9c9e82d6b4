"""A result and its parts, as they travel on the results topic. Field names and order are the contract's."""

from __future__ import annotations

import base64
import codecs
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, TypeAlias

import msgspec
from msgspec import Meta, Struct

from evalx.errors import JudgeFaultError, RejectedError
from evalx.verdicts import Verdict

Status: TypeAlias = Literal["judged", "compile_error", "rejected", "judge_error"]
Source: TypeAlias = Literal["executed", "result_cache", "joined"]
Encoding: TypeAlias = Literal["utf-8", "base64"]

#: The header of a result that names the record which it answers, PARTITION:OFFSET of the submissions.
PLACE_HEADER = "evalx-submission"

_Milliseconds: TypeAlias = Annotated[float, Meta(ge=0)]


class CompileReport(Struct, frozen=True, gc=False, kw_only=True):
    """How the one compilation went."""

    exit_code: Annotated[int | None, Meta(description="Null when a signal or a limit ended the compiler.")]
    output: Annotated[str, Meta(description="What the compiler said, stdout and stderr in one.")] = ""
    cpu_time_ms: _Milliseconds = 0.0
    wall_time_ms: _Milliseconds = 0.0
    cached: Annotated[bool, Meta(description="From the cache; the times are those of the first compilation.")] = False


class TestResult(Struct, frozen=True, gc=False, kw_only=True):
    """How one test went."""

    __test__: ClassVar[bool] = False  # not one of pytest's, in spite of its name

    id: str
    verdict: Verdict
    exit_code: Annotated[int | None, Meta(description="Null when a signal ended it, or it was not run.")] = None
    signal: Annotated[int | None, Meta(description="The number of the signal that ended the program.")] = None
    cpu_time_ms: Annotated[_Milliseconds, Meta(description="User + system time of the process tree.")] = 0.0
    wall_time_ms: _Milliseconds = 0.0
    peak_memory_bytes: Annotated[int, Meta(ge=0)] = 0
    stdout: str = ""
    stderr: str = ""
    encoding: Annotated[Encoding, Meta(description="Of both streams; `base64` when either is not UTF-8.")] = "utf-8"
    stdout_truncated: bool = False
    stderr_truncated: bool = False
    cached: bool = False


class ErrorInfo(Struct, frozen=True, gc=False):
    """Why there is no verdict."""

    code: Annotated[str, Meta(description="Stable, snake_case.")]
    message: str
    field: Annotated[str | None, Meta(description="Path of the offending value, such as `tests[3].id`.")] = None


class Result(Struct, frozen=True, gc=False, kw_only=True):
    """What came of a submission. Exactly one for a reader that drops repeated ids."""

    id: str
    status: Status
    verdict: Annotated[Verdict | None, Meta(description="Null when rejected.")]
    language: Annotated[str | None, Meta(description="Null when the submission named none that could be read.")] = None
    version: str | None = None
    toolchain: Annotated[str | None, Meta(description="Identity of the compiler or interpreter.")] = None
    compile: Annotated[CompileReport | None, Meta(description="Null when nothing was compiled.")] = None
    tests: Annotated[tuple[TestResult, ...], Meta(description="Empty unless judged.")] = ()
    source: Annotated[Source | None, Meta(description="Where the answer came from; null when rejected.")] = "executed"
    lane: str
    attempt: Annotated[int, Meta(ge=1, description="Higher in a repeat of the same result.")] = 1
    worker: str
    queued_ms: Annotated[_Milliseconds, Meta(description="From submission to the start of judging.")] = 0.0
    judged_ms: Annotated[_Milliseconds, Meta(description="From the start of judging to the result.")] = 0.0
    error: ErrorInfo | None = None
    metadata: dict[str, str] = {}


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Result)


def encode_result(result: Result) -> bytes:
    """The result as JSON, in the contract's order of fields."""
    return _encoder.encode(result)


def decode_result(raw: bytes) -> Result:
    """A result as read from the topic or a cache; raises `msgspec.DecodeError` for anything else."""
    return _decoder.decode(raw)


def text_or_base64(
    stdout: bytes, stderr: bytes, *, stdout_cut: bool = False, stderr_cut: bool = False
) -> tuple[str, str, Encoding]:
    """Both streams as text if both are UTF-8, else both as base64.

    A stream that was cut at a limit may end inside a character; that stump is dropped rather than turning a text into
    base64.
    """
    try:
        return _text(stdout, cut=stdout_cut), _text(stderr, cut=stderr_cut), "utf-8"
    except UnicodeDecodeError:
        return _base64(stdout), _base64(stderr), "base64"


def _text(data: bytes, *, cut: bool) -> str:
    if not cut:
        return data.decode()
    text, _ = codecs.utf_8_decode(data, "strict", False)
    return text


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def rejected_result(
    id: str,  # noqa: A002  the contract's name
    error: RejectedError,
    *,
    lane: str,
    worker: str,
    attempt: int = 1,
    queued_ms: float = 0.0,
    judged_ms: float = 0.0,
    language: str | None = None,
    version: str | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Result:
    """The result of a submission that cannot be judged."""
    return Result(
        id=id,
        status="rejected",
        verdict=None,
        language=language,
        version=version,
        source=None,
        lane=lane,
        attempt=attempt,
        worker=worker,
        queued_ms=queued_ms,
        judged_ms=judged_ms,
        error=ErrorInfo(error.code, error.message, error.field),
        metadata=dict(metadata or {}),
    )


def judge_error_result(
    id: str,  # noqa: A002  the contract's name
    error: JudgeFaultError,
    *,
    language: str | None,
    version: str | None,
    lane: str,
    worker: str,
    attempt: int = 1,
    toolchain: str | None = None,
    queued_ms: float = 0.0,
    judged_ms: float = 0.0,
    metadata: Mapping[str, str] | None = None,
) -> Result:
    """The result of a submission that the judge failed to judge, after its retries."""
    return Result(
        id=id,
        status="judge_error",
        verdict=Verdict.JE,
        language=language,
        version=version,
        toolchain=toolchain,
        lane=lane,
        attempt=attempt,
        worker=worker,
        queued_ms=queued_ms,
        judged_ms=judged_ms,
        error=ErrorInfo(error.code, error.message),
        metadata=dict(metadata or {}),
    )
