"""`evalx worker`, `gateway`, `topics`, `schema`, `doctor`: operation."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Annotated, TypeAlias

import msgspec
import structlog
import typer

from evalx import asyncapi, schemas
from evalx.cli import show
from evalx.cli.progress import Progress
from evalx.cli.running import (
    EXIT_FAULT,
    EXIT_NOT_ACCEPTED,
    be_quiet,
    complain,
    load_settings,
    log_to_stderr,
    run,
)
from evalx.errors import EvalxError, UsageError
from evalx.settings import Settings, unknown_variables

_Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON.")]

#: A worker that cannot go on; its supervisor starts another one.
EXIT_WORKER_FAILED = 1


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog="Example: EVALX_KAFKA_BOOTSTRAP=kafka:9092 evalx worker")(worker)
    app.command(epilog="Example: EVALX_GATEWAY_PORT=8080 evalx gateway")(gateway)
    topics = typer.Typer(help="The topics in Kafka.", no_args_is_help=True, rich_markup_mode=None)
    topics.command("create", epilog="Example: evalx topics create --json")(topics_create)
    app.add_typer(topics, name="topics")
    app.command(epilog="Example: evalx doctor --json")(doctor)
    app.command(epilog="Example: evalx schema --write schemas")(schema)


def worker() -> None:
    """Judge submissions from Kafka until SIGTERM or Ctrl-C.

    Exit codes: 0 stopped as it was told, 1 it cannot start or go on (the last line of the log says why).
    """
    settings = _begin_service()
    try:
        # Faust takes half a second to import, which the other commands need not wait for.
        from evalx.agents.heap import give_back_what_is_free
        from evalx.agents.worker import Worker

        # Before there are threads, whose heaps would be made without it.
        give_back_what_is_free()
        run(_work(settings, Worker))
    except EvalxError as error:
        complain(str(error))
        raise typer.Exit(EXIT_WORKER_FAILED) from None


def gateway() -> None:
    """Serve HTTP: take submissions, produce them to Kafka, and answer with their results, until SIGTERM or Ctrl-C.

    Exit codes: 0 stopped as it was told, 1 it cannot start or go on (the last line of the log says why).
    """
    settings = _begin_service()
    try:
        from evalx.gateway.server import serve

        run(serve(settings))
    except EvalxError as error:
        complain(str(error))
        raise typer.Exit(EXIT_WORKER_FAILED) from None


def _begin_service() -> Settings:
    # Until the service's own handlers are there: it holds nothing yet, so to stop is to be done.
    signal.signal(signal.SIGTERM, lambda _number, _frame: os._exit(0))
    settings = load_settings()
    log_to_stderr(settings)
    for mistake in unknown_variables(os.environ):
        structlog.get_logger(__name__).warning("unknown_variable", problem=mistake)
    return settings


async def _work(settings: Settings, worker_class: type) -> None:
    # Made inside the loop: Faust binds itself to the loop that it finds.
    await worker_class(settings).run()


def topics_create(as_json: _Json = False) -> None:
    """Create the topics that are missing; what exists is left as it is.

    Exit codes: 0 all topics fit the lanes, 1 one does not, 3 Kafka cannot be reached.
    """
    from evalx.agents.topics import TopicAdmin, TopicState

    async def create() -> list[TopicState]:
        async with TopicAdmin(settings) as admin:
            return await admin.create()

    settings = load_settings()
    be_quiet()
    states = run(create())
    if as_json:
        typer.echo(msgspec.json.encode(states).decode())
    else:
        show.table(("topic", "partitions"), [(state.name, str(state.found)) for state in states])
    wrong = [state for state in states if state.found != state.wanted]
    for state in wrong:
        complain(f"{state.name} has {state.found} partitions, the lanes need {state.wanted}; set EVALX_LANES to fit")
    if wrong:
        raise typer.Exit(EXIT_NOT_ACCEPTED)


def doctor(as_json: _Json = False) -> None:
    """Check everything that evalx needs on this machine, and say what to do about what is not right.

    Exit codes: 0 submissions can be judged (there may be warnings), 3 they cannot.
    """
    from evalx.doctor import examine

    settings = load_settings()
    be_quiet()
    with Progress("looking"):
        checks = run(examine(settings, os.environ))
    if as_json:
        typer.echo(msgspec.json.encode(checks).decode())
    else:
        show.table(("check", "status", "detail"), [(one.name, one.status, one.detail) for one in checks])
        for one in checks:
            if one.advice:
                show.line(f"{one.name}: {one.advice}")
    if any(one.status == "fail" for one in checks):
        raise typer.Exit(EXIT_FAULT)


def schema(
    write: Annotated[
        Path | None, typer.Option("--write", help="Write the files into this directory.", metavar="DIR")
    ] = None,
    check: Annotated[
        Path | None, typer.Option("--check", help="Fail if the files there are not these.", metavar="DIR")
    ] = None,
) -> None:
    """Print, write or check the JSON Schemas of the messages, the AsyncAPI of the topics, the OpenAPI of the gateway.

    Exit codes: 0 fine, 1 `--check` found a difference, 2 wrong usage.
    """
    # The server's libraries, which the other commands need not wait for.
    from evalx.gateway import openapi

    if write is not None and check is not None:
        raise UsageError("--write and --check exclude each other")
    documents = schemas.generate() | {openapi.FILE: openapi.generate(), asyncapi.FILE: asyncapi.generate()}
    if write is not None:
        for path in schemas.write(write, documents):
            typer.echo(path)
    elif check is not None:
        if stale := schemas.check(check, documents):
            complain(f"not what the types say: {', '.join(stale)}; write anew with: evalx schema --write {check}")
            raise typer.Exit(EXIT_NOT_ACCEPTED)
    else:
        typer.echo(msgspec.json.format(msgspec.json.encode(documents), indent=2).decode())
