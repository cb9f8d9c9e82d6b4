"""`evalx judge` and `evalx submit`: the same submission, judged here or through Kafka."""

from __future__ import annotations

import secrets
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeAlias

import typer

from evalx.cache.listening import Listener
from evalx.cache.progress import Progress as Told
from evalx.cli import show
from evalx.cli.local import judge_locally
from evalx.cli.progress import Progress
from evalx.cli.running import EXIT_FAULT, EXIT_NOT_ACCEPTED, EXIT_OK, EXIT_USAGE, be_quiet, complain, load_settings, run
from evalx.client import Client
from evalx.client.prepared import RECORD_OVERHEAD_BYTES
from evalx.errors import ResultTimeoutError, ServiceUnavailableError, UsageError
from evalx.languages import Registry
from evalx.messages import Result, Submission, encode_result, encode_submission
from evalx.problems import load_package, load_tests, make_submission, parse_size, too_large
from evalx.settings import Settings
from evalx.verdicts import PASSED, Verdict

#: Seconds that `submit` waits: a long queue and the longest batch, but a missing worker is noticed in the end.
SUBMIT_TIMEOUT_S = 300.0

_Source: TypeAlias = Annotated[
    Path, typer.Argument(help="The program's source file.", exists=True, dir_okay=False, show_default=False)
]
_Tests: TypeAlias = Annotated[
    Path | None, typer.Option("--tests", help="Directory of tests: NAME.in, with NAME.ans to compare.", metavar="DIR")
]
_Problem: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--problem", help="Instead: a Kattis/ICPC problem package, with its limits and comparison.", metavar="DIR"
    ),
]
_Only: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--only", help="Of a package: tests with such ids, as 'secret/0*'; repeatable.", metavar="PATTERN"),
]
_Language: TypeAlias = Annotated[
    str | None, typer.Option("--language", help="Such as cpp; unset = from the file's extension.", metavar="NAME")
]
_Version: TypeAlias = Annotated[
    str | None, typer.Option("--version", help="Such as 20; unset = the language's default.", metavar="VERSION")
]
_Checker: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--checker", help="How outputs are compared: exact, lines, tokens, floats; unset = lines, or the package's own."
    ),
]
_IgnoreCase: TypeAlias = Annotated[bool, typer.Option("--ignore-case", help="Of tokens and floats.")]
_AbsTol: TypeAlias = Annotated[float | None, typer.Option("--abs-tol", help="Of floats: absolute.", min=0)]
_RelTol: TypeAlias = Annotated[float | None, typer.Option("--rel-tol", help="Of floats: relative.", min=0)]
_CpuTime: TypeAlias = Annotated[int | None, typer.Option("--cpu-time-ms", help="CPU time of a test.", min=1)]
_WallTime: TypeAlias = Annotated[int | None, typer.Option("--wall-time-ms", help="Elapsed time of a test.", min=1)]
_Memory: TypeAlias = Annotated[
    str | None, typer.Option("--memory", help="Memory of a test, in bytes or such as 256m.", metavar="SIZE")
]
_Output: TypeAlias = Annotated[
    str | None, typer.Option("--output", help="stdout and stderr of a test, each; such as 64k.", metavar="SIZE")
]
_Processes: TypeAlias = Annotated[int | None, typer.Option("--processes", help="Processes of a test.", min=1)]
_Stop: TypeAlias = Annotated[bool, typer.Option("--stop-on-failure", help="Skip the tests after a failing one.")]
_Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print the result as JSON, as it is on the topic.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog="Example: evalx judge examples/aplusb/main.cpp --tests examples/aplusb/tests")(judge)
    app.command(epilog="Example: evalx submit examples/aplusb/main.py --tests examples/aplusb/tests --priority high")(
        submit
    )


def judge(
    source: _Source,
    tests: _Tests = None,
    problem: _Problem = None,
    only: _Only = None,
    language: _Language = None,
    version: _Version = None,
    checker: _Checker = None,
    abs_tol: _AbsTol = None,
    rel_tol: _RelTol = None,
    ignore_case: _IgnoreCase = False,
    cpu_time_ms: _CpuTime = None,
    wall_time_ms: _WallTime = None,
    memory: _Memory = None,
    output: _Output = None,
    processes: _Processes = None,
    stop_on_failure: _Stop = False,
    as_json: _Json = False,
) -> None:
    """Judge a program on this machine, without Kafka or Redis.

    Exit codes: 0 every test AC or OK, 1 some other verdict, 2 wrong usage, 3 the judge or Docker failed.
    """
    settings = load_settings()
    be_quiet()
    submission = _submission(
        settings,
        source,
        _Exercise(tests, problem, tuple(only or ())),
        id=f"judge-{secrets.token_hex(4)}",
        language=language,
        version=version,
        checker=_checker(checker, abs_tol, rel_tol, ignore_case),
        limits=_limits(cpu_time_ms, wall_time_ms, memory, output, processes),
        stop_on_failure=stop_on_failure,
    )
    with Progress("starting a sandbox", tests=_ids(submission), compact=as_json) as progress:
        result = run(judge_locally(settings, submission, progress))
    _finish(result, submission, as_json)


def submit(
    source: _Source,
    tests: _Tests = None,
    problem: _Problem = None,
    only: _Only = None,
    priority: Annotated[str, typer.Option("--priority", help="The lane: high, normal or low.")] = "normal",
    submission_id: Annotated[
        str | None, typer.Option("--id", help="The idempotency key; unset = a new one.", metavar="ID")
    ] = None,
    timeout: Annotated[float, typer.Option("--timeout", help="Seconds to wait.", min=0.1)] = SUBMIT_TIMEOUT_S,
    language: _Language = None,
    version: _Version = None,
    checker: _Checker = None,
    abs_tol: _AbsTol = None,
    rel_tol: _RelTol = None,
    ignore_case: _IgnoreCase = False,
    cpu_time_ms: _CpuTime = None,
    wall_time_ms: _WallTime = None,
    memory: _Memory = None,
    output: _Output = None,
    processes: _Processes = None,
    stop_on_failure: _Stop = False,
    as_json: _Json = False,
) -> None:
    """Judge a program through Kafka: produce a submission, wait for its result.

    Exit codes: 0 every test AC or OK, 1 some other verdict, 2 wrong usage, 3 a judge error, Kafka cannot be reached,
    or no result in time.
    """
    settings = load_settings()
    be_quiet()
    _check_lane(settings, priority)
    submission = _submission(
        settings,
        source,
        _Exercise(tests, problem, tuple(only or ())),
        id=submission_id or f"submit-{secrets.token_hex(8)}",
        language=language,
        version=version,
        checker=_checker(checker, abs_tol, rel_tol, ignore_case),
        limits=_limits(cpu_time_ms, wall_time_ms, memory, output, processes),
        stop_on_failure=stop_on_failure,
    )
    with Progress("connecting to Kafka", tests=() if as_json else _ids(submission)) as progress:
        result = run(_through_kafka(settings, submission, priority, timeout, progress))
    _finish(result, submission, as_json)


async def _through_kafka(
    settings: Settings, submission: Submission, lane: str, timeout: float, progress: Progress
) -> Result:
    async with AsyncExitStack() as stack:
        listener = _listener(settings, submission, progress)
        # Connects while the client does.
        if progress.is_live:
            await stack.enter_async_context(listener)
        client = await stack.enter_async_context(Client(settings))
        is_heard = progress.is_live and await listener.ready()
        sent = await client.submit(submission, lane=lane, progress=is_heard)
        progress.say(f"waiting for {submission.id} in lane {lane}, partition {sent.partition}")
        try:
            return await sent.outcome(timeout)
        except ResultTimeoutError as error:
            raise ServiceUnavailableError(
                "a worker", settings.kafka_bootstrap, f"{error}; is one running? Start one with `evalx worker`"
            ) from error


def _listener(settings: Settings, submission: Submission, progress: Progress) -> Listener:
    def on_progress(told: Told) -> None:
        if told.started:
            progress.say(f"judging {submission.id}")
        for test in told.tests:
            progress.ended(test.id, test.verdict, test.cpu_time_ms)

    return Listener(settings.redis_location, settings.topic_prefix, submission.id, on_progress)


def _ids(submission: Submission) -> list[str]:
    return [test.id for test in submission.tests]


class _Exercise(NamedTuple):
    """Where the tests are: either of two, and which of a package's."""

    tests: Path | None
    problem: Path | None
    only: tuple[str, ...]


def _submission(
    settings: Settings,
    source: Path,
    exercise: _Exercise,
    *,
    limits: dict[str, int | None],
    checker: dict[str, Any] | None,
    **fields: Any,
) -> Submission:
    registry = Registry.load()
    rules = registry.rules(settings)
    if (exercise.tests is None) == (exercise.problem is None):
        raise UsageError("give the tests, either with --tests DIR or as a problem package with --problem DIR")
    if exercise.tests is not None:
        if exercise.only:
            raise UsageError("--only is for --problem")
        tests = load_tests(exercise.tests)
        return make_submission(source, tests, registry, rules, limits=limits, checker=checker, **fields)
    assert exercise.problem is not None
    package = load_package(exercise.problem, settings, only=exercise.only, checker=checker)
    for note in package.notes:
        complain(note)
    limits = {**package.limits, **{name: value for name, value in limits.items() if value is not None}}
    # Outputs of tests that pass are not shown, and a package's may be large.
    fields |= {"limits": limits, "checker": package.checker, "return_output": "on_failure"}
    submission = make_submission(source, package.tests, registry, rules, **fields)
    if (size := len(encode_submission(submission)) + RECORD_OVERHEAD_BYTES) > settings.max_message_bytes:
        raise too_large(size, settings)
    return submission


def _checker(
    kind: str | None, abs_tol: float | None, rel_tol: float | None, ignore_case: bool
) -> dict[str, Any] | None:
    given = {"abs_tol": abs_tol, "rel_tol": rel_tol, "ignore_case": ignore_case or None}
    options = {name: value for name, value in given.items() if value is not None}
    if kind is None and not options:
        return None
    return {"kind": kind or "lines", **options}


def _limits(
    cpu_time_ms: int | None, wall_time_ms: int | None, memory: str | None, output: str | None, processes: int | None
) -> dict[str, int | None]:
    return {
        "cpu_time_ms": cpu_time_ms,
        "wall_time_ms": wall_time_ms,
        "memory_bytes": parse_size(memory) if memory else None,
        "output_bytes": parse_size(output) if output else None,
        "processes": processes,
    }


def _check_lane(settings: Settings, lane: str) -> None:
    if lane not in settings.rank_of:
        raise UsageError(f"no priority {lane!r}; there are: {', '.join(settings.rank_of)}")


def _finish(result: Result, submission: Submission, as_json: bool) -> None:
    if as_json:
        typer.echo(encode_result(result).decode())
    else:
        show.result(result, submission)
    raise typer.Exit(exit_code(result))


def exit_code(result: Result) -> int:
    """What the contract says for this result; a rejected submission is wrong usage."""
    if result.status == "rejected":
        return EXIT_USAGE
    if result.verdict is None or result.verdict is Verdict.JE:
        return EXIT_FAULT
    return EXIT_OK if result.verdict in PASSED else EXIT_NOT_ACCEPTED
