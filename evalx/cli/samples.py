"""`evalx samples`: judges the sample problems in every installed language, to show that the whole stack works."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from evalx.cli import show
from evalx.cli.progress import Progress
from evalx.cli.running import EXIT_NOT_ACCEPTED, be_quiet, complain, load_settings, run
from evalx.client import Client
from evalx.errors import UsageError
from evalx.languages import Registry
from evalx.messages import Result, Submission
from evalx.problems import load_tests, make_submission
from evalx.settings import Settings
from evalx.verdicts import Verdict

#: Seconds for each sample: all are produced at once, and a cold stack compiles them one after another.
TIMEOUT_S = 180.0

_COLUMNS = ("language", "version", "verdict", "compile ms", "slowest test ms", "memory MiB", "total ms")


def register(app: typer.Typer) -> None:
    """Add the command; hidden, since it is for `start-dev.sh`."""
    app.command(hidden=True, epilog="Example: evalx samples examples")(samples)


def samples(
    directory: Annotated[Path, typer.Argument(help="Directory of problems, each with tests/ and sources.")],
    lane: Annotated[str, typer.Option("--priority", help="The lane.")] = "normal",
    timeout: Annotated[float, typer.Option("--timeout", help="Seconds to wait for each.", min=0.1)] = TIMEOUT_S,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Judge the sample problems through Kafka, in every installed language and version.

    Exit codes: 0 every sample is AC, 1 one is not, 2 wrong usage, 3 Kafka cannot be reached or no result in time.
    """
    settings = load_settings()
    be_quiet()
    submissions = find(directory, settings)
    with Progress("connecting to Kafka", total=len(submissions)) as progress:
        results = run(_judge(settings, submissions, lane, timeout, progress))
    if as_json:
        typer.echo(msgspec.json.encode(results).decode())
    else:
        show.table(_COLUMNS, [_row(result) for result in results], verdict_column=2)
    failed = [result for result in results if result.verdict is not Verdict.AC]
    for result in failed:
        reason = f": {result.error.message}" if result.error is not None else ""
        complain(f"{result.language} {result.version} should be AC, it is {result.verdict or result.status}{reason}")
    if failed:
        raise typer.Exit(EXIT_NOT_ACCEPTED)


def find(directory: Path, settings: Settings) -> list[Submission]:
    """A submission for each problem, language and version; the cache is left out, so that everything is really run."""
    if not directory.is_dir():
        raise UsageError(f"{directory} is not a directory of problems")
    registry = Registry.load()
    rules = registry.rules(settings)
    found = []
    for problem in sorted(path for path in directory.iterdir() if (path / "tests").is_dir()):
        tests = load_tests(problem / "tests")
        for source in sorted(path for path in problem.iterdir() if path.is_file()):
            name = registry.of_file(source.name)
            for version in registry.versions(name) if name is not None else ():
                sample_id = f"sample-{problem.name}-{name}-{version}-{secrets.token_hex(4)}"
                fields: dict[str, Any] = {"language": name, "version": version, "cache": "bypass"}
                found.append(make_submission(source, tests, registry, rules, id=sample_id, **fields))
    if not found:
        raise UsageError(f"{directory} has no problems; one is a directory with tests/ and sources")
    return found


async def _judge(
    settings: Settings, submissions: list[Submission], lane: str, timeout: float, progress: Progress
) -> list[Result]:
    results: dict[str, Result] = {}
    async with Client(settings) as client:
        progress.say("judging the samples")
        async for result in client.judge_all(submissions, lane=lane, timeout=timeout):
            results[result.id] = result
            progress.step()
    return [results[submission.id] for submission in submissions]


def _row(result: Result) -> tuple[str, ...]:
    compiled = show.milliseconds(result.compile.wall_time_ms) if result.compile is not None else "-"
    slowest = max((test.wall_time_ms for test in result.tests), default=0.0)
    memory = max((test.peak_memory_bytes for test in result.tests), default=0)
    return (
        result.language or "?",
        result.version or "?",
        result.verdict or result.status,
        compiled,
        show.milliseconds(slowest),
        show.mebibytes(memory),
        show.milliseconds(result.queued_ms + result.judged_ms),
    )
