"""The shapes of HTTP: requests that become submissions, and results as the routes of the original evalX show them."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from evalx.errors import RejectedError, UsageError
from evalx.gateway.entries import Entry, State
from evalx.languages import Language, Registry
from evalx.messages import (
    CompileReport,
    Limits,
    Result,
    Rules,
    Submission,
    TestCase,
    TestResult,
    decode_result,
    decode_strictly,
    decode_submission,
    normalise,
)
from evalx.problems import parse_size

OriginalStatus: TypeAlias = Literal["Queued", "Processing", "Completed", "Failed"]

_STATUS: dict[State, OriginalStatus] = {"queued": "Queued", "processing": "Processing"}
#: What a shell reports for a program that a signal ended, above the signal's number.
_SIGNALLED = 128

_Timeout: TypeAlias = Annotated[float | None, Meta(description="CPU time, seconds; default 2.")]
_Memory: TypeAlias = Annotated[str | None, Meta(description="Such as `512m`; default `256m`.", examples=["512m"])]
_Version: TypeAlias = Annotated[
    str | None, Meta(description="One that is installed, or one of the original evalX; default the language's own.")
]


class ExecuteRequest(Struct, frozen=True, kw_only=True):
    """One program and what it reads. Fields that are not known are ignored, as the original evalX does."""

    language: Annotated[str, Meta(min_length=1, examples=["cpp", "python", "java21"])]
    version: _Version = None
    code: Annotated[str, Meta(description="The source text.")]
    stdin: str | None = None
    timeout: _Timeout = None
    memory_limit: _Memory = None


class BatchItem(Struct, frozen=True, kw_only=True):
    """One test of a batch. The first one is the template of all; the others may give only `stdin`."""

    language: str | None = None
    version: _Version = None
    code: Annotated[str | None, Meta(description="The source text; required in the first one.")] = None
    stdin: str | None = None
    timeout: _Timeout = None
    memory_limit: _Memory = None


class Row(Struct, frozen=True, kw_only=True):
    """How one test went. Times in seconds."""

    compile_time: Annotated[float | None, Meta(description="Null for a language that does not compile.")]
    stdout: Annotated[str | None, Meta(description="Null when empty.")]
    stderr: Annotated[str | None, Meta(description="Null when empty; the compiler's output when it failed.")]
    exit_code: Annotated[int | None, Meta(description="128 + its number for a signal; null when it was not run.")]
    run_time: float
    space_consumed: Annotated[str, Meta(examples=["3584 KB"])]
    verdict: Annotated[
        str | None, Meta(description="`OK`, `TLE`, `MLE`, `OLE`, `RTE` or `CE`; null when it was not run.")
    ]


class Answer(Struct, frozen=True, kw_only=True):
    """What is known of a submission. `language` and `version` say what it runs on, `error` why it failed."""

    token: str
    status: OriginalStatus
    results: tuple[Row, ...] | None
    language: str
    version: str
    error: str | UnsetType = UNSET


class ParallelRow(Row, frozen=True, kw_only=True):
    """A row of `/execute-parallel`; one that is not finished, or has failed, is empty and has a token to ask with."""

    token: str
    status: OriginalStatus
    language: str
    version: str
    error: str | UnsetType = UNSET


class Accepted(Struct, frozen=True):
    """A submission that has no result yet."""

    id: str
    status: State


class ErrorAnswer(Struct, frozen=True, kw_only=True):
    """What was wrong, and what to do. `code` and `field` are there when it is in the submission."""

    error: str
    code: str | UnsetType = UNSET
    field: str | UnsetType = UNSET


class InstalledLanguage(Struct, frozen=True, kw_only=True):
    """A version of a language. `default` is the one that runs when none is named; `source` is the file's name."""

    name: str
    version: str
    title: str
    default: bool
    compiled: bool
    source: Annotated[str, Meta(examples=["Main.java"])]


def installed(registry: Registry) -> tuple[InstalledLanguage, ...]:
    """All versions of all languages."""
    return tuple(
        InstalledLanguage(
            name=one.name,
            version=one.version,
            title=one.title,
            default=one.default,
            compiled=one.compile is not None,
            source=one.source,
        )
        for one in registry.languages
    )


def single_submission(body: bytes, token: str, registry: Registry, rules: Rules) -> Submission:
    """The submission of `/execute`; raises RejectedError."""
    return _submission(decode_strictly(body, ExecuteRequest), token, registry, rules)


def batch_submission(body: bytes, token: str, registry: Registry, rules: Rules) -> Submission:
    """The submission of `/execute-batch`; raises RejectedError with the index of what does not fit the first one."""
    items = decode_strictly(body, list[BatchItem])
    if not items:
        raise RejectedError("invalid_value", "an empty batch; give at least one test")
    first = items[0]
    if not first.language or first.code is None:
        missing = "code" if first.language else "language"
        raise RejectedError(
            "missing_field", "the first one is the template of the batch and needs it", f"[0].{missing}"
        )
    template = _language(registry, first.language, first.version, "[0].")
    for index, item in enumerate(items[1:], 1):
        _check_alike(item, first, template, registry, index)
    request = ExecuteRequest(
        language=first.language,
        version=first.version,
        code=first.code,
        timeout=first.timeout,
        memory_limit=first.memory_limit,
    )
    return _submission(request, token, registry, rules, [item.stdin or "" for item in items], "[0].")


def parallel_submissions(body: bytes, tokens: Sequence[str], registry: Registry, rules: Rules) -> list[Submission]:
    """The submissions of `/execute-parallel`; raises RejectedError with the index of what cannot be judged."""
    requests = decode_strictly(body, list[ExecuteRequest])
    if not requests:
        raise RejectedError("invalid_value", "an empty list; give at least one request")
    if len(requests) > len(tokens):
        raise RejectedError("too_many_tests", f"{len(requests)} requests, at most {len(tokens)} are allowed")
    return [
        _submission(request, token, registry, rules, path=f"[{index}].")
        for index, (request, token) in enumerate(zip(requests, tokens, strict=False))
    ]


def native_submission(body: bytes, new_id: str, rules: Rules) -> tuple[Submission, str | None]:
    """The submission of `/v1/submissions` and its `callback_url`; raises RejectedError."""
    try:
        fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # Not an object of JSON; this says what it is instead.
        return decode_submission(body, rules), None
    callback = fields.pop("callback_url", None)
    fields.setdefault("id", msgspec.Raw(msgspec.json.encode(new_id)))
    callback_url = None if callback is None else _callback(bytes(callback))
    return decode_submission(msgspec.json.encode(fields), rules), callback_url


def original_answer(entry: Entry, state: State) -> Answer:
    """An entry as the original's routes show it."""
    ticket, result = entry.ticket, entry.result
    circumstances: dict[str, Any] = {"token": ticket.id, "language": ticket.language, "version": ticket.version}
    if result is None:
        return Answer(status=_STATUS[state], results=None, **circumstances)
    decoded = decode_result(result)
    if decoded.error is not None:
        return Answer(status="Failed", results=None, error=decoded.error.message, **circumstances)
    return Answer(status="Completed", results=_rows(decoded, ticket.tests), **circumstances)


def parallel_row(answer: Answer) -> ParallelRow:
    """The answer to one of many requests as a row of its own."""
    row = answer.results[0] if answer.results else _NO_ROW
    return ParallelRow(
        **msgspec.structs.asdict(row),
        token=answer.token,
        status=answer.status,
        language=answer.language,
        version=answer.version,
        error=answer.error,
    )


_NO_ROW = Row(
    compile_time=None, stdout=None, stderr=None, exit_code=None, run_time=0.0, space_consumed="0 KB", verdict=None
)


def _submission(
    request: ExecuteRequest,
    token: str,
    registry: Registry,
    rules: Rules,
    inputs: Sequence[str] | None = None,
    path: str = "",
) -> Submission:
    language = _language(registry, request.language, request.version, path)
    submission = Submission(
        id=token,
        language=language.name,
        version=language.version,
        code=request.code,
        tests=tuple(TestCase(stdin=stdin) for stdin in (inputs if inputs is not None else [request.stdin or ""])),
        limits=_limits(request, path),
    )
    try:
        return normalise(submission, rules)
    except RejectedError as error:
        raise RejectedError(error.code, error.message, path + (error.field or "")) from None


def _limits(request: ExecuteRequest, path: str) -> Limits:
    given: dict[str, int] = {}
    if request.timeout is not None:
        if not 0 < request.timeout < 1e6:
            raise RejectedError("invalid_value", "a number of seconds above 0 is expected", path + "timeout")
        given["cpu_time_ms"] = max(1, round(request.timeout * 1000))
    if request.memory_limit is not None:
        try:
            given["memory_bytes"] = max(1, parse_size(request.memory_limit))
        except UsageError as error:
            raise RejectedError("invalid_value", error.message, path + "memory_limit") from None
    return Limits(**given)


def _language(registry: Registry, name: str, version: str | None, path: str) -> Language:
    try:
        return registry.resolve_original(name, version)
    except RejectedError as error:
        raise RejectedError(error.code, error.message, path + (error.field or "")) from None


def _check_alike(item: BatchItem, first: BatchItem, template: Language, registry: Registry, index: int) -> None:
    """What a later one repeats of the first one must be the same; `java21` and `java` with version `21` are."""
    if item.language is not None or item.version is not None:
        name, version = item.language or first.language or "", item.version or first.version
        if _language(registry, name, version, f"[{index}].") is not template:
            field = "language" if item.language not in (None, first.language) else "version"
            _differs(index, field)
    if item.code is not None and item.code != first.code:
        _differs(index, "code")


def _differs(index: int, field: str) -> None:
    text = f"differs from the first one's; all of a batch have the same {field}, see /execute-parallel for others"
    raise RejectedError("invalid_value", text, f"[{index}].{field}")


def _callback(raw: bytes) -> str:
    try:
        return msgspec.json.decode(raw, type=str)
    except msgspec.DecodeError:
        raise RejectedError("wrong_type", "expected a text", "callback_url") from None


def _rows(result: Result, tests: int) -> tuple[Row, ...]:
    if result.status == "compile_error":
        assert result.compile is not None
        return (_compile_error(result.compile),) * tests
    compile_time = None if result.compile is None else _seconds(result.compile.wall_time_ms)
    return tuple(_row(test, compile_time) for test in result.tests)


def _compile_error(report: CompileReport) -> Row:
    return Row(
        compile_time=_seconds(report.wall_time_ms),
        stdout=None,
        stderr=report.output or None,
        exit_code=1 if report.exit_code is None else report.exit_code,
        run_time=0.0,
        space_consumed="0 KB",
        verdict="CE",
    )


def _row(test: TestResult, compile_time: float | None) -> Row:
    exit_code = test.exit_code
    if exit_code is None and test.signal is not None:
        exit_code = _SIGNALLED + test.signal
    return Row(
        compile_time=compile_time,
        stdout=_text(test.stdout, test.encoding) or None,
        stderr=_text(test.stderr, test.encoding) or None,
        exit_code=exit_code,
        run_time=_seconds(test.wall_time_ms),
        space_consumed=f"{test.peak_memory_bytes // 1024} KB",
        verdict=test.verdict.value,
    )


def _text(stream: str, encoding: str) -> str:
    """The original shows text only; the bytes are in the Result of `/v1/submissions`."""
    return base64.b64decode(stream).decode("utf-8", "replace") if encoding == "base64" else stream


def _seconds(milliseconds: float) -> float:
    return round(milliseconds / 1000, 6)
